"""The images that codecs are compared on: a folder's, or the test images of a data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.images.load import as_uint8
from hvae_codec.data import DATASETS, load_dataset
from hvae_codec.data.sources.photographs import image_paths, published_name
from hvae_codec.errors import DatasetError, ImageError
from hvae_codec.evaluation.metrics.perceptual import WINDOW

SMALL_SIDE = 64
"""Images with no side above this, in pixels, are small."""

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]
Chunk = tuple[Path, ...] | Pixels
"""Some of the images, as workers are given them: files to read, or pixels [N, H, W, C]."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of a benchmark; those of files are read when they are needed.

    name: what results call them. shapes: (height, width, channels) of each. fingerprint: of the
    pixels of all.
    """

    name: str
    images: Chunk
    shapes: tuple[Shape, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.shapes)

    def chunk(self, start: int, stop: int) -> Chunk:
        """The images of a range."""
        return self.images[start:stop]

    def label(self, index: int) -> str:
        """What an image is called."""
        if isinstance(self.images, tuple):
            return self.images[index].name
        return f"image {index}"

    @property
    def pixels(self) -> int:
        """Of all images."""
        return sum(height * width for height, width, _ in self.shapes)

    @property
    def shorter_side(self) -> int:
        """The shortest side of any image."""
        return min(min(shape[:2]) for shape in self.shapes)

    @property
    def small(self) -> bool:
        """Whether no image has a side above SMALL_SIDE."""
        return all(max(shape[:2]) <= SMALL_SIDE for shape in self.shapes)

    @property
    def alike(self) -> bool:
        """Whether all images have one size and as many channels."""
        return len(set(self.shapes)) == 1

    @property
    def sizes(self) -> str:
        """The size of all, or the range of sizes, as width x height."""
        by_area = sorted(self.shapes, key=lambda shape: shape[0] * shape[1])
        first, last = (f"{shape[1]}x{shape[0]}" for shape in (by_area[0], by_area[-1]))
        return first if first == last else f"{first} to {last}"


def read_chunk(chunk: Chunk) -> list[Pixels]:
    """The images uint8 [H, W, C] of a chunk."""
    return [as_uint8(path) for path in chunk] if isinstance(chunk, tuple) else list(chunk)


def load_image_set(
    source: str,
    count: int | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    skip: Callable[[str], None] | None = None,
) -> ImageSet:
    """The test images of a data set, or all images of a folder or of patterns of files.

    Args:
        source: a name of `hvae_codec.data.DATASETS` without a path, or places as `load_photos`
            takes them.
        count: only the first so many.
        root: directory of the data.
        skip: leave out images that cannot be read, have alpha or are too small, and call this with
            a message that names each; without it they are errors.

    Raises:
        DatasetError: there is no such place or set, or no image; an image cannot be used, and the
            message names it.
    """
    if source in DATASETS:
        found = load_dataset(source, "test", root)
        pixels = found.images[:count]
        return _image_set(f"{found.name} {found.split}", pixels, list(pixels))
    paths = image_paths(source, root)
    usable: list[Path] = []
    shapes: list[Shape] = []
    digest = hashlib.sha256()
    for path in paths:
        if len(usable) == count:
            break
        try:
            picture = _usable(path)
        except DatasetError as error:
            if skip is None:
                raise
            skip(f"skipped {error}")
            continue
        usable.append(path)
        shapes.append(_add(digest, picture))
    if not usable:
        raise DatasetError(f"{source}: none of {len(paths):,} images is usable")
    name = published_name(source, root)
    return ImageSet(name, tuple(usable), tuple(shapes), digest.hexdigest())


def _image_set(name: str, images: Pixels, pictures: Sequence[Pixels]) -> ImageSet:
    digest = hashlib.sha256()
    shapes = tuple(_add(digest, picture) for picture in pictures)
    return ImageSet(name, images, shapes, digest.hexdigest())


def _usable(path: Path) -> Pixels:
    try:
        picture = as_uint8(path)
    except (ImageError, OSError) as error:
        known = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise DatasetError(known) from error
    height, width = picture.shape[:2]
    if min(height, width) < WINDOW:
        raise DatasetError(
            f"{path}: image of {height}x{width} (height x width) is too small: SSIM needs sides of "
            f"at least {WINDOW} pixels"
        )
    return picture


def _add(digest: hashlib._Hash, picture: Pixels) -> Shape:
    height, width, channels = picture.shape
    digest.update(f"{height} {width} {channels};".encode())
    digest.update(np.ascontiguousarray(picture).data)
    return height, width, channels
