"""Payloads of models that code images in tiles, under one fixed table per latent dimension.

Order of the symbols: layers top first; in a layer, runs of at most RUN tiles; in a run, dimensions
in the order of `TableCoder`; in a dimension, tile after tile. A single image is a block of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hvae_codec.codec.entropy.range_coder import (
    PAD_BYTES,
    RangeDecoder,
    RangeEncoder,
    TableCoder,
    finish,
    words,
)
from hvae_codec.codec.entropy.tables import Int32Array, LayerTables, SymbolTables
from hvae_codec.errors import CorruptError

RUN = 4096
"""Tiles whose symbols of one layer are coded together: bounds the memory of a streaming reader."""


class _TileLayer(TableCoder):
    """One layer: the table of a symbol is that of its dimension."""

    def __init__(self, tables: LayerTables) -> None:
        super().__init__(tables)
        self.tables = tables

    def to_indices(self, symbols: npt.NDArray[np.integer]) -> Int32Array:
        """Symbols [N, D] to positions in the supports, int32 [N, D], in coding order."""
        return self.tables.indices(symbols)[:, self.order]

    def to_symbols(self, indices: Int32Array) -> Int32Array:
        """The inverse of `to_indices`."""
        # One gather; writing scattered columns takes eight times as long.
        symbols: Int32Array = indices[:, self.rank] + self.tables.low
        return symbols

    def encode_run(self, encoder: Any, symbols: npt.NDArray[np.integer]) -> None:
        """Code symbols [n, D], dimension after dimension."""
        indices = self.to_indices(symbols)
        self.encode(
            encoder, np.ascontiguousarray(indices.T).reshape(-1), self._starts(len(symbols))
        )

    def decode_layer(self, decoder: Any, n: int) -> Int32Array:
        """Symbols int32 [n, D], run after run. Raises CorruptError for what no encoder writes."""
        symbols = np.empty((n, self.tables.dims), np.int32)
        for start, stop in _runs(n):
            indices = self.decode(decoder, self._starts(stop - start))
            symbols[start:stop] = self.to_symbols(indices.reshape(-1, stop - start).T)
        return symbols

    def _starts(self, n: int) -> npt.NDArray[np.intp]:
        return np.arange(self.tables.dims + 1) * n


class TileCoder:
    """Codes symbols under fixed tables. Build it once per model: it holds the prepared tables."""

    def __init__(self, tables: SymbolTables) -> None:
        self.tables = tables
        self._plans = [_TileLayer(layer) for layer in tables.layers]
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
                plan.encode_run(encoder, layer[start:stop])
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
        return [plan.decode_layer(decoder, n) for plan in plans]

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
        above = [plan.decode_layer(decoder, n) for plan in plans[:held]]

        def runs() -> Iterator[list[Int32Array]]:
            for start, stop in _runs(n):
                last = [plan.decode_layer(decoder, stop - start) for plan in plans[held:]]
                yield [layer[start:stop] for layer in above] + last

        return above[0], runs()

    def encode_records(self, symbols: Sequence[npt.NDArray[np.integer]]) -> list[bytes]:
        """One payload for each of N images, from symbols [N, D_l] per layer, top first.

        The bytes are those of `encode` on each image alone. Raises ValueError as `encode` does.
        """
        n = self._check_layers(symbols)
        parts = [
            (group, np.ascontiguousarray(indices[:, group.start : group.stop]))
            for plan, layer in zip(self._plans, symbols, strict=True)
            for indices in [plan.to_indices(layer)]
            for group in plan.groups
        ]
        payloads = []
        for image in range(n):
            encoder = RangeEncoder()
            for group, indices in parts:
                group.encode(encoder, indices[image])
            payloads.append(finish(encoder))
        return payloads

    def decode_records(
        self, payloads: Sequence[bytes], layers: int | None = None
    ) -> list[Int32Array]:
        """Symbols int32 [N, D_l] of the first `layers` layers of N payloads of one image each.

        Raises CorruptError as `decode` does.
        """
        plans = self._first(layers)
        groups = [(plan, group) for plan in plans for group in plan.groups]
        indices = {plan: np.zeros((len(payloads), plan.tables.dims), np.int32) for plan in plans}
        for image, payload in enumerate(payloads):
            self._check_plausible(len(payload), 1, len(plans))
            decoder = RangeDecoder(words(payload))
            for plan, group in groups:
                indices[plan][image, group.start : group.stop] = group.decode(decoder)
        return [plan.to_symbols(indices[plan]) for plan in plans]

    def _first(self, layers: int | None) -> list[_TileLayer]:
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


def _runs(n: int) -> Iterator[tuple[int, int]]:
    """Where the runs of n images begin and end."""
    return ((start, min(start + RUN, n)) for start in range(0, n, RUN))
