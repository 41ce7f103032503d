"""Latents of images as features: a mean and a standard deviation per layer and image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """Mean and standard deviation of one layer's posterior, float32 [N, D] each; of q(z_L|x), the
    top layer's, where nothing else is said.

    For an image of several tiles they are those of the average of the latent over its tiles.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def averaged(
    layers: Sequence[tuple[Floats, Floats]], tiles: Sequence[int] | NDArray[np.integer]
) -> list[Features]:
    """Features of each image's average over its tiles, which count as independent.

    layers: mean and deviation, float32 [T, D_l] each, a pair a layer. tiles: of each image, T in
    all, none of them 0.
    """
    if all(count == 1 for count in tiles):
        return [Features(mean, std) for mean, std in layers]
    starts = np.cumsum([0, *tiles[:-1]])
    sizes = np.array(tiles, dtype=np.float32)[:, None]
    return [
        Features(
            (np.add.reduceat(mean, starts) / sizes).astype(np.float32),
            (np.sqrt(np.add.reduceat(np.square(std), starts)) / sizes).astype(np.float32),
        )
        for mean, std in layers
    ]


def none_of(dims: Sequence[int]) -> list[Features]:
    """Features of no image, [0, D_l] each."""
    empty = [np.zeros((0, size), dtype=np.float32) for size in dims]
    return [Features(mean, mean.copy()) for mean in empty]


def joined(parts: Sequence[Sequence[Features]], rows: NDArray[np.integer]) -> list[Features]:
    """The layers' features of several sets of images as one, its rows then picked by `rows`."""
    return [
        Features(
            np.concatenate([part.mean for part in layer])[rows],
            np.concatenate([part.std for part in layer])[rows],
        )
        for layer in zip(*parts, strict=True)
    ]
