"""The codec of a model of maps: pictures of any size whole, at any of 256 qualities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.arguments import whole
from hvae_codec.codec.checkpoint import Checkpoint, model_info
from hvae_codec.codec.codec import Block, Codec, Pictures, Pixels, as_grey, sample_arguments
from hvae_codec.codec.contexts import Levels
from hvae_codec.codec.encoded import Encoded, as_file, as_files
from hvae_codec.codec.entropy import MapEntropy, Part, in_order
from hvae_codec.codec.format import Header
from hvae_codec.codec.images import as_batch
from hvae_codec.codec.latents import Features, joined, none_of
from hvae_codec.codec.map_container import (
    MAX_FILE_PIXELS,
    check_pixels,
    pack_maps,
    unpack_maps,
)
from hvae_codec.codec.map_networks import MapNetworks
from hvae_codec.codec.map_tables import MapTables
from hvae_codec.codec.quality_scale import (
    HIGHEST,
    LOWEST,
    MAX_NUMBER,
    quality_number,
    stated_quality,
)
from hvae_codec.codec.tables import Int32Array
from hvae_codec.codec.tiling import assembled
from hvae_codec.errors import CheckpointError, HvaeCodecError, ImageError, UnknownQualityError
from hvae_codec.models.maps import MapVAE

_CHUNK_PIXELS = 1 << 20  # of small pictures, go through the networks together


class MapCodec(Codec):
    """A trained model of maps as a codec: the methods of `Codec`, with these differences.

    Pictures are never cut into tiles. `at_quality` gives the codec of another quality; the networks
    are shared, and any of them decodes the files of all. There is no effort but 0. Features of a
    layer are its latents as they are coded, averaged over their map: one for each channel.
    """

    settings: tuple[str, ...] = ("_number",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.model, MapVAE)
        assert isinstance(checkpoint.tables, MapTables)
        self._checkpoint = checkpoint
        self.info = model_info(checkpoint.card)
        self._id = checkpoint.model_id
        self._channels, height, width = checkpoint.model.spec.image_shape
        self._tile = (height, width)
        self._coarsest = checkpoint.model.spec.coarsest
        self._maps = MapEntropy(checkpoint.tables, self._id, self._tile, self._coarsest)
        self._map_networks = MapNetworks(checkpoint.model, self._maps)
        try:
            self._number = quality_number(float(checkpoint.card["quality"]))
        except UnknownQualityError as error:
            raise CheckpointError(f"a checkpoint's card has a wrong quality: {error}") from error

    @property
    def entropy(self) -> MapEntropy:
        return self._maps

    @property
    def model(self) -> MapVAE:  # type: ignore[override]
        """The model itself, in evaluation mode."""
        return self._map_networks.model

    @property
    def quality(self) -> float:
        """What is encoded with, between LOWEST and HIGHEST."""
        return stated_quality(self._number)

    @property
    def number(self) -> int:
        """That quality's number in files, 0..255."""
        return self._number

    def at_quality(self, quality: float) -> MapCodec:
        """This codec with another quality; the networks are shared.

        Raises:
            UnknownQualityError: it does not lie between LOWEST and HIGHEST.
        """
        return self.at_number(quality_number(quality))

    def at_number(self, number: int) -> MapCodec:
        """`at_quality`, by the quality's number in files, 0..255.

        Raises:
            UnknownQualityError: there is no such number.
        """
        number = whole("a quality's number", number)
        if not 0 <= number <= MAX_NUMBER:
            raise UnknownQualityError(f"a quality's number lies in 0..{MAX_NUMBER}, not {number}")
        if number == self._number:
            return self
        other = copy(self)
        other._number = number
        return other

    def tuned(self, effort: int, trade: float = 1.0) -> MapCodec:
        """This codec: it has no effort but 0 and no trade.

        Raises:
            ValueError: another was asked for.
        """
        self._refine(effort, trade, [])
        return self

    @property
    def most_block_tiles(self) -> int:
        """Tiles of a block, of the size the model trained on, below which one more picture of its
        size still fits into it.
        """
        return MAX_FILE_PIXELS // (2 * self._tile[0] * self._tile[1])

    def block(
        self, images: Pictures, *, effort: int | None = None, trade: float | None = None
    ) -> Block:
        self._refine(effort, trade, [])
        pictures = as_batch(images)
        shapes = sorted({picture.shape for picture in pictures})
        if len(shapes) != 1:
            found = ", ".join(map(str, shapes)) or "no picture"
            raise ImageError(f"a block holds one or more pictures of one shape; got {found}")
        height, width, _ = shapes[0]
        check_pixels(len(pictures), height, width, self._coarsest)
        prepared, grey = zip(*(self._model_picture(picture) for picture in pictures), strict=True)
        header = Header(
            self._id, width, height, len(pictures), grey[0], block=True, quality=self._number
        )
        return Block(header, [_as_rows(layer) for layer in self._symbols(prepared)])

    def write_block(self, block: Block) -> bytes:
        return pack_maps(
            self._maps.coder,
            block.header,
            self._block_maps(block),
            own_size=self._tile,
            coarsest=self._coarsest,
        )[0]

    def pictures_of(self, parts: Sequence[Part]) -> list[Pixels]:
        return in_order(
            (part.numbers, self._pictures_of(part.headers[0], part.symbols)) for part in parts
        )

    def features_of(self, parts: Sequence[Part]) -> list[Features]:
        found = [self._features_of(part.headers[0], part.symbols) for part in parts]
        return joined(found, np.argsort(np.concatenate([part.numbers for part in parts])))

    def read_block(self, blob: Encoded, layers: int | None = None) -> Block:
        wanted, blob = self._layers(layers), as_file(blob)
        opened = self._maps.open(blob, wanted)
        shapes = self._maps.shapes
        symbols = unpack_maps(self._maps.coder, [(blob, opened)], shapes, wanted, numbers=[0], of=1)
        return Block(opened.header, [_as_rows(layer) for layer in symbols])

    def block_pictures(self, blocks: Sequence[Block]) -> list[Pixels]:
        return [
            picture
            for block in blocks
            for picture in self._pictures_of(block.header, self._block_maps(block))
        ]

    def block_features(self, blocks: Sequence[Block]) -> list[Features]:
        found = [self._features_of(block.header, self._block_maps(block)) for block in blocks]
        return joined(found, np.arange(sum(block.header.count for block in blocks)))

    def symbols(self, blobs: Iterable[Encoded]) -> list[Int32Array]:
        """The integer symbols of files of one size, int32 [N, C * h * w] a layer, top first.

        No network takes part: these are equal on every machine.

        Raises:
            BitstreamError: as `decode_batch`. ValueError: sizes or qualities differ.
        """
        found = self._maps.read(as_files(blobs))
        if len({replace(part.headers[0], grey=False) for part in found}) > 1:
            raise ValueError("symbols of files of several sizes or qualities are no one array")
        if not found:
            return [np.zeros((0, dims), np.int32) for dims in self.model.spec.dims]
        order = np.argsort(np.concatenate([part.numbers for part in found]))
        layers = zip(*(part.symbols for part in found), strict=True)
        return [_as_rows(np.concatenate(layer, axis=1)[:, order]) for layer in layers]

    def layer_features(self, images: Pictures, layers: int | None = None) -> list[Features]:
        wanted = self._layers(layers)
        pictures = [self._model_picture(picture)[0] for picture in as_batch(images)]
        if not pictures:
            return none_of(self.info.z_dims[:wanted])
        groups, parts = _by_size(pictures), []
        for numbers in groups:
            some = [pictures[number] for number in numbers]
            height, width, _ = some[0].shape
            header = Header(self._id, width, height, len(some), quality=self._number)
            parts.append(self._features_of(header, self._symbols(some)[:wanted]))
        return joined(parts, np.argsort(np.concatenate(groups)))

    def sample(
        self,
        count: int,
        seed: int = 0,
        temperature: float = 1.0,
        *,
        top: NDArray[np.floating] | None = None,
    ) -> Pixels:
        count, seed, temperature = sample_arguments(count, seed, temperature)
        if top is not None:
            raise HvaeCodecError(
                f"model {self.info.name!r} has maps as its top layer, which features do not hold: "
                "it samples without given latents alone"
            )
        return self._map_networks.sample(count, self._number, seed=seed, temperature=temperature)

    def information_bits(self, images: Pictures) -> NDArray[np.float64]:
        """Information content under the tables, in bits per layer (top first), float64 [N, L].

        Raises:
            ImageError: as `encode_batch`.
        """
        pictures = [self._model_picture(picture)[0] for picture in as_batch(images)]
        bits = np.zeros((len(pictures), len(self.info.z_dims)))
        for numbers in _by_size(pictures):
            symbols = self._symbols([pictures[number] for number in numbers])
            bits[numbers] = self._maps.coder.information_bits(symbols, self._number)
        return bits

    def _parts(
        self,
        pictures: list[tuple[Pixels, bool]],
        effort: int | None,
        trade: float | Sequence[float] | None,
    ) -> list[Part]:
        self._refine(effort, trade, [])
        parts = []
        for numbers in _by_size([picture for picture, _ in pictures]):
            some = [pictures[number][0] for number in numbers]
            symbols, levels = self._symbols_and_levels(some)
            height, width, _ = some[0].shape
            for grey in (False, True):
                chosen = [i for i, number in enumerate(numbers) if pictures[number][1] == grey]
                if not chosen:
                    continue
                header = Header(self._id, width, height, grey=grey, quality=self._number)
                parts.append(
                    Part(
                        [numbers[i] for i in chosen],
                        [header] * len(chosen),
                        [layer[:, chosen] for layer in symbols],
                        [layer[:, chosen] for layer in levels],
                    )
                )
        return parts

    def _refine(
        self, effort: int | None, trade: float | Sequence[float] | None, tiles: Sequence[int]
    ) -> None:
        """Raises HvaeCodecError for an effort or a trade: there is none."""
        if effort not in (None, 0) or trade not in (None, 1.0):
            raise HvaeCodecError(
                f"model {self.info.name!r} has no effort but 0 and no trade; ask for a quality "
                f"between {LOWEST:g} and {HIGHEST:g} instead"
            )

    def _rows(self, blob: bytes, layers: int | None) -> tuple[int, Iterator[Pixels]]:
        """Height and strips of a picture, from its first layers."""
        wanted = self._layers(layers)
        (part,) = self._maps.read([blob], wanted)
        header, symbols = part.headers[0], part.symbols
        assert header.height is not None
        assert header.width is not None
        assert header.quality is not None
        strips = self._map_networks.strips(symbols, header.quality, header.height, header.width)
        rows = (strip[0] for strip in strips)
        return header.height, map(as_grey, rows) if header.grey else rows

    def _decode(self, blob: bytes, layers: int | None) -> Pixels:
        height, rows = self._rows(blob, layers)
        return assembled(rows, height)

    def _symbols(self, pictures: Sequence[Pixels]) -> list[Int32Array]:
        """Symbols int32 [C, N, h, w] a layer of pictures of one size."""
        return self._symbols_and_levels(pictures)[0]

    def _symbols_and_levels(
        self, pictures: Sequence[Pixels]
    ) -> tuple[list[Int32Array], list[Levels]]:
        """Symbols and their levels, of pictures of one size, some at a time."""
        parts = [
            self._map_networks.symbols(np.stack(some), self._number) for some in _chunks(pictures)
        ]
        if len(parts) == 1:
            return parts[0]
        symbols, levels = zip(*parts, strict=True)
        return (
            [np.concatenate(layer, axis=1) for layer in zip(*symbols, strict=True)],
            [np.concatenate(layer, axis=1) for layer in zip(*levels, strict=True)],
        )

    def _block_maps(self, block: Block) -> list[Int32Array]:
        """The symbols of a block as maps [C, N, h, w]."""
        header = block.header
        assert header.height is not None
        assert header.width is not None
        spec = self.model.spec
        maps = []
        for index, rows in enumerate(block.symbols):
            shape = spec.shape_of(index, header.height, header.width)
            maps.append(rows.reshape(-1, *shape).transpose(1, 0, 2, 3))
        return maps

    def _pictures_of(
        self, header: Header, symbols: Sequence[NDArray[np.integer]]
    ) -> Iterator[Pixels]:
        assert header.height is not None
        assert header.width is not None
        assert header.quality is not None
        for part in self._symbol_chunks(header, symbols):
            pictures = self._map_networks.pictures(
                part, header.quality, header.height, header.width
            )
            yield from map(as_grey, pictures) if header.grey else pictures

    def _features_of(
        self, header: Header, symbols: Sequence[NDArray[np.integer]]
    ) -> list[Features]:
        assert header.quality is not None
        parts = []
        for part in self._symbol_chunks(header, symbols):
            pooled = self._map_networks.latents(part, header.quality)
            parts.append([Features(mean, std) for mean, std in pooled])
        return joined(parts, np.arange(symbols[0].shape[1]))

    def _symbol_chunks(
        self, header: Header, symbols: Sequence[NDArray[np.integer]]
    ) -> Iterator[list[NDArray[np.integer]]]:
        """Symbols [C, N, h, w] a layer of some pictures at a time."""
        height, width = header.height or self._tile[0], header.width or self._tile[1]
        at_once = max(1, _CHUNK_PIXELS // (height * width))
        for start in range(0, symbols[0].shape[1], at_once):
            yield [layer[:, start : start + at_once] for layer in symbols]


def _by_size(pictures: Sequence[Pixels]) -> list[list[int]]:
    """The positions of pictures of each size."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, picture in enumerate(pictures):
        groups.setdefault(picture.shape[:2], []).append(number)
    return list(groups.values())


def _chunks(pictures: Sequence[Pixels]) -> Iterator[Sequence[Pixels]]:
    height, width, _ = pictures[0].shape
    at_once = max(1, _CHUNK_PIXELS // (height * width))
    return (pictures[start : start + at_once] for start in range(0, len(pictures), at_once))


def _as_rows(layer: Int32Array) -> Int32Array:
    """Symbols [C, N, h, w] as a row for each picture."""
    count = layer.shape[1]
    return np.ascontiguousarray(layer.transpose(1, 0, 2, 3)).reshape(count, -1)
