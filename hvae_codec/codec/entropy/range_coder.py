"""Entropy coding of latent symbols; the only file that knows constriction.

One range coder serves single images and blocks of many. Order of the symbols: layers top first;
in a layer, runs of at most RUN images; in a run, dimensions in order of their table's size (equal
sizes in order of index, tables of size 1 left out); in a dimension, image after image. A single
image is a block of one. docs/FORMAT.md states the arithmetic to the bit.

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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from hvae_codec.codec.entropy.tables import PRECISION_BITS, Int32Array, LayerTables, SymbolTables
from hvae_codec.errors import CorruptError

RUN = 4096
"""Images whose symbols of one layer are coded together: bounds the memory of a streaming reader."""

PAD_BYTES = 16
"""A payload goes on with zero bytes after its end; an encoder leaves out at most this many."""

_CODER_BITS = 24  # constriction's fixed-point precision
_ROWS_BELOW = 32  # images from which one call per dimension is faster than rows of tables

DAMAGED = "the payload is damaged: no encoder writes these bytes"  # for an AssertionError below

Categorical = constriction.stream.model.Categorical
RangeEncoder = constriction.stream.queue.RangeEncoder
RangeDecoder = constriction.stream.queue.RangeDecoder
FAMILY = Categorical(perfect=False)


@dataclass(frozen=True)
class TableGroup:
    """Tables of one size: positions start..stop of the coding order."""

    start: int
    stop: int
    rows: npt.NDArray[np.float64]  # [stop - start, size], what constriction calls probabilities


def groups_by_size(tables: LayerTables, order: npt.NDArray[np.intp]) -> list[TableGroup]:
    """The tables at the positions `order`, sorted by size, those of one size together."""
    sizes = tables.size[order]
    groups = []
    for size in np.unique(sizes):
        start, stop = (int(np.searchsorted(sizes, size, side)) for side in ("left", "right"))
        frequencies = np.stack([tables.frequencies_of(int(n)) for n in order[start:stop]])
        groups.append(TableGroup(start, stop, probabilities(frequencies)))
    return groups


class _LayerPlan:
    """What coding one layer needs, made once."""

    def __init__(self, tables: LayerTables) -> None:
        self.tables = tables
        order = np.argsort(tables.size, kind="stable")
        self.order = order[tables.size[order] > 1]  # coded dimensions in coding order
        # Of each dimension, its position in coding order; behind them all, where it is not coded.
        self._from = np.full(tables.dims, len(self.order))
        self._from[self.order] = np.arange(len(self.order))
        self.groups = groups_by_size(tables, self.order)

    @cached_property
    def models(self) -> list[Any]:
        """One fixed model per coded dimension, for blocks."""
        return [Categorical(row, perfect=False) for group in self.groups for row in group.rows]

    def to_indices(self, symbols: npt.NDArray[np.integer]) -> Int32Array:
        """Symbols [N, D] to positions in the supports, int32 [N, coded], in coding order."""
        return self.tables.indices(symbols)[:, self.order]

    def to_symbols(self, indices: Int32Array) -> Int32Array:
        """The inverse of `to_indices`: int32 [N, coded] to [N, D]."""
        # One gather; writing scattered columns takes eight times as long.
        with_zero = np.pad(indices, ((0, 0), (0, 1)))
        symbols: Int32Array = with_zero[:, self._from] + self.tables.low
        return symbols


class SymbolCoder:
    """Codes symbols under fixed tables. Build it once per model: it holds the prepared tables."""

    def __init__(self, tables: SymbolTables) -> None:
        self.tables = tables
        self._plans = [_LayerPlan(layer) for layer in tables.layers]
        # Sums of logarithms, rounded down a little so that no machine refuses a genuine file.
        self._least_bits = np.cumsum(tables.minimum_bits) * (1 - 1e-9)

    def encode(self, symbols: Sequence[npt.NDArray[np.integer]]) -> bytes:
        """One payload of n images (or tiles), from symbols [n, D_l] per layer, top first.

        Raises ValueError for wrong shapes or a symbol outside its support.
        """
        n = self._check_layers(symbols)
        encoder = RangeEncoder()
        for plan, layer in zip(self._plans, symbols, strict=True):
            for start, stop in _runs(n):
                _encode_run(encoder, plan, plan.to_indices(layer[start:stop]))
        return finish(encoder)

    def decode(self, payload: bytes, n: int, layers: int | None = None) -> list[Int32Array]:
        """Symbols int32 [n, D_l] of the first `layers` layers (None: all), from `encode`'s bytes.

        For fewer than all layers the payload may be cut off behind them. Raises CorruptError when
        n images cannot lie in so few bytes, before anything is allocated for them, and when the
        bytes cannot come from an encoder. Most damage goes unseen here: check sums find it.
        """
        plans = self._first(layers)
        self._check_plausible(len(payload), n, len(plans))
        decoder = RangeDecoder(words(payload))
        return [_decode_layer(decoder, plan, n) for plan in plans]

    def decode_runs(
        self, payload: bytes, n: int, layers: int | None = None
    ) -> tuple[Int32Array, Iterator[list[Int32Array]]]:
        """`decode` in little memory: the top layer's symbols, and those of RUN images at a time.

        Only the layers above the last one are held for all images. Raises CorruptError as `decode`
        does; the iterator too, should the last layer be what no encoder writes.
        """
        plans = self._first(layers)
        self._check_plausible(len(payload), n, len(plans))
        decoder = RangeDecoder(words(payload))
        held = max(1, len(plans) - 1)
        above = [_decode_layer(decoder, plan, n) for plan in plans[:held]]

        def runs() -> Iterator[list[Int32Array]]:
            for start, stop in _runs(n):
                last = [_decode_layer(decoder, plan, stop - start) for plan in plans[held:]]
                yield [layer[start:stop] for layer in above] + last

        return above[0], runs()

    def encode_records(self, symbols: Sequence[npt.NDArray[np.integer]]) -> list[bytes]:
        """One payload for each of N images, from symbols [N, D_l] per layer, top first.

        The bytes are those of `encode` on each image alone. Raises ValueError as `encode` does.
        """
        n = self._check_layers(symbols)
        parts = [
            (plan.to_indices(layer)[:, group.start : group.stop], group.rows)
            for plan, layer in zip(self._plans, symbols, strict=True)
            for group in plan.groups
        ]
        contiguous = [(np.ascontiguousarray(indices), rows) for indices, rows in parts]
        payloads = []
        for image in range(n):
            encoder = RangeEncoder()
            for indices, rows in contiguous:
                encoder.encode(indices[image], FAMILY, rows)
            payloads.append(finish(encoder))
        return payloads

    def decode_records(
        self, payloads: Sequence[bytes], layers: int | None = None
    ) -> list[Int32Array]:
        """Symbols int32 [N, D_l] of the first `layers` layers of N payloads of one image each.

        Raises CorruptError as `decode` does.
        """
        plans = self._first(layers)
        rows = [group.rows for plan in plans for group in plan.groups]
        coded = [len(plan.order) for plan in plans]
        indices = np.empty((len(payloads), sum(coded)), np.int32)
        for image, payload in enumerate(payloads):
            self._check_plausible(len(payload), 1, len(plans))
            decoder = RangeDecoder(words(payload))
            try:
                parts = [decoder.decode(FAMILY, tables) for tables in rows]
            except AssertionError as error:
                raise CorruptError(DAMAGED) from error
            if parts:
                np.concatenate(parts, out=indices[image])
        layer_indices = np.split(indices, np.cumsum(coded)[:-1], axis=1)
        return [p.to_symbols(layer) for p, layer in zip(plans, layer_indices, strict=True)]

    def _first(self, layers: int | None) -> list[_LayerPlan]:
        if layers is not None and not 1 <= layers <= len(self._plans):
            raise ValueError(f"layers must lie in 1..{len(self._plans)}, not {layers}")
        return self._plans[:layers]

    def _check_layers(self, symbols: Sequence[npt.NDArray[np.integer]]) -> int:
        if len(symbols) != len(self._plans) or len({len(layer) for layer in symbols}) != 1:
            raise ValueError(
                f"need symbols of {len(self._plans)} layers, of the same number of images each"
            )
        return len(symbols[0])

    def _check_plausible(self, payload_bytes: int, n: int, layers: int) -> None:
        """A genuine payload and the zeros left out behind it hold the symbols' information."""
        least_bits = float(self._least_bits[layers - 1])
        if n * least_bits > 8 * (payload_bytes + PAD_BYTES):
            raise CorruptError(
                f"{payload_bytes} bytes cannot hold {n} images of at least {least_bits:.1f} bits "
                "each: the bytes are cut off or the count is forged"
            )


