"""Entropy coding of maps of symbols: layer after layer, each given the levels of its symbols.

Within a layer the symbols of one level lie together, levels in order of their table's size (equal
sizes in order of level), so that the range coder takes one table for very many symbols. All of a
layer's levels are known before its first symbol is read. docs/FORMAT.md, section 7, is the
specification; the coder itself is that of `hvae_codec.codec.entropy.range_coder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hvae_codec.codec.entropy.context_tables import ContextLayer, ContextTables
from hvae_codec.codec.entropy.contexts import ContextIds, SymbolFeatures
from hvae_codec.codec.entropy.range_coder import (
    PAD_BYTES,
    RangeDecoder,
    RangeEncoder,
    TableCoder,
    finish,
    words,
)
from hvae_codec.codec.entropy.tables import FloatArray, Int32Array
from hvae_codec.errors import CorruptError
from hvae_codec.utils.cancellation import check

Shape = tuple[int, int, int]


class _ContextPlan(TableCoder):
    """One layer: the table of a symbol is that of its context."""

    def __init__(self, layer: ContextLayer) -> None:
        super().__init__(layer.tables)
        self.low = layer.tables.low[self.order]
        self.size = layer.tables.size[self.order]
        self._small_rank = self.rank.astype(np.uint8)

    def sort(self, levels: ContextIds) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Positions in coding order of levels in any shape, and where each rank begins in it."""
        ranks = self._small_rank[levels.reshape(-1)]
        ends = np.cumsum(np.bincount(ranks, minlength=len(self.rank)))
        return np.argsort(ranks, kind="stable"), np.concatenate([[0], ends])

    def encode_layer(
        self, encoder: Any, symbols: npt.NDArray[np.integer], levels: ContextIds
    ) -> None:
        """Code symbols of any shape with their levels.

        Raises ValueError for a symbol outside its table.
        """
        order, starts = self.sort(levels)
        counts = np.diff(starts)
        sorted_symbols = symbols.reshape(-1)[order].astype(np.int32)
        indices: Int32Array = sorted_symbols - np.repeat(self.low, counts)
        if (indices.view(np.uint32) >= np.repeat(self.size.view(np.uint32), counts)).any():
            raise ValueError("a symbol lies outside the support of its table; clip it first")
        self.encode(encoder, indices, starts)

    def decode_layer(self, decoder: Any, levels: ContextIds) -> Int32Array:
        """The symbols, int32 in the shape of their levels.

        Raises CorruptError for what no encoder writes.
        """
        order, starts = self.sort(levels)
        symbols = np.empty(len(order), np.int32)
        symbols[order] = self.decode(decoder, starts) + np.repeat(self.low, np.diff(starts))
        return symbols.reshape(levels.shape)


