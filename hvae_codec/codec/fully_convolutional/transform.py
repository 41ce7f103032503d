"""The fully convolutional transform: images of any size whole, at any of 256 qualities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.bitstream.conv_files import ConvFileCoder
from hvae_codec.codec.bitstream.header import SizedHeader
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.entropy.contexts import ContextIds
from hvae_codec.codec.entropy.tables import Int32Array
from hvae_codec.codec.features import Features, joined
from hvae_codec.codec.fully_convolutional.networks import ConvNetworks
from hvae_codec.codec.quality_scale import HIGHEST, LOWEST, OperatingPoint
from hvae_codec.codec.transform import Pixels, Prepared, Trades, as_grey
from hvae_codec.errors import HvaeCodecError
from hvae_codec.models.build import ConvModel
from hvae_codec.utils.arguments import equals

_CHUNK_PIXELS = 1 << 20  # of small images, go through the networks together


class ConvTransform:
    """`Transform` of a fully convolutional model. There is no effort but 0 and no trade.

    Features of a layer are its latents as they are coded, averaged over their positions: one per
    channel.
    """

    def __init__(self, model: ConvModel, coder: ConvFileCoder, name: str) -> None:
        self._coder = coder
        self._name = name
        self.networks = ConvNetworks(model, coder)

    @property
    def model(self) -> ConvModel:
        """As `Transform.model`."""
        return self.networks.model

    def check_point(self, effort: int, trade: Trades) -> None:
        """As `Transform.check_point`."""
        if not (equals(effort, 0) and equals(trade, 1)):
            raise HvaeCodecError(
                f"model {self._name!r} has no effort but 0 and no trade; ask for a quality "
                f"between {LOWEST:g} and {HIGHEST:g} instead"
            )

    def encode(
        self, images: Sequence[Prepared], point: OperatingPoint, trades: Trades | None = None
    ) -> list[SymbolBatch]:
        """As `Transform.encode`; a batch per size and greyness."""
        self.check_point(point.effort, point.trade if trades is None else trades)
        batches: list[SymbolBatch] = []
        for numbers in _by_size([image for image, _ in images]):
            same = [images[number][0] for number in numbers]
            symbols, levels = self._symbols(same, point)
            headers = [self._header(*images[number], point) for number in numbers]
            together = SymbolBatch(numbers, headers, symbols, levels)
            alike = ([i for i, h in enumerate(headers) if h.grey == grey] for grey in (False, True))
            batches += [together.select(chosen) for chosen in alike if chosen]
        return batches

    def encode_block(self, images: Sequence[Prepared], point: OperatingPoint) -> SymbolBatch:
        """As `Transform.encode_block`."""
        self.check_point(point.effort, point.trade)
        first, grey = images[0]
        header = self._header(first, grey, point)
        self._coder.form.check_amount(replace(header, count=len(images), block=True))
        symbols, levels = self._symbols([image for image, _ in images], point)
        headers = [header] * len(images)
        return SymbolBatch(range(len(images)), headers, symbols, levels, block=True)

    def decode(self, batches: Sequence[SymbolBatch]) -> list[Pixels]:
        """As `Transform.decode`."""
        return [image for batch in batches for image in self._images(batch)]

    def decode_rows(self, file: bytes, layers: int | None) -> tuple[int, Iterator[Pixels]]:
        """As `Transform.decode_rows`."""
        (batch,) = self._coder.read([file], layers)
        header = batch.header
        strips = self.networks.strips(batch.symbols, _quality(header), header.height, header.width)
        rows = (strip[0] for strip in strips)
        return header.height, map(as_grey, rows) if header.grey else rows

    def features(self, batches: Sequence[SymbolBatch]) -> list[Features]:
        """As `Transform.features`."""
        found = []
        for batch in batches:
            for symbols in _chunks_of(batch):
                pooled = self.networks.latents(symbols, _quality(batch.header))
                found.append([Features(mean, std) for mean, std in pooled])
        return joined(found, np.arange(sum(len(batch) for batch in batches)))

    def posterior_features(
        self, images: Sequence[Pixels], layers: int, point: OperatingPoint
    ) -> list[Features]:
        """As `Transform.posterior_features`: `features` of the rounded posteriors."""
        groups = _by_size(images)
        batches = []
        for numbers in groups:
            same = [images[number] for number in numbers]
            headers = [self._header(same[0], False, point)] * len(same)
            symbols = self._symbols(same, point)[0][:layers]
            batches.append(SymbolBatch(numbers, headers, symbols))
        order = np.argsort(np.concatenate(groups))
        return [Features(one.mean[order], one.std[order]) for one in self.features(batches)]

    def sample(
        self,
        count: int,
        point: OperatingPoint,
        *,
        seed: int,
        temperature: float,
        top: NDArray[np.floating] | None,
    ) -> Pixels:
        """As `Transform.sample`; there is no `top`."""
        if top is not None:
            raise HvaeCodecError(
                f"model {self._name!r} has maps as its top layer, which features do not hold: "
                "it samples without given latents alone"
            )
        return self.networks.sample(count, _number(point), seed=seed, temperature=temperature)

    def information_bits(
        self, images: Sequence[Pixels], point: OperatingPoint
    ) -> NDArray[np.float64]:
        """As `Transform.information_bits`, of images of any size."""
        bits = np.zeros((len(images), len(self.model.spec.latents)))
        for numbers in _by_size(images):
            symbols, _ = self._symbols([images[number] for number in numbers], point)
            bits[numbers] = self._coder.coder.information_bits(symbols, _number(point))
        return bits

    def _header(self, image: Pixels, grey: bool, point: OperatingPoint) -> SizedHeader:
        height, width, _ = image.shape
        return SizedHeader(self._coder.model_id, width, height, grey=grey, quality=point.number)

    def _symbols(
        self, images: Sequence[Pixels], point: OperatingPoint
    ) -> tuple[list[Int32Array], list[ContextIds]]:
        """Symbols [C, N, h, w] and their contexts, of images of one size, some at a time."""
        at_once = _images_at_once(*images[0].shape[:2])
        parts = [
            self.networks.symbols(np.stack(images[start : start + at_once]), _number(point))
            for start in range(0, len(images), at_once)
        ]
        if len(parts) == 1:
            return parts[0]
        symbols, levels = zip(*parts, strict=True)
        return (
            [np.concatenate(layer, axis=1) for layer in zip(*symbols, strict=True)],
            [np.concatenate(layer, axis=1) for layer in zip(*levels, strict=True)],
        )

    def _images(self, batch: SymbolBatch) -> Iterator[Pixels]:
        header = batch.header
        for symbols in _chunks_of(batch):
            images = self.networks.pictures(symbols, _quality(header), header.height, header.width)
            yield from map(as_grey, images) if header.grey else images


def _number(point: OperatingPoint) -> int:
    assert point.number is not None
    return point.number


def _quality(header: SizedHeader) -> int:
    assert header.quality is not None
    return header.quality


def _images_at_once(height: int, width: int) -> int:
    return max(1, _CHUNK_PIXELS // (height * width))


def _chunks_of(batch: SymbolBatch) -> Iterator[list[NDArray[np.integer]]]:
    """Symbols [C, n, h, w] per layer of some images at a time."""
    at_once = _images_at_once(batch.header.height, batch.header.width)
    for start in range(0, len(batch), at_once):
        yield [layer[:, start : start + at_once] for layer in batch.symbols]


def _by_size(images: Sequence[Pixels]) -> list[list[int]]:
    """The positions of images of each size."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(image.shape[:2], []).append(number)
    return list(groups.values())
