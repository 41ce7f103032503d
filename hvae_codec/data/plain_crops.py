"""Crops that are no photographs: one colour, a gradient between two, or two with an edge between.

Photographs have few areas without noise. A model that has seen none spends bytes on drawings and
borders, and shows them with errors.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

EXTREME = 0.25
"""Probability of a colour that is black or white, and that of another grey."""


def plain_crop(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A crop uint8 [h, w, 3]: each of the three kinds is as likely."""
    kind = int(generator.integers(3))
    first, second = _colour(generator), _colour(generator)
    if kind == 0:
        return np.broadcast_to(np.rint(first).astype(np.uint8), (*size, 3)).copy()
    position = _positions(size, generator)
    if kind == 1:
        position = (position > generator.uniform(0.1, 0.9)).astype(np.float64)
    blended = first + (second - first) * position[..., None]
    return np.rint(blended).astype(np.uint8)


def _colour(generator: np.random.Generator) -> NDArray[np.float64]:
    """A colour [3], levels in [0, 255]."""
    kind = generator.random()
    if kind < EXTREME:
        return np.full(3, 255.0 * generator.integers(2))
    if kind < 2 * EXTREME:
        return np.full(3, float(generator.integers(256)))
    return generator.integers(256, size=3).astype(np.float64)


def _positions(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """How far each pixel lies along a direction, 0 at the first and 1 at the last; [h, w].

    Every second direction is along rows or columns, as most edges of drawings are.
    """
    quarter = float(generator.integers(4))
    turns = quarter if generator.random() < 0.5 else 4.0 * generator.random()
    angle = turns * math.pi / 2.0
    rows, columns = np.mgrid[: size[0], : size[1]]
    along = math.sin(angle) * rows + math.cos(angle) * columns
    return np.asarray((along - along.min()) / np.ptp(along))
