"""Range coding of symbols under integer tables; the only file that knows constriction.

Within a layer, symbols of one table lie together: tables in order of size, equal sizes in order of
index, tables of one symbol left out. docs/FORMAT.md states the arithmetic to the bit.

Range coding takes the place of ANS for blocks: on blocks of 256 images constriction 0.5.0 decodes a
symbol in 15 ns against 12 and encodes in 5 ns with either, the bytes hold the top layer first
without any reordering, and one stream ends with 0.3 bytes over its information content.

Why the models are exact on every machine. constriction turns n float probabilities p into the
cumulative function floor(scale * (p_0 + ... + p_{i-1})) + i, scale = (2^24 - n) / sum(p). We pass
p_i = 256 f_i - 1 as float64, f_i being the integer frequencies that sum to 2^16. All partial sums
are then integers below 2^24, exact in any order of summation; sum(p) is exactly 2^24 - n; scale is
exactly 1; the cumulative function is exactly 256 (f_0 + ... + f_{i-1}). Nothing is ever rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from hvae_codec.codec.entropy.tables import PRECISION_BITS, Int32Array, LayerTables
from hvae_codec.errors import CorruptError

PAD_BYTES = 16
"""A payload goes on with zero bytes after its end; an encoder leaves out at most this many."""

_CODER_BITS = 24  # constriction's fixed-point precision
_ROWS_BELOW = 32  # symbols per table from which one call per table is faster than rows of tables
_DAMAGED = "the payload is damaged: no encoder writes these bytes"  # for an AssertionError below

_Categorical = constriction.stream.model.Categorical
_FAMILY = _Categorical(perfect=False)
RangeEncoder = constriction.stream.queue.RangeEncoder
RangeDecoder = constriction.stream.queue.RangeDecoder


@dataclass(frozen=True)
class TableGroup:
    """Tables of one size: positions start..stop of the coding order."""

    start: int
    stop: int
    rows: npt.NDArray[np.float64]  # [stop - start, size], what constriction calls probabilities

    def encode(self, encoder: Any, indices: Int32Array) -> None:
        """Code one index per table, int32 [stop - start]."""
        encoder.encode(indices, _FAMILY, self.rows)

    def decode(self, decoder: Any) -> Int32Array:
        """The inverse of `encode`. Raises CorruptError for what no encoder writes."""
        return _checked(decoder, _FAMILY, self.rows)


class TableCoder:
    """The tables of one layer, prepared for coding.

    order: int [D], the tables in coding order.
    rank: int [D], the position of each table in that order.
    groups: the tables with something to code; those of one symbol come first in the order.
    """

    def __init__(self, tables: LayerTables) -> None:
        self.order = np.argsort(tables.size, kind="stable")
        self.rank = np.empty(len(self.order), np.intp)
        self.rank[self.order] = np.arange(len(self.order))
        sizes = tables.size[self.order]
        self.groups = []
        for size in np.unique(sizes[sizes > 1]):
            start, stop = (int(np.searchsorted(sizes, size, side)) for side in ("left", "right"))
            frequencies = np.stack([tables.frequencies_of(int(n)) for n in self.order[start:stop]])
            self.groups.append(TableGroup(start, stop, _probabilities(frequencies)))

    def encode(self, encoder: Any, indices: Int32Array, starts: npt.NDArray[np.integer]) -> None:
        """Code positions in supports, int32 [n], sorted by the rank of their tables.

        starts: int [D + 1], where the indices of each rank begin, and their number.
        """
        if _few(starts):
            for group in self.groups:
                start, stop = int(starts[group.start]), int(starts[group.stop])
                if start < stop:
                    encoder.encode(indices[start:stop], _FAMILY, _rows(group, starts))
            return
        for rank, model in self._models:
            start, stop = int(starts[rank]), int(starts[rank + 1])
            if start < stop:
                encoder.encode(indices[start:stop], model)

    def decode(self, decoder: Any, starts: npt.NDArray[np.integer]) -> Int32Array:
        """The inverse of `encode`, int32 [n]. Raises CorruptError for what no encoder writes."""
        indices = np.zeros(int(starts[-1]), np.int32)
        if _few(starts):
            for group in self.groups:
                start, stop = int(starts[group.start]), int(starts[group.stop])
                if start < stop:
                    indices[start:stop] = _checked(decoder, _FAMILY, _rows(group, starts))
            return indices
        for rank, model in self._models:
            start, stop = int(starts[rank]), int(starts[rank + 1])
            if start < stop:
                indices[start:stop] = _checked(decoder, model, stop - start)
        return indices

    @cached_property
    def _models(self) -> list[tuple[int, Any]]:
        """Rank and fixed model of each table with something to code."""
        return [
            (group.start + position, _Categorical(row, perfect=False))
            for group in self.groups
            for position, row in enumerate(group.rows)
        ]


def _few(starts: npt.NDArray[np.integer]) -> bool:
    return int(starts[-1]) < _ROWS_BELOW * (len(starts) - 1)


def _rows(group: TableGroup, starts: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """A row of probabilities for each symbol of a group."""
    return np.repeat(group.rows, np.diff(starts[group.start : group.stop + 1]), axis=0)


def _checked(decoder: Any, model: Any, amount: int | npt.NDArray[np.float64]) -> Int32Array:
    try:
        indices: Int32Array = decoder.decode(model, amount)
    except AssertionError as error:
        raise CorruptError(_DAMAGED) from error
    return indices


def _probabilities(frequencies: Int32Array) -> npt.NDArray[np.float64]:
    """Integer frequencies to the floats that make constriction use exactly them (see above)."""
    weights = frequencies.astype(np.float64) * (1 << (_CODER_BITS - PRECISION_BITS))
    weights -= 1
    return weights


def finish(encoder: Any) -> bytes:
    """The shortest bytes that, with zeros behind them, lie in the interval the encoder ends with.

    constriction pads to whole words and one more; we read off the interval [low, low + range) as
    integers of `bits` bits, and take the number with most trailing zero bytes in it.
    """
    words = encoder.get_compressed()
    if len(words) == 0:
        return b""
    position: int
    lower: int
    width: int
    position, (lower, width) = encoder.pos()
    bits = 32 * position + 64
    # The sealed words up to `position` are low's upper words, rounded up, with the carry resolved.
    sealed = int.from_bytes(words[: position + 1].astype(">u4").tobytes(), "big")
    low = (sealed << 32) - (-lower % (1 << 32))
    last = low + width - 1
    zeros = (last ^ (low - 1)).bit_length() - 1 if low else bits
    shift = min(zeros // 8 * 8, 8 * PAD_BYTES, bits)
    return (last >> shift).to_bytes((bits - shift) // 8, "big")


def words(payload: bytes) -> npt.NDArray[np.uint32]:
    """Payload bytes as the 32-bit words that constriction reads; it supplies zeros after them."""
    padded = payload + bytes(-len(payload) % 4)
    return np.frombuffer(padded, ">u4").astype(np.uint32)
