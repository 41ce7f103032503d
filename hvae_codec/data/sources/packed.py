"""Readers of the packed data sets: sheets of CIFAR-10 images, arrays of MNIST and SVHN.

Layout under a root directory:

* `cifar10/meta.npz` with `{train,test}_labels`, and `cifar10/cifar10_{train,test}/NNN.webp`:
  lossless 1024x1024 RGB sheets of 32 x 32 images each, row by row, the last one padded;
* `mnist/mnist.npz` with `{train,test}_images` uint8 [N, 28, 28] and `{train,test}_labels`;
* `svhn/svhn.npz` with `images` uint8 [N, 32, 32, 3], `labels` and `source_number`, the number of
  the photograph that a crop was cut from.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvae_codec.data.dataset import ImageDataset
from hvae_codec.errors import DatasetError

_IMAGE_SIDE = 32
_SHEET_IMAGES = 32  # along each side of a sheet
_OFFICIAL_CIFAR10_IMAGES = 60_000
_SVHN_TEST_EVERY = 5

MARKERS = {
    "cifar10": "cifar10/meta.npz",
    "mnist": "mnist/mnist.npz",
    "svhn": "svhn/svhn.npz",
}
"""For each packed set, the file whose presence under a root says that the set is there."""


def load_packed(name: str, split: str, root: Path) -> ImageDataset:
    """Read the packed "cifar10", "mnist" or "svhn" under `root`; split is "train" or "test".

    Raises:
        DatasetError: a file is missing, damaged or not of the layout above.
    """
    readers = {"cifar10": _load_cifar10, "mnist": _load_mnist, "svhn": _load_svhn}
    return readers[name](split, root)


def _load_cifar10(split: str, root: Path) -> ImageDataset:
    meta = _read_arrays(root / MARKERS["cifar10"], ("train_labels", "test_labels"))
    labels = meta[f"{split}_labels"]
    missing = _OFFICIAL_CIFAR10_IMAGES - sum(len(part) for part in meta.values())
    per_sheet = _SHEET_IMAGES**2
    images = np.empty((len(labels), _IMAGE_SIDE, _IMAGE_SIDE, 3), np.uint8)
    for start in range(0, len(labels), per_sheet):
        sheet = root / "cifar10" / f"cifar10_{split}" / f"{start // per_sheet:03d}.webp"
        images[start : start + per_sheet] = _read_sheet(sheet)[: len(labels) - start]
    name = f"CIFAR-10 minus {missing:,} images" if missing else "CIFAR-10"
    return ImageDataset(images, labels.astype(np.int64), name, split)


def _load_mnist(split: str, root: Path) -> ImageDataset:
    arrays = _read_arrays(root / MARKERS["mnist"], (f"{split}_images", f"{split}_labels"))
    images = arrays[f"{split}_images"][..., None]
    return ImageDataset(images, arrays[f"{split}_labels"].astype(np.int64), "MNIST", split)


def _load_svhn(split: str, root: Path) -> ImageDataset:
    arrays = _read_arrays(root / MARKERS["svhn"], ("images", "labels", "source_number"))
    # Crops of one photograph look alike: a photograph goes to one split with all its crops.
    in_test = arrays["source_number"] % _SVHN_TEST_EVERY == 0
    chosen = in_test if split == "test" else ~in_test
    part = "1 photograph in 5" if split == "test" else "4 photographs in 5"
    name = f"SVHN, first {len(chosen):,} crops of the official training set ({part})"
    labels = arrays["labels"].astype(np.int64)[chosen]
    return ImageDataset(arrays["images"][chosen], labels, name, split)


def _read_arrays(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in keys}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as arrays {', '.join(keys)}: {error}") from error


def _read_sheet(path: Path) -> NDArray[np.uint8]:
    """One sheet as uint8 [1024, 32, 32, 3]."""
    side = _SHEET_IMAGES * _IMAGE_SIDE
    try:
        with Image.open(path, formats=("WEBP",)) as sheet:
            if sheet.size != (side, side) or sheet.mode != "RGB":
                raise DatasetError(
                    f"{path} must be a {side}x{side} RGB sheet, "
                    f"got {sheet.size[0]}x{sheet.size[1]} {sheet.mode}"
                )
            pixels = np.asarray(sheet)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read as a sheet of images: {error}") from error
    grid = pixels.reshape(_SHEET_IMAGES, _IMAGE_SIDE, _SHEET_IMAGES, _IMAGE_SIDE, 3)
    return grid.swapaxes(1, 2).reshape(-1, _IMAGE_SIDE, _IMAGE_SIDE, 3)
