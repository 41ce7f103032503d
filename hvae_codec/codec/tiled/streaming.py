"""Large images through the networks some tiles at a time, in memory that does not grow with them.

The payload codes the top layers of all tiles before the last layer, which nearly all symbols are of
(docs/FORMAT.md). So an encoder has to keep the symbols of the whole image: here in one or two
bytes each, half of what the image itself takes or less. A decoder keeps the top layers alone, and
takes the last one run by run. Chunks are those of the whole path, so both paths give the same bytes
and pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hvae_codec.codec.entropy.tables import Int32Array, SymbolTables
from hvae_codec.codec.tiled.networks import CHUNK, Networks, Refine
from hvae_codec.codec.tiled.tiling import merge_rows, split, tile_grid

Pixels = NDArray[np.uint8]


def symbols_of(
    networks: Networks,
    tables: SymbolTables,
    picture: Pixels,
    tile: tuple[int, int],
    refine: Refine | None = None,
) -> list[NDArray[np.integer]]:
    """Symbols [T, D_l] a layer, top first, of an image uint8 [H, W, C] that is read in strips.

    Equal to `Networks.symbols` of all its tiles, in the smallest type that holds them.
    """
    rows, columns = tile_grid(picture.shape[0], picture.shape[1], tile)
    layers: list[NDArray[np.integer]] = [
        np.empty((rows * columns, layer.dims), _narrowest(layer.low, layer.high))
        for layer in tables.layers
    ]
    strips = (picture[top : top + tile[0]] for top in range(0, len(picture), tile[0]))
    start = 0
    for tiles in regrouped((split(strip, tile) for strip in strips), CHUNK):
        found = networks.symbols(tiles, None if refine is None else _from(refine, start))
        for layer, part in zip(layers, found, strict=True):
            layer[start : start + len(tiles)] = part
        start += len(tiles)
    return layers


def picture_rows(
    networks: Networks,
    runs: Iterable[Sequence[Int32Array]],
    height: int,
    width: int,
    tile: tuple[int, int],
    coding_rmse: float,
) -> Iterator[Pixels]:
    """Strips uint8 [h, width, C] of the image of `runs` of symbols [t, D_l], from the top.

    Equal to `merge` of `Networks.tiles` of all symbols. Every strip is one tile high but the last.
    """
    tiles = (
        networks.tiles([layer[start : start + CHUNK] for layer in run])
        for run in runs
        for start in range(0, len(run[0]), CHUNK)
    )
    rows = regrouped(tiles, tile_grid(height, width, tile)[1])
    return merge_rows(rows, height, width, coding_rmse)


def regrouped(parts: Iterable[Pixels], size: int) -> Iterator[Pixels]:
    """The rows of all parts, `size` at a time; fewer only at the end."""
    held: list[Pixels] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        if count < size:
            continue
        joined = held[0] if len(held) == 1 else np.concatenate(held)
        whole = count - count % size
        yield from (joined[start : start + size] for start in range(0, whole, size))
        held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def _narrowest(low: NDArray[np.integer], high: NDArray[np.integer]) -> np.dtype[np.signedinteger]:
    """int8 if all symbols fit, else int16, which they always do."""
    info = np.iinfo(np.int8)
    fit = int(low.min()) >= info.min and int(high.max()) <= info.max
    return np.dtype(np.int8 if fit else np.int16)


def _from(refine: Refine, start: int) -> Refine:
    """`refine` for tiles that begin at `start` of all."""

    def shifted(x: Tensor, symbols: list[Tensor], index: int) -> list[Tensor]:
        return refine(x, symbols, start + index)

    return shifted
