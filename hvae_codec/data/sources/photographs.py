"""Images of any size from several folders, some held out, as what crops are cut from."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_codec.data.dataset import ImageDataset
from hvae_codec.data.sources.folder import (
    SUFFIXES,
    grid_crops,
    is_image,
    picture_paths,
    read_picture,
)
from hvae_codec.data.sources.roots import search_roots
from hvae_codec.errors import DatasetError
from hvae_codec.utils.folders import chosen, matching
from hvae_codec.utils.progress import progress

HELD_OUT_EVERY = 25
"""Of the images in order, the first and every so many after it are the split "test"."""

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Photos:
    """Images in memory, RGB uint8 [H, W, 3] each, none smaller than `size` (height, width).

    `name` says for publication how many of which images they are.
    """

    pictures: tuple[NDArray[np.uint8], ...]
    size: tuple[int, int]
    name: str
    split: str

    def fixed_crops(self) -> ImageDataset:
        """Crops of `size`, always the same: of each image the grid of as many as it holds, in
        its centre.
        """
        images = np.concatenate([_centred_grid(picture, self.size) for picture in self.pictures])
        height, width = self.size
        return ImageDataset(images, None, f"{height}x{width} crops of {self.name}", self.split)


def load_photos(
    places: str,
    split: str,
    size: tuple[int, int],
    root: str | os.PathLike[str] | None = None,
    *,
    skip: Callable[[str], None] | None = None,
) -> Photos:
    """Read one split of the images in some folders; a progress bar shows when it takes long.

    Images are ordered by place, as given, and in a folder by path; of an image that lies in two of
    the places the first counts. The split "test" is every 25th, from the first one on, and "train"
    the others. Grey images become RGB.

    Args:
        places: folders or patterns of folders or image files, such as photos/bsds500_* or
            photos/web/a_*.jpg, with commas between them; folders are searched with their
            subfolders; relative places from here, else from a data root.
        split: "train" or "test".
        size: height and width that crops will have.
        root: directory of the data; by default those of `hvae_codec.data.search_roots`.
        skip: leave out images that cannot be read or are smaller than a crop, and call this with a
            message that names each; without it they are errors.

    Raises:
        DatasetError: a place is not found, there are no images for the split, or one cannot be
            read or is smaller than a crop (the message names it).
    """
    if not isinstance(split, str) or split not in SPLITS:
        raise DatasetError(f"photographs have the splits {' and '.join(SPLITS)}, not {split!r:.80}")
    if min(size) < 1:
        raise DatasetError(f"crop must be at least 1, got {size}")
    paths = image_paths(places, root)
    held_out = range(0, len(paths), HELD_OUT_EVERY)
    chosen = [path for index, path in enumerate(paths) if (index in held_out) == (split == "test")]
    if not chosen:
        raise DatasetError(f"{places}: one image is too few to train on and to hold one out")
    images = []
    for path in progress("reading photographs", chosen, unit="images", leave=False):
        try:
            images.append(_as_rgb(read_picture(path, *size)))
        except DatasetError as error:
            if skip is None:
                raise
            skip(f"skipped {error}")
    if not images:
        raise DatasetError(f"{places}: none of {len(chosen):,} images of split {split} is usable")
    name = f"{len(images):,} of {len(paths):,} images in {published_name(places, root)}"
    return Photos(tuple(images), size, name, split)


def image_paths(places: str, root: str | os.PathLike[str] | None = None) -> list[Path]:
    """The image files of some places, as `load_photos` takes them, each once.

    Raises:
        DatasetError: a place is not found, or a folder has no images.
    """
    found = [path for place in places.split(",") for path in _paths(place, root)]
    # A dictionary keeps the first of equal keys where it was.
    return list(dict.fromkeys(path.resolve() for path in found))


def published_name(places: str, root: str | os.PathLike[str] | None = None) -> str:
    """What results on these places call them: folders by their names, files by their pattern."""
    return ", ".join(dict.fromkeys(_published(place, root) for place in places.split(",")))


def _found(place: str, root: str | os.PathLike[str] | None) -> list[Path]:
    """What a place names, sorted; a folder or image file is among it. Raises DatasetError."""
    bases = [Path(), *search_roots(root)]
    for base in bases:
        whole = base / Path(place).expanduser()
        found = [whole] if whole.is_dir() else matching(whole)
        if place and _places_among(found):
            return found
    looked = " or ".join(str(base) for base in bases)
    raise DatasetError(f"no folder or image found at {place!r}; looked in {looked}")


def _paths(place: str, root: str | os.PathLike[str] | None) -> list[Path]:
    """The image files of a place, in order."""
    found = _found(place, root)
    chosen([path for path in found if not path.is_dir()], SUFFIXES, place)  # warns of the others
    places = _places_among(found)
    return [path for one in places for path in ([one] if is_image(one) else picture_paths(one))]


def _places_among(found: list[Path]) -> list[Path]:
    """The folders and image files."""
    return [path for path in found if path.is_dir() or is_image(path)]


def _published(place: str, root: str | os.PathLike[str] | None) -> str:
    """What a place is called: its folders' names, or its own pattern where it names files."""
    matches = _places_among(_found(place, root))
    if all(match.is_dir() for match in matches):
        return ", ".join(match.name for match in matches)
    return f"{matches[0].parent.name}/{Path(place).name}"


def _as_rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _centred_grid(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """All crops [N, h, w, 3] of the grid that has as much left over on either side."""
    rows, columns = (side // crop for side, crop in zip(picture.shape, size, strict=False))
    height, width = size
    top, left = (picture.shape[0] - rows * height) // 2, (picture.shape[1] - columns * width) // 2
    return grid_crops(picture[top:, left:], height, width)