def probabilities(frequencies: Int32Array) -> npt.NDArray[np.float64]:
    """Integer frequencies to the floats that make constriction use exactly them (see above)."""
    weights = frequencies.astype(np.float64) * (1 << (_CODER_BITS - PRECISION_BITS))
    weights -= 1
    return weights


def _runs(n: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + RUN, n)) for start in range(0, n, RUN))


def _encode_run(encoder: Any, plan: _LayerPlan, indices: Int32Array) -> None:
    """Codes int32 [t, coded], dimension after dimension."""
    columns = np.ascontiguousarray(indices.T)
    if len(indices) >= _ROWS_BELOW:
        for column, model in zip(columns, plan.models, strict=True):
            encoder.encode(column, model)
        return
    for group in plan.groups:
        rows = np.repeat(group.rows, len(indices), axis=0)
        encoder.encode(columns[group.start : group.stop].reshape(-1), FAMILY, rows)


def _decode_layer(decoder: Any, plan: _LayerPlan, n: int) -> Int32Array:
    """The symbols int32 [n, D] of one layer, run after run."""
    symbols = np.empty((n, plan.tables.dims), np.int32)
    for start, stop in _runs(n):
        try:
            indices = _decode_run(decoder, plan, stop - start)
        except AssertionError as error:
            raise CorruptError(DAMAGED) from error
        symbols[start:stop] = plan.to_symbols(indices)
    return symbols


def _decode_run(decoder: Any, plan: _LayerPlan, n: int) -> Int32Array:
    """The inverse of `_encode_run`: int32 [n, coded]."""
    columns = np.empty((len(plan.order), n), np.int32)
    if n >= _ROWS_BELOW:
        for column, model in zip(columns, plan.models, strict=True):
            column[:] = decoder.decode(model, n)
    else:
        for group in plan.groups:
            rows = np.repeat(group.rows, n, axis=0)
            columns[group.start : group.stop] = decoder.decode(FAMILY, rows).reshape(-1, n)
    return columns.T


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
