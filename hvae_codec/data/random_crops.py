"""Random crops of photographs, never twice the same: few images stretched to train for long."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvae_codec.data.dataset import content_hash
from hvae_codec.data.plain_crops import plain_crop
from hvae_codec.data.sources.photographs import Photos
from hvae_codec.errors import DatasetError
from hvae_codec.utils.executors.prefetch import ahead

MAX_SCALE = 2.2
"""Side of the largest window that is reduced to a crop, in sides of the crop."""
REDUCED = 0.7
"""Probability that a crop is reduced from a larger window."""
BICUBIC = 0.7
"""Probability that it is reduced by the bicubic filter, and not by Lanczos'."""
TURNED = 0.15
"""Probability of an upside-down crop, and that of a transposed one."""
RECOLOURED = 0.5
GAINS = (0.75, 1.25)
"""Bounds of a gain; half of it is a channel's own, half common to all."""
GAMMAS = (0.8, 1.25)
FILLED = 0.08
"""Probability that a rectangle of one colour lies on a crop, as drawings and borders have."""

_GOLDEN_RATIO = (math.sqrt(5.0) - 1.0) / 2.0

_AHEAD = 4
"""Batches made before they are asked for."""


class RandomCrops:
    """So many crops [h, w, 3] an epoch, each a function of seed, epoch and index alone.

    A crop is cut at random from an image, at its own or at a smaller scale, mirrored or not,
    sometimes turned, in half of the cases changed in colour, and seldom with a rectangle of one
    colour on it: photographs have few flat areas, and a model that saw none spends bytes on them.
    An image's share of the crops is its share of all pixels. `plain` is the probability of a
    `plain_crop` instead, 0 to 1.
    """

    def __init__(self, photos: Photos, count: int, seed: int, plain: float = 0.0) -> None:
        if count < 1 or seed < 0:
            raise DatasetError(f"crops must be at least 1 and seed 0, got {count} and {seed}")
        if not 0.0 <= plain <= 1.0:
            raise DatasetError(f"the share of plain crops must lie between 0 and 1, got {plain}")
        self.photos = photos
        self.count = count
        self.seed = seed
        self.plain = plain
        self._areas = np.cumsum([p.shape[0] * p.shape[1] for p in photos.pictures], dtype=np.int64)

    def __len__(self) -> int:
        return self.count

    @property
    def name(self) -> str:
        """The name under which results are published that were trained on these crops."""
        height, width = self.photos.size
        plain = f"{100 * self.plain:g} % plain, " if self.plain else ""
        crops = f"random {height}x{width} crops, {self.count:,} an epoch"
        return f"{crops}, {plain}of {self.photos.name}"

    @property
    def split(self) -> str:
        """The part of the images that is cut."""
        return self.photos.split

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all images that are cut."""
        return content_hash(self.photos.pictures)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one crop as models order it: (C, H, W)."""
        return 3, *self.photos.size

    def batches(
        self, epoch: int, order: Iterable[NDArray[np.int64]]
    ) -> Iterator[NDArray[np.uint8]]:
        """The crops [B, h, w, 3] of each index array [B] of `order`, made by a thread of its own
        while the ones before are used.
        """
        return ahead((self.batch(epoch, indices) for indices in order), _AHEAD)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The crops [B, h, w, 3] of an epoch at `indices` [B]."""
        return np.stack([self.crop(epoch, int(index)) for index in indices])

    def crop(self, epoch: int, index: int) -> NDArray[np.uint8]:
        """The crop [h, w, 3] of an epoch at `index`."""
        # The seeds that SeedSequence((seed, epoch)) would spawn, for the epoch's order.
        key = np.random.SeedSequence((self.seed, epoch), spawn_key=(index,))
        generator = np.random.Generator(np.random.PCG64(key))
        if self.plain and generator.random() < self.plain:
            return plain_crop(self.photos.size, generator)
        picture = self.photos.pictures[self._image_of(epoch * self.count + index)]
        crop = _turned(_cut(picture, self.photos.size, generator), generator)
        return _filled(np.ascontiguousarray(_recoloured(crop, generator)), generator)

    def _image_of(self, number: int) -> int:
        """The image of the crop of this number, counted over all epochs.

        Multiples of the golden ratio, modulo 1, spread evenly over [0, 1): so do crops over images.
        """
        total = int(self._areas[-1])
        position = number * round(total * _GOLDEN_RATIO) % total
        return int(np.searchsorted(self._areas, position, side="right"))


def _cut(
    picture: NDArray[np.uint8], size: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.uint8]:
    """A window of the image, of `size` or reduced to it."""
    scale = generator.uniform(1.0, MAX_SCALE) if generator.random() < REDUCED else 1.0
    scale = min(scale, *(side / crop for side, crop in zip(picture.shape, size, strict=False)))
    height, width = (round(side * scale) for side in size)
    top = generator.integers(picture.shape[0] - height + 1)
    left = generator.integers(picture.shape[1] - width + 1)
    window = picture[top : top + height, left : left + width]
    if (height, width) == size:
        return window
    bicubic = generator.random() < BICUBIC
    filters = Image.Resampling
    reduced = Image.fromarray(window).resize(
        size[::-1], filters.BICUBIC if bicubic else filters.LANCZOS
    )
    return np.asarray(reduced)


def _turned(crop: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The crop mirrored, upside down, or transposed if it is square."""
    if generator.random() < 0.5:
        crop = crop[:, ::-1]
    turn = generator.random()
    if turn < TURNED:
        return crop[::-1]
    if turn < 2 * TURNED and crop.shape[0] == crop.shape[1]:
        return crop.transpose(1, 0, 2)
    return crop


def _recoloured(crop: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The crop with other gains and another gamma; in half of the cases itself."""
    if generator.random() >= RECOLOURED:
        return crop
    gains = 0.5 * generator.uniform(*GAINS, size=3) + 0.5 * generator.uniform(*GAINS)
    levels = (np.arange(256) / 255.0) ** generator.uniform(*GAMMAS)
    tables = np.rint(255.0 * np.clip(levels[:, None] * gains, 0.0, 1.0)).astype(np.uint8)
    return tables[crop, np.arange(3)]


def _filled(crop: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The crop, or a copy with a rectangle of some colour, of black or of white on it."""
    if generator.random() >= FILLED:
        return crop
    height, width = (int(generator.integers(side // 5, side + 1)) for side in crop.shape[:2])
    top, left = (
        int(generator.integers(side - filled + 1))
        for side, filled in zip(crop.shape, (height, width), strict=False)
    )
    coloured = generator.random() < 0.5
    colour = generator.integers(256, size=3) if coloured else 255 * generator.integers(2)
    crop = crop.copy()
    crop[top : top + height, left : left + width] = colour
    return crop
