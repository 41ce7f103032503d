"""Surfaces between the models of a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvae_codec.reporting.results import ModelRow, Sweep
from hvae_codec.reporting.selection import cells

Array = NDArray[np.float64]

_FACETS_ALONG = 40
"""About as many facets as a whole grid has along each side."""


def facets(sweep: Sweep, rows: tuple[ModelRow, ...], columns: Array) -> Array:
    """Quads that tile the grid's cells: float64 [F, 4, D], corners going around.

    `columns` float64 [N, D] holds what each model has (places, values, colours); inside a cell it
    is bilinear in the cell's sides. A cell that lacks one corner is the triangle of the others; one
    that lacks more is left out. [0, 4, D] where the betas are no grid.
    """
    found = [corners for corners in cells(sweep, rows) if len(corners) >= 3]
    steps = max(2, _FACETS_ALONG // max(1, round(len(rows) ** 0.5)))
    parts = [
        _bilinear(columns[list(corners) + [corners[-1]] * (4 - len(corners))], steps)
        for corners in found
    ]
    return np.concatenate(parts) if parts else np.empty((0, 4, columns.shape[1]))


def _bilinear(corners: Array, steps: int) -> Array:
    """Quads [steps^2, 4, D] that tile the patch between four corners [4, D], given going around."""
    along = np.linspace(0.0, 1.0, steps + 1)
    u, v = along[:, None, None], along[None, :, None]
    a, b, c, d = corners
    net = (1 - u) * ((1 - v) * a + v * b) + u * ((1 - v) * d + v * c)
    quads = np.stack([net[:-1, :-1], net[:-1, 1:], net[1:, 1:], net[1:, :-1]], axis=2)
    return quads.reshape(-1, 4, corners.shape[1])
