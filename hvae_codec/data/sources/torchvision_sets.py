"""The official data sets, as torchvision stores, checks and downloads them."""

from pathlib import Path
from typing import Any

import numpy as np

from hvae_codec.data.dataset import ImageDataset
from hvae_codec.errors import DatasetError

_NAMES = {"cifar10": "CIFAR-10", "mnist": "MNIST", "svhn": "SVHN"}


def load_official(name: str, split: str, root: Path, download: bool) -> ImageDataset | None:
    """Read "cifar10", "mnist" or "svhn" in torchvision's layout under `root`.

    Args:
        name: one of the three.
        split: "train" or "test".
        root: directory; with `download` it is made, and missing files are put there.
        download: fetch from the set's public mirrors what is missing.

    Returns:
        The set, or None where its files are absent or fail a checksum (never with `download`).

    Raises:
        DatasetError: the download failed, a file is damaged, or its reader is not installed.
    """
    try:
        stored = _open(name, split, root, download)
    except ImportError as error:
        raise DatasetError(f"{name}: {error}; install it with `pip install scipy`") from error
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        # torchvision's words for files that are absent or fail their checksum; it has no class.
        if str(error).startswith("Dataset not found") and not download:
            return None
        verb = "downloaded into" if download else "read from"
        raise DatasetError(f"{name} cannot be {verb} {root}: {error}") from error
    images, labels = stored.data, stored.labels if name == "svhn" else stored.targets
    if name == "svhn":
        images = images.transpose(0, 2, 3, 1)
    elif name == "mnist":
        images = images.numpy()[..., None]
    return ImageDataset(
        np.ascontiguousarray(images), np.asarray(labels, np.int64), _NAMES[name], split
    )


def _open(name: str, split: str, root: Path, download: bool) -> Any:
    # Imported here: torchvision takes a second to import, and packed sets and folders need none.
    from torchvision import datasets

    if name == "svhn":
        return datasets.SVHN(str(root), split=split, download=download)
    kind = datasets.CIFAR10 if name == "cifar10" else datasets.MNIST
    return kind(str(root), train=split == "train", download=download)
