"""The two transforms of the codec: tiles of one size, and whole images of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.features import Features
from hvae_codec.codec.quality_scale import OperatingPoint
from hvae_codec.models.build import CodingModel

Pixels = NDArray[np.uint8]
Prepared = tuple[Pixels, bool]
"""An image uint8 [H, W, C] with the model's channels, and whether it was grey."""

Trades = float | Sequence[float]
"""One trade for all images, or one each."""


class Transform(Protocol):
    """The networks of a codec: images to symbols, symbols to images and features.

    `TiledTransform` cuts images into tiles; `ConvTransform` codes them whole. Images are uint8
    [H, W, C]. Results are in the order of the batches' images.
    """

    @property
    def model(self) -> CodingModel:
        """The model itself, in evaluation mode."""

    def check_point(self, effort: int, trade: Trades) -> None:
        """Raise HvaeCodecError unless the encoder has this effort and trade."""

    def encode(
        self, images: Sequence[Prepared], point: OperatingPoint, trades: Trades | None = None
    ) -> list[SymbolBatch]:
        """Symbols of images, numbered by position. trades: instead of the point's.

        Raises HvaeCodecError: as `check_point`.
        """

    def encode_block(self, images: Sequence[Prepared], point: OperatingPoint) -> SymbolBatch:
        """Symbols of one or more images of one shape, to be one file.

        Raises ImageTooLargeError beyond the limits of a file; HvaeCodecError: as `check_point`.
        """

    def decode(self, batches: Sequence[SymbolBatch]) -> list[Pixels]:
        """Images of symbols; layers that are not given take the mode of their prior."""

    def decode_rows(self, file: bytes, layers: int | None) -> tuple[int, Iterator[Pixels]]:
        """Height and strips [h, W, C] of the image of a file, from its first layers.

        Raises BitstreamError before the first strip.
        """

    def features(self, batches: Sequence[SymbolBatch]) -> list[Features]:
        """The latents as they were coded, of each layer whose symbols the batches hold."""

    def posterior_features(
        self, images: Sequence[Pixels], layers: int, point: OperatingPoint
    ) -> list[Features]:
        """Features of the first layers of images with the model's channels."""

    def sample(
        self,
        count: int,
        point: OperatingPoint,
        *,
        seed: int,
        temperature: float,
        top: NDArray[np.floating] | None,
    ) -> Pixels:
        """Images uint8 [count, H, W, C] drawn from the prior, below `top` where it is given.

        Raises HvaeCodecError: the model cannot take this `top`.
        """

    def information_bits(
        self, images: Sequence[Pixels], point: OperatingPoint
    ) -> NDArray[np.float64]:
        """Information content under the tables, in bits per layer, float64 [N, L].

        Raises ImageError: the images are of a size that has none.
        """


def as_grey(image: Pixels) -> Pixels:
    """The mean of the channels, [H, W, 1], halves rounded up."""
    channels = image.shape[2]
    total = image.sum(axis=2, keepdims=True, dtype=np.uint16) + channels // 2
    grey: Pixels = (total // channels).astype(np.uint8)
    return grey
