"""Symbols of some images: what stands between the networks of a codec and its bytes.

Nothing here imports torch, so that processes which only code start fast and stay small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hvae_codec.codec.bitstream.header import SizedHeader
from hvae_codec.errors import HvaeCodecError

Contexts = npt.NDArray[np.uint8]
Result = TypeVar("Result")
IntegerT = TypeVar("IntegerT", bound=np.integer)


@dataclass(frozen=True)
class SymbolBatch:
    """Symbols of some images of a call.

    numbers: the position of each image in the call.
    headers: the header of each image.
    symbols: integers of the first layers, top first. Of tiles: [T, D_l], the tiles of one image
        after those of another. Of a fully convolutional model: [C, N, h, w], all headers equal.
    contexts: the context of every symbol [C, N, h, w], where known.
    block: whether the images share one file.
    """

    numbers: Sequence[int] | npt.NDArray[np.integer]
    headers: Sequence[SizedHeader]
    symbols: Sequence[npt.NDArray[np.integer]]
    contexts: Sequence[Contexts] | None = None
    block: bool = False

    def __len__(self) -> int:
        """Number of images."""
        return len(self.headers)

    @property
    def header(self) -> SizedHeader:
        """The header of the first image, which is that of all where they are equal."""
        return self.headers[0]

    def select(self, images: Sequence[int] | npt.NDArray[np.integer]) -> SymbolBatch:
        """The images at these positions, in this order; all images have the same size."""
        chosen = np.asarray(images, np.intp)
        count = len(self)

        def rows(layer: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
            if layer.ndim == 4:
                return layer[:, chosen]
            return layer.reshape(count, -1, layer.shape[1])[chosen].reshape(-1, layer.shape[1])

        return replace(
            self,
            numbers=[int(self.numbers[image]) for image in chosen],
            headers=[self.headers[image] for image in chosen],
            symbols=[rows(layer) for layer in self.symbols],
            contexts=None if self.contexts is None else [c[:, chosen] for c in self.contexts],
        )

    def rows(self) -> list[npt.NDArray[np.integer]]:
        """The symbols as rows per layer: [T, D_l], or [N, C * h * w]."""
        return [as_rows(layer) for layer in self.symbols]

    def narrowed(self) -> SymbolBatch:
        """The same with symbols in the smallest type that holds them, to be sent elsewhere."""
        return replace(self, symbols=[_narrow(layer) for layer in self.symbols])


def as_rows(layer: npt.NDArray[IntegerT]) -> npt.NDArray[IntegerT]:
    """Symbols [C, N, h, w] of one layer as a row per image; [T, D_l] as they are."""
    if layer.ndim != 4:
        return layer
    return np.ascontiguousarray(layer.transpose(1, 0, 2, 3)).reshape(layer.shape[1], -1)


def in_order(batches: Sequence[SymbolBatch], results: Iterable[Iterable[Result]]) -> list[Result]:
    """The results of the images of each batch, in the order of their numbers."""
    order = order_of(batches)
    flat = [result for some in results for result in some]
    return [flat[position] for position in order]


def checked_batches(given: Sequence[SymbolBatch]) -> list[SymbolBatch]:
    """Batches that a caller gave. Raises HvaeCodecError for anything else."""
    found: list[object] = list(given) if isinstance(given, Sequence) else [given]
    batches = []
    for batch in found:
        if not isinstance(batch, SymbolBatch):
            raise HvaeCodecError(
                "symbols are a list of SymbolBatch, as `quantise` returns it; "
                f"got {type(batch).__name__}"
            )
        batches.append(batch)
    return batches


def order_of(batches: Sequence[SymbolBatch]) -> npt.NDArray[np.intp]:
    """Positions of the images of all batches, in the order of their numbers."""
    numbers = [np.asarray(batch.numbers, np.intp) for batch in batches]
    return np.argsort(np.concatenate([np.zeros(0, np.intp), *numbers]), kind="stable")


def _narrow(symbols: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    if symbols.size == 0:
        return symbols
    low, high = int(symbols.min()), int(symbols.max())
    for kind in (np.int8, np.int16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return symbols.astype(kind)
    return symbols