class ContextCoder:
    """Codes maps of symbols. Build it once per model: it holds the prepared tables.

    All methods take several files at once, whose images have one size and one quality, `each` of
    them to a file: files' images lie one after another along axis 1 of maps [C, N, h, w].
    """

    def __init__(self, tables: ContextTables) -> None:
        self.tables = tables
        self._plans = [_ContextPlan(layer) for layer in tables.layers]

    def walk(self, quality: int) -> ContextIterator:
        """A walk from the top layer down, for images of one size."""
        return ContextIterator(self.tables, quality)

    def levels(self, symbols: Sequence[npt.NDArray[np.integer]], quality: int) -> list[ContextIds]:
        """The levels of the symbols [C, N, h, w] of all layers, top first, in their shapes.

        Raises ValueError for shapes that do not fit.
        """
        walk = self.walk(quality)
        found = []
        for layer in symbols:
            _, n, height, width = layer.shape
            found.append(walk.levels((n, height, width)))
            walk.add(layer)
        return found

    def encode(
        self,
        symbols: Sequence[npt.NDArray[np.integer]],
        quality: int,
        each: int = 1,
        levels: Sequence[ContextIds] | None = None,
    ) -> list[bytes]:
        """A payload for every `each` images, from symbols [C, N, h, w] per layer, top first, and,
        where they are known already, their levels.

        Raises ValueError for a symbol outside its table, or shapes that do not fit.
        """
        if len(symbols) != len(self._plans):
            raise ValueError(f"need symbols of {len(self._plans)} layers, not of {len(symbols)}")
        if levels is None:
            levels = self.levels(symbols, quality)
        payloads = []
        for first in range(0, symbols[0].shape[1], each):
            encoder = RangeEncoder()
            for plan, layer, own in zip(self._plans, symbols, levels, strict=True):
                part = slice(first, first + each)
                plan.encode_layer(encoder, layer[:, part], own[:, part])
            payloads.append(finish(encoder))
        return payloads

    def decode(
        self,
        payloads: Sequence[bytes],
        quality: int,
        shapes: Sequence[Shape],
    ) -> list[Int32Array]:
        """Symbols int32 [C, F * n, h, w] of the first len(shapes) layers of F payloads.

        shapes: (n, h, w) of each layer in one payload. For fewer than all layers a payload may be
        cut off behind them. Raises CorruptError when so many symbols cannot lie in so few bytes,
        before anything is allocated for them, and when the bytes cannot come from an encoder.
        """
        for payload in payloads:
            self._check_plausible(len(payload), shapes)
        decoders = [RangeDecoder(words(payload)) for payload in payloads]
        walk = self.walk(quality)
        symbols = []
        for plan, (n, height, width) in zip(self._plans, shapes, strict=False):
            levels = walk.levels((n * len(decoders), height, width))
            parts = [
                plan.decode_layer(decoder, levels[:, at * n : (at + 1) * n])
                for at, decoder in enumerate(decoders)
            ]
            symbols.append(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
            walk.add(symbols[-1])
        return symbols

    def information_bits(
        self, symbols: Sequence[npt.NDArray[np.integer]], quality: int
    ) -> FloatArray:
        """Information content of symbols [C, N, h, w] per layer, in bits, float64 [N, L].

        Raises ValueError for a symbol outside its table.
        """
        levels = self.levels(symbols, quality)
        columns = [
            layer.information_bits(k, own).sum(axis=(0, 2, 3))
            for layer, k, own in zip(self.tables.layers, symbols, levels, strict=True)
        ]
        return np.stack(columns, axis=1)

    def _check_plausible(self, payload_bytes: int, shapes: Sequence[Shape]) -> None:
        """A genuine payload and the zeros left out behind it hold the symbols' information."""
        least = sum(
            layer.context.channels * n * height * width * layer.least_bits
            for layer, (n, height, width) in zip(self.tables.layers, shapes, strict=False)
        )
        # Sums of logarithms, rounded down a little so that no machine refuses a genuine file.
        if least * (1 - 1e-9) > 8 * (payload_bytes + PAD_BYTES):
            raise CorruptError(
                f"{payload_bytes} bytes cannot hold maps of at least {least:.0f} bits: "
                "the bytes are cut off or the size is forged"
            )


class ContextIterator:
    """The levels of each layer from the symbols of those above it, top first."""

    def __init__(self, tables: ContextTables, quality: int) -> None:
        self._layers = tables.layers
        self._quality = quality
        self._features: dict[int, SymbolFeatures] = {}
        self._index = 0
        self._last: ContextIds | None = None

    def levels(self, shape: Shape) -> ContextIds:
        """Those of the next layer, uint8 [C, N, h, w], of shape (N, h, w)."""
        check()
        context = self._layers[self._index].context
        self._last = context.levels(self._features, self._quality, shape)
        return self._last

    def add(self, symbols: npt.NDArray[np.integer]) -> None:
        """Go on below that layer, whose symbols are these.

        Raises ValueError unless they have the shape of its levels.
        """
        if self._last is None or symbols.shape != self._last.shape:
            raise ValueError(f"symbols of shape {symbols.shape} are not those of their levels")
        context = self._layers[self._index].context
        self._index += 1
        if self._index < len(self._layers):
            self._features.setdefault(context.stride, SymbolFeatures()).add(symbols)
