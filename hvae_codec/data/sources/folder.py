"""Crops of the images in a folder, as a data set to train on."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.images.load import as_uint8
from hvae_codec.data.dataset import ImageDataset
from hvae_codec.errors import DatasetError, ImageError
from hvae_codec.utils.arguments import is_whole, shown
from hvae_codec.utils.folders import files_of
from hvae_codec.utils.progress import progress

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings, in any case, of the names of files that are taken for images."""


def picture_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files in a folder and the folders in it, sorted; links are followed.

    Raises:
        DatasetError: there is no such folder, it cannot be listed, or there is no image in it.

    Warns:
        SkippedFilesWarning: it holds images of other suffixes.
    """
    folder = Path(os.fsdecode(folder)).expanduser()
    if not folder.is_dir():
        raise DatasetError(f"folder of images not found: {folder}")
    try:
        paths = files_of(folder, SUFFIXES)
    except OSError as error:
        raise DatasetError(f"folder of images cannot be listed: {error}") from error
    if not paths:
        raise DatasetError(f"no image in {folder}: looked for files *{', *'.join(SUFFIXES)}")
    return paths


def is_image(path: Path) -> bool:
    """Whether this is a file that is taken for an image by its name."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def load_folder(
    folder: str | os.PathLike[str],
    split: str = "train",
    *,
    crop: int | tuple[int, int] = 32,
    crops: int | None = None,
    seed: int = 0,
) -> ImageDataset:
    """Cut the images of a folder to crops of one size; a progress bar shows when it takes long.

    The images of a split are those in the subfolder of its name. Where a folder has neither
    "train" nor "test" in it, all its images are its split "train". Grey images become RGB when
    any image is RGB.

    Args:
        folder: searched with its subfolders for PNG, JPEG and WebP files.
        split: name of a subfolder, or "train".
        crop: height and width of a crop, or its side, in pixels.
        crops: None for all crops of the regular grid from the upper left corner (what remains at
            the right and lower edges is left out); else this many crops at random places, spread
            evenly over the images, which depend on `seed` and on the names' order only.
        seed: of the random places, >= 0.

    Raises:
        DatasetError: no such folder or split, no images in it, an image that cannot be read
            (the message names it) or is smaller than a crop, or an argument of another type.
    """
    height, width = crop_size(crop)
    if crops is not None:
        crops = count_of("crops", crops, 1)
    seed = count_of("seed", seed, 0)
    if not (isinstance(folder, str | os.PathLike) and os.fsdecode(folder)):
        raise DatasetError(f"a folder is a path; got {type(folder).__name__} {shown(folder)}")
    place = _split_folder(Path(os.fsdecode(folder)).expanduser(), split)
    paths = picture_paths(place)
    counts = _spread(crops, len(paths), seed)
    parts = []
    bar = progress(f"cutting {place.name}", paths, unit="images", leave=False)
    for index, (path, count) in enumerate(zip(bar, counts, strict=True)):
        if count == 0:
            continue
        picture = read_picture(path, height, width)
        key = np.random.SeedSequence((seed, index))
        parts.append(
            grid_crops(picture, height, width)
            if count is None
            else _random_crops(picture, height, width, count, key)
        )
    channels = max(part.shape[3] for part in parts)
    images = np.concatenate([np.broadcast_to(p, (*p.shape[:3], channels)) for p in parts])
    name = f"{height}x{width} crops of {len(parts):,} images in {place.name}"
    return ImageDataset(images, None, name, split)


def crop_size(crop: object) -> tuple[int, int]:
    """Height and width of a crop, of which a caller may have given its side.

    Raises:
        DatasetError: it is neither, or below 1.
    """
    if isinstance(crop, tuple | list) and len(crop) == 2:
        height, width = (count_of("each side of a crop", side, 1) for side in crop)
        return height, width
    if isinstance(crop, tuple | list):
        raise DatasetError(f"crop is a side or (height, width), in pixels; got {shown(crop)}")
    side = count_of("crop", crop, 1)
    return side, side


def count_of(name: str, given: object, least: int) -> int:
    """A whole number of at least `least`. Raises DatasetError, naming the argument."""
    if isinstance(given, bool) or not is_whole(given):
        kind = type(given).__name__
        raise DatasetError(f"{name} must be a whole number; got {kind} {shown(given)}")
    number: int = int(given)  # type: ignore[call-overload]
    if number < least:
        raise DatasetError(f"{name} must be at least {least}, got {shown(given)}")
    if number >= 2**63:
        raise DatasetError(f"{name} must be below 2^63, got {shown(given)}")
    return number


def _split_folder(folder: Path, split: str) -> Path:
    if not isinstance(split, str):
        raise DatasetError(f"a split is a name; got {type(split).__name__} {shown(split)}")
    if split and (folder / split).is_dir():
        return folder / split
    if split == "train" and not (folder / "test").is_dir():
        return folder
    raise DatasetError(f"{folder} has no split {split!r}: no subfolder of that name in it")


def _spread(crops: int | None, pictures: int, seed: int) -> list[int] | list[None]:
    """How many crops to cut from each image; which ones give one more is drawn by seed."""
    if crops is None:
        return [None] * pictures
    counts = np.full(pictures, crops // pictures)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed,))))
    counts[generator.permutation(pictures)[: crops % pictures]] += 1
    return [int(count) for count in counts]


def read_picture(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """The image uint8 [H, W, C] at `path`, which is to hold a crop of `height` x `width`.

    Raises:
        DatasetError: it cannot be read or is smaller; the message names it.
    """
    try:
        picture = as_uint8(path)
    except ImageError as error:
        raise DatasetError(str(error)) from error
    if picture.shape[0] < height or picture.shape[1] < width:
        raise DatasetError(
            f"{path}: image of {picture.shape[0]}x{picture.shape[1]} (height x width) is smaller "
            f"than a crop of {height}x{width}"
        )
    return picture


def grid_crops(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """All crops [N, height, width, C] of the regular grid from the upper left corner."""
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    whole = picture[: rows * height, : columns * width]
    grid = whole.reshape(rows, height, columns, width, -1).swapaxes(1, 2)
    return grid.reshape(rows * columns, height, width, -1)


def _random_crops(
    picture: NDArray[np.uint8], height: int, width: int, count: int, key: np.random.SeedSequence
) -> NDArray[np.uint8]:
    generator = np.random.Generator(np.random.PCG64(key))
    tops = generator.integers(picture.shape[0] - height + 1, size=count)
    lefts = generator.integers(picture.shape[1] - width + 1, size=count)
    windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width), axis=(0, 1))
    return windows[tops, lefts].transpose(0, 2, 3, 1)
