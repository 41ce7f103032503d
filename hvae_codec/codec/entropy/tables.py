"""Static integer probability tables, fitted once and kept in a checkpoint.

Tiled models have one per latent dimension, fully convolutional ones one per context.

A table is a list of integer frequencies over a run of consecutive symbols. No float decides a
probability anywhere between encoder and decoder, so that decoding is exact on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hvae_codec.errors import CheckpointError

PRECISION_BITS = 16
"""The frequencies of every table sum to 2 ** PRECISION_BITS."""

TOTAL = 1 << PRECISION_BITS

MAX_SUPPORT = 4096
"""Most symbols that one table may have."""

SYMBOL_MIN, SYMBOL_MAX = -32_768, 32_767
"""Symbols fit 16 bits."""

DEFAULT_MARGIN = 1
"""Symbols that `SymbolTables.fit` adds beyond the observed range, on each side."""

_CHUNK_ROWS = 4096
"""Images whose symbols are looked up at once, to bound memory."""

Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerTables:
    """The D tables of one layer, of its dimensions or contexts; all frequencies in one flat array.

    low: int32 [D], the smallest symbol of each dimension.
    size: int32 [D], the number of symbols of each dimension; 1 means that nothing is coded.
    frequency: int32 [size.sum()], dimension after dimension, each >= 1, TOTAL per dimension.

    Raises CheckpointError if any of this does not hold.
    """

    low: Int32Array
    size: Int32Array
    frequency: Int32Array

    def __post_init__(self) -> None:
        for name in ("low", "size", "frequency"):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
                raise CheckpointError(f"symbol tables: {name} must be an int32 array of rank 1")
        dims = len(self.low)
        if dims == 0 or len(self.size) != dims:
            raise CheckpointError(
                f"symbol tables: {dims} lows and {len(self.size)} sizes; need as many, at least 1"
            )
        if self.size.min() < 1 or self.size.max() > MAX_SUPPORT:
            raise CheckpointError(f"symbol tables: sizes must lie in 1..{MAX_SUPPORT}")
        if self.low.min() < SYMBOL_MIN or self.high.max() > SYMBOL_MAX:
            raise CheckpointError(
                f"symbol tables: symbols must lie in {SYMBOL_MIN}..{SYMBOL_MAX}, "
                f"not in {self.low.min()}..{self.high.max()}"
            )
        if len(self.frequency) != int(self.size.sum(dtype=np.int64)):
            raise CheckpointError(
                f"symbol tables: {len(self.frequency)} frequencies, but the sizes add up to "
                f"{self.size.sum(dtype=np.int64)}"
            )
        sums = np.add.reduceat(self.frequency, self.offset, dtype=np.int64)
        if self.frequency.min() < 1 or (sums != TOTAL).any():
            raise CheckpointError(
                f"symbol tables: frequencies must be at least 1 and sum to {TOTAL} per dimension"
            )

    @property
    def dims(self) -> int:
        return len(self.low)

    @cached_property
    def high(self) -> npt.NDArray[np.int64]:
        """Largest symbol of each dimension, int64 [D]."""
        return self.low.astype(np.int64) + self.size - 1

    @cached_property
    def offset(self) -> npt.NDArray[np.int64]:
        """Where each dimension begins in `frequency`, int64 [D]."""
        return np.concatenate([[0], np.cumsum(self.size[:-1], dtype=np.int64)])

    @cached_property
    def cost_bits(self) -> FloatArray:
        """Ideal code length of every entry of `frequency`, in bits."""
        return PRECISION_BITS - np.log2(self.frequency.astype(np.float64))

    @cached_property
    def minimum_bits(self) -> float:
        """Information, in bits, of the likeliest symbols of this layer: no image has less."""
        return float(np.minimum.reduceat(self.cost_bits, self.offset).sum())

    def frequencies_of(self, dim: int) -> Int32Array:
        """The table of one dimension, int32 [size[dim]]."""
        start = int(self.offset[dim])
        return self.frequency[start : start + int(self.size[dim])]

    def indices(self, symbols: npt.NDArray[np.integer]) -> Int32Array:
        """Symbols [N, D], at most 32 bits each, as positions in their supports, int32 [N, D].

        Raises ValueError for a wrong shape or dtype, or a symbol outside its support.
        """
        if symbols.ndim != 2 or symbols.shape[1] != self.dims:
            raise ValueError(f"symbols must be [N, {self.dims}], not {list(symbols.shape)}")
        if not np.can_cast(symbols.dtype, np.int32):
            raise ValueError(f"symbols must be int32 or a smaller integer, not {symbols.dtype}")
        index: Int32Array = symbols.astype(np.int32, copy=False) - self.low
        # A difference below zero, or one that wrapped, is a huge number when read as unsigned.
        if (index.view(np.uint32) >= self.size.view(np.uint32)).any():
            raise ValueError("a symbol lies outside the support of its table; clip it first")
        return index


class SymbolTables:
    """The tables of a model: one `LayerTables` per layer, top layer first."""

    def __init__(self, layers: Sequence[LayerTables]) -> None:
        if not layers:
            raise CheckpointError("symbol tables: no layers")
        self.layers = tuple(layers)

    @property
    def layer_dims(self) -> tuple[int, ...]:
        """Latent dimensions per layer, top layer first."""
        return tuple(layer.dims for layer in self.layers)

    @property
    def minimum_bits(self) -> tuple[float, ...]:
        """Least information that one image can have, in bits, per layer, top first."""
        return tuple(layer.minimum_bits for layer in self.layers)

    @property
    def bounds(self) -> tuple[tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]], ...]:
        """Smallest and largest symbol of every dimension, ([D_l], [D_l]) per layer, top first."""
        return tuple((layer.low, layer.high) for layer in self.layers)

    @classmethod
    def fit(
        cls, symbols: Sequence[npt.NDArray[np.integer]], margin: int = DEFAULT_MARGIN
    ) -> SymbolTables:
        """Count training symbols, integers [N, D_l] per layer, top first, into tables.

        The support of a dimension is its observed range, `margin` more symbols on each side, and
        then as many as reach the next size of `support_size`. A dimension with one observed symbol
        keeps that one and costs nothing: the encoder clips to it. Frequencies are the counts
        plus 1/2 (the Krichevsky-Trofimov estimate) scaled to TOTAL in integers, none below 1.
        The same symbols give the same tables on every machine.

        Raises ValueError for wrong shapes or symbols beyond 16 bits.
        """
        if len({len(layer) for layer in symbols}) != 1 or len(symbols[0]) == 0:
            raise ValueError("every layer needs the symbols of the same images, at least one")
        return cls([_fit_layer(layer, margin) for layer in symbols])

    def clip(self, layer: int, symbols: npt.NDArray[np.integer]) -> Int32Array:
        """Integers [N, D_l] of one layer brought into their supports, int32 [N, D_l]."""
        tables = self.layers[layer]
        clipped: Int32Array = np.clip(symbols, tables.low, tables.high).astype(np.int32)
        return clipped

    def information_bits(self, symbols: Sequence[npt.NDArray[np.integer]]) -> FloatArray:
        """Information content under these tables, in bits, of symbols [N, D_l] per layer.

        Returns float64 [N, L]: the ideal code length of every image, layer by layer. Raises
        ValueError for a wrong shape or a symbol outside its support.
        """
        if len(symbols) != len(self.layers):
            raise ValueError(f"need symbols of {len(self.layers)} layers, not of {len(symbols)}")
        bits = np.empty((len(symbols[0]), len(self.layers)))
        for column, (tables, layer) in enumerate(zip(self.layers, symbols, strict=True)):
            for start in range(0, len(layer), _CHUNK_ROWS):
                rows = slice(start, start + _CHUNK_ROWS)
                entry = tables.indices(layer[rows]) + tables.offset
                bits[rows, column] = tables.cost_bits[entry].sum(axis=1)
        return bits

    def to_tensors(self) -> dict[str, Int32Array]:
        """Arrays `tables.<layer>.<low|size|frequency>`, int32, as a checkpoint stores them."""
        return {
            f"tables.{number}.{name}": getattr(layer, name)
            for number, layer in enumerate(self.layers)
            for name in ("low", "size", "frequency")
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[np.generic]]) -> SymbolTables:
        """The inverse of `to_tensors`. Raises CheckpointError for anything else than its result."""
        count = len(tensors) // 3
        expected = {f"tables.{i}.{n}" for i in range(count) for n in ("low", "size", "frequency")}
        if set(tensors) != expected:
            odd = sorted(set(tensors) ^ expected)
            raise CheckpointError(f"symbol tables: missing or unexpected tensors {odd[:6]}")
        return cls(
            [
                LayerTables(
                    *(_own(tensors, f"tables.{i}.{n}") for n in ("low", "size", "frequency"))
                )
                for i in range(count)
            ]
        )


def _own(tensors: Mapping[str, npt.NDArray[np.generic]], name: str) -> Int32Array:
    """A read-only copy of an int32 tensor; LayerTables checks the rest."""
    array = tensors[name]
    if not isinstance(array, np.ndarray) or array.dtype != np.int32:
        raise CheckpointError(f"symbol tables: {name} must be int32")
    copy: Int32Array = array.astype(np.int32, copy=True)
    copy.setflags(write=False)
    return copy


def support_size(needed: int) -> int:
    """The smallest power of two that is at least `needed`.

    Few different sizes mean few calls of the coder, which takes the tables of one size together:
    a third less time per single image. An entry added for this has frequency 1, which costs about
    2e-5 bits per symbol.
    """
    return 1 << (needed - 1).bit_length()


def _fit_layer(symbols: npt.NDArray[np.integer], margin: int) -> LayerTables:
    if symbols.ndim != 2 or symbols.shape[1] == 0 or symbols.dtype.kind not in "iu":
        raise ValueError(
            f"symbols must be integers [N, D], not {symbols.dtype} of shape {list(symbols.shape)}"
        )
    lows, tables = [], []
    for column in np.ascontiguousarray(symbols.T):
        low, size = _support(int(column.min()), int(column.max()), margin)
        counts = np.bincount(column.astype(np.int64) - low, minlength=size)
        lows.append(low)
        tables.append(_integer_table(counts))
    return LayerTables(
        low=np.array(lows, np.int32),
        size=np.array([len(table) for table in tables], np.int32),
        frequency=np.concatenate(tables).astype(np.int32),
    )


def _support(smallest: int, largest: int, margin: int) -> tuple[int, int]:
    """(low, size) of the support for an observed range; the odd extra symbol goes above."""
    if smallest == largest:
        return smallest, 1
    observed = largest - smallest + 1
    size = support_size(observed + 2 * margin)
    low = smallest - (size - observed) // 2
    if size > MAX_SUPPORT or low < SYMBOL_MIN or low + size - 1 > SYMBOL_MAX:
        raise ValueError(
            f"symbols {smallest}..{largest} need a table beyond {MAX_SUPPORT} entries or 16 bits; "
            "the quantisation step is far too small"
        )
    return low, size


def _integer_table(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts [n] to frequencies [n], each >= 1, sum TOTAL, by largest remainder in integers."""
    weight = 2 * counts.astype(np.int64) + 1
    share, remainder = np.divmod((TOTAL - len(counts)) * weight, weight.sum())
    left = TOTAL - len(counts) - int(share.sum())
    share[np.argsort(-remainder, kind="stable")[:left]] += 1
    return share + 1
