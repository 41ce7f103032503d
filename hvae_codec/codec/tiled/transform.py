"""The tiled transform: images cut to tiles of the model's size, and put together again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.bitstream.container import tiles_of
from hvae_codec.codec.bitstream.header import SizedHeader
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.bitstream.tiled_files import TiledFileCoder
from hvae_codec.codec.checkpoint import Checkpoint, rate_weight
from hvae_codec.codec.features import Features, averaged
from hvae_codec.codec.quality_scale import OperatingPoint
from hvae_codec.codec.tiled.encoder_search import EncoderSearch, per_tile
from hvae_codec.codec.tiled.networks import Networks, Refine
from hvae_codec.codec.tiled.streaming import picture_rows, symbols_of
from hvae_codec.codec.tiled.tiling import coding_rmse_of, merge, split_all, tile_grid
from hvae_codec.codec.transform import Pixels, Prepared, Trades, as_grey
from hvae_codec.errors import HvaeCodecError, ImageError
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.inference import loading
from hvae_codec.utils.arguments import equals, finite


class TiledTransform:
    """`Transform` of a model of one size; the last tiles of an image repeat its edge."""

    def __init__(self, checkpoint: Checkpoint, coder: TiledFileCoder, psnr_db: float) -> None:
        self._checkpoint = checkpoint
        self._coder = coder
        self._tile = coder.tile
        self._coding_rmse = coding_rmse_of(psnr_db)
        self.networks = Networks(*checkpoint.of_one_size)

    @property
    def model(self) -> HierarchicalVAE:
        """As `Transform.model`."""
        return self.networks.model

    def check_point(self, effort: int, trade: Trades) -> None:
        """As `Transform.check_point`."""
        self._refine(OperatingPoint(effort=effort), trade, [])

    def encode(
        self, images: Sequence[Prepared], point: OperatingPoint, trades: Trades | None = None
    ) -> list[SymbolBatch]:
        """As `Transform.encode`; all images make one batch, one large image goes in strips."""
        tiles = [self._tiles_of(image) for image, _ in images]
        refine = self._refine(point, trades, tiles)
        if not images:
            return []
        headers = [self._header(image, grey) for image, grey in images]
        symbols: Sequence[NDArray[np.integer]]
        if len(images) == 1 and tiles[0] > 1:
            image, tables = images[0][0], self._coder.tables
            symbols = symbols_of(self.networks, tables, image, self._tile, refine)
        else:
            symbols = self.networks.symbols(self._split(images), refine)
        return [SymbolBatch(range(len(images)), headers, symbols)]

    def encode_block(self, images: Sequence[Prepared], point: OperatingPoint) -> SymbolBatch:
        """As `Transform.encode_block`."""
        tiles = self._split(images)
        headers = [self._header(*images[0])] * len(images)
        symbols = self.networks.symbols(tiles, self._refine(point, None, [len(tiles)]))
        return SymbolBatch(range(len(images)), headers, symbols, block=True)

    def decode(self, batches: Sequence[SymbolBatch]) -> list[Pixels]:
        """As `Transform.decode`; all tiles go through the networks together."""
        tiles = self.networks.tiles(_joined(batches))
        headers = [header for batch in batches for header in batch.headers]
        if all((h.height, h.width) == self._tile and not h.grey for h in headers):
            return list(tiles)
        images, end = [], 0
        for header in headers:
            start, end = end, end + tiles_of(header, self._tile)
            image = merge(tiles[start:end], header.height, header.width, self._coding_rmse)
            images.append(as_grey(image) if header.grey else image)
        return images

    def decode_rows(self, file: bytes, layers: int | None) -> tuple[int, Iterator[Pixels]]:
        """As `Transform.decode_rows`: strips of one tile's height."""
        header, runs = self._coder.read_runs(file, layers)
        rows = picture_rows(
            self.networks, runs, header.height, header.width, self._tile, self._coding_rmse
        )
        return header.height, map(as_grey, rows) if header.grey else rows

    def features(self, batches: Sequence[SymbolBatch]) -> list[Features]:
        """As `Transform.features`: the average over an image's tiles."""
        tiles = [tiles_of(header, self._tile) for batch in batches for header in batch.headers]
        return averaged(self.networks.latents(_joined(batches)), tiles)

    def posterior_features(
        self, images: Sequence[Pixels], layers: int, point: OperatingPoint
    ) -> list[Features]:
        """As `Transform.posterior_features`, each layer given the modes of those above it."""
        moments = self.networks.posteriors(split_all(images, self._tile), layers)
        return averaged(moments, [self._tiles_of(image) for image in images])

    def sample(
        self,
        count: int,
        point: OperatingPoint,
        *,
        seed: int,
        temperature: float,
        top: NDArray[np.floating] | None,
    ) -> Pixels:
        """As `Transform.sample`; top: [count, D] or [D]."""
        if top is None:
            return self.networks.sample(count, seed=seed, temperature=temperature)
        dims = self.model.spec.dims[0]
        given = finite("top", top)
        if given.shape not in {(dims,), (count, dims)}:
            raise HvaeCodecError(
                f"top: need latents of shape [{dims}] or [{count}, {dims}], got {list(given.shape)}"
            )
        given = np.array(np.broadcast_to(given, (count, dims)))  # torch takes no read-only views
        return self.networks.sample(count, seed=seed, temperature=temperature, top=given)

    def information_bits(
        self, images: Sequence[Pixels], point: OperatingPoint
    ) -> NDArray[np.float64]:
        """As `Transform.information_bits`, of images of the model's size."""
        if any(image.shape[:2] != self._tile for image in images):
            raise ImageError(f"images must be of the model's size, {self._tile[1]}x{self._tile[0]}")
        return self._coder.tables.information_bits(self.networks.symbols(np.stack(images)))

    @cached_property
    @loading
    def search(self) -> EncoderSearch:
        """The encoder's search; raises CheckpointError where the card lacks what it needs."""
        return EncoderSearch(*self._checkpoint.of_one_size, rate_weight(self._checkpoint.card))

    def _refine(
        self, point: OperatingPoint, trades: Trades | None, tiles: Sequence[int]
    ) -> Refine | None:
        """What is done to the rounded symbols of images of so many tiles each."""
        if equals(point.effort, 0) and trades is None:
            return None
        each = per_tile(point.effort, point.trade if trades is None else trades, tiles)
        return None if point.effort == 0 else partial(self.search.improve_part, point.effort, each)

    def _header(self, image: Pixels, grey: bool) -> SizedHeader:
        height, width, _ = image.shape
        return SizedHeader(self._coder.model_id, width, height, grey=grey)

    def _tiles_of(self, image: Pixels) -> int:
        return math.prod(tile_grid(image.shape[0], image.shape[1], self._tile))

    def _split(self, images: Sequence[Prepared]) -> Pixels:
        return split_all([image for image, _ in images], self._tile)


def _joined(batches: Sequence[SymbolBatch]) -> Sequence[NDArray[np.integer]]:
    """The symbols [T, D_l] of all batches."""
    if len(batches) == 1:
        return batches[0].symbols
    return [np.concatenate(layer) for layer in zip(*(b.symbols for b in batches), strict=True)]
