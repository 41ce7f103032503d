"""Pictures of any size from several folders, some held out, as what crops are cut from."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hvae_codec.data.dataset import ImageDataset
from hvae_codec.data.folder import grid_crops, picture_paths, read_picture
from hvae_codec.data.roots import search_roots
from hvae_codec.errors import DatasetError

HELD_OUT_EVERY = 25
"""Of the pictures in order, the first and every so many after it are the split "test"."""

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Photos:
    """Pictures in memory, RGB uint8 [H, W, 3] each, none smaller than `size` (height, width).

    `name` says for publication how many of which pictures they are.
    """

    pictures: tuple[NDArray[np.uint8], ...]
    size: tuple[int, int]
    name: str
    split: str

    def fixed_crops(self) -> ImageDataset:
        """Crops of `size`, always the same: of each picture the grid of as many as it holds, in
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
) -> Photos:
    """Read one split of the pictures in some folders; a progress bar shows when it takes long.

    Pictures are ordered by folder, as given, and in a folder by path; of a picture that lies in two
    of the folders the first counts. The split "test" is every 25th, from the first one on, and
    "train" the others. Grey pictures become RGB.

    Args:
        places: folders or patterns of folders, such as photos/bsds500_*, with commas between them,
            each searched with its subfolders; relative ones from here, else from a data root.
        split: "train" or "test".
        size: height and width that crops will have.
        root: directory of the data; by default those of `hvae_codec.data.search_roots`.

    Raises:
        DatasetError: a folder is not found, there are no pictures for the split, or one cannot be
            read or is smaller than a crop (the message names it).
    """
    if split not in SPLITS:
        raise DatasetError(f"photographs have the splits {' and '.join(SPLITS)}, not {split!r}")
    if min(size) < 1:
        raise DatasetError(f"crop must be at least 1, got {size}")
    folders = _folders(places, root)
    # A dictionary keeps the first of equal keys where it was.
    paths = list(dict.fromkeys(path.resolve() for one in folders for path in picture_paths(one)))
    held_out = range(0, len(paths), HELD_OUT_EVERY)
    chosen = [path for index, path in enumerate(paths) if (index in held_out) == (split == "test")]
    if not chosen:
        raise DatasetError(f"{places}: one picture is too few to train on and to hold one out")
    progress = tqdm(chosen, desc="Reading photographs", unit="picture", delay=1, leave=False)
    pictures = tuple(_as_rgb(read_picture(path, *size)) for path in progress)
    names = ", ".join(folder.name for folder in folders)
    return Photos(pictures, size, f"{len(chosen):,} of {len(paths):,} pictures in {names}", split)


def _folders(places: str, root: str | os.PathLike[str] | None) -> list[Path]:
    """The folders that `places` names, in its order, those of a pattern sorted."""
    found: list[Path] = []
    for place in places.split(","):
        bases = [Path(), *search_roots(root)]
        matches: list[Path] = []
        for base in bases:
            whole = base / Path(place).expanduser()
            names = [str(whole)] if whole.is_dir() else sorted(glob.glob(str(whole)))
            matches = [Path(name) for name in names if Path(name).is_dir()]
            if matches:
                break
        if not place or not matches:
            looked = " or ".join(str(base) for base in bases)
            raise DatasetError(f"folder of pictures not found: {place!r}, looked for in {looked}")
        found += matches
    return found


def _as_rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _centred_grid(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """All crops [N, h, w, 3] of the grid that has as much left over on either side."""
    rows, columns = (side // crop for side, crop in zip(picture.shape, size, strict=False))
    height, width = size
    top, left = (picture.shape[0] - rows * height) // 2, (picture.shape[1] - columns * width) // 2
    return grid_crops(picture[top:, left:], height, width)
