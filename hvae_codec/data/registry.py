"""The names of the data sets and the one function that loads them."""

import os
from collections.abc import Callable
from pathlib import Path

from hvae_codec.data.dataset import ImageDataset
from hvae_codec.data.random_crops import RandomCrops
from hvae_codec.data.sources.folder import count_of, crop_size, load_folder
from hvae_codec.data.sources.packed import MARKERS, load_packed
from hvae_codec.data.sources.photographs import load_photos
from hvae_codec.data.sources.roots import ROOT_VARIABLE, search_roots
from hvae_codec.data.sources.torchvision_sets import load_official
from hvae_codec.errors import DatasetError
from hvae_codec.utils.arguments import shown

DATASETS = {
    "cifar10": "CIFAR-10, 32x32 RGB: torchvision's files, else the packed ones",
    "mnist": "MNIST, 28x28 grey: torchvision's files, else the packed ones",
    "svhn": "SVHN cropped digits, 32x32 RGB: torchvision's files, else the packed ones",
    "packed-cifar10": "CIFAR-10 minus 971 images, as lossless sheets",
    "packed-mnist": "MNIST, as one file of arrays",
    "packed-svhn": "the first 1,083 crops of SVHN's training set, split by photograph",
    "folder:PATH": "crops of the PNG, JPEG and WebP images in the folder PATH, or in PATH/SPLIT",
    "photos:PATH": "crops of the images in PATH, folders or patterns of folders or files with "
    "commas between them; every 25th image is held out for the split test",
}
"""Names that `load_dataset` takes, and what each is."""

SPLITS = ("train", "test")
"""Splits of the named sets; those of a folder are its subfolders."""

_FOLDER = "folder:"
_PHOTOS = "photos:"


def load_dataset(
    name: str,
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    *,
    crop: int | tuple[int, int] = 32,
    crops: int | None = None,
    seed: int = 0,
) -> ImageDataset:
    """Load a data set into memory.

    "cifar10", "mnist" and "svhn" are torchvision's files where a root holds them, else the packed
    set of that name; the result's `name` says which. "packed-..." are the packed files only.

    Args:
        name: a key of `DATASETS`, with a path for PATH.
        split: "train" or "test"; for a folder, as `hvae_codec.data.load_folder` takes it.
        root: directory to look in; by default those of `hvae_codec.data.search_roots`.
        download: let torchvision fetch the official set into the last root if no root holds it.
        crop, crops, seed: how a folder is cut, as `load_folder` takes them; photographs take
            `crop` alone and are cut as `Photos.fixed_crops` does; the named sets have their own
            size and take none of them.

    Raises:
        DatasetError: unknown name or split, files absent (the message says where they were looked
            for and how to get them) or damaged, or a failed download.
    """
    _check_name(name)
    if name.startswith(_FOLDER):
        folder = name.removeprefix(_FOLDER)
        if not folder:
            raise DatasetError(f"{name} names no folder: there is folder:PATH")
        return load_folder(folder, split, crop=crop, crops=crops, seed=seed)
    if name.startswith(_PHOTOS):
        places = name.removeprefix(_PHOTOS)
        return load_photos(places, split, crop_size(crop), root).fixed_crops()
    if name not in DATASETS:
        raise DatasetError(f"unknown data set {name!r}; there are {', '.join(DATASETS)}")
    if not isinstance(split, str) or split not in SPLITS:
        raise DatasetError(f"{name} has the splits {' and '.join(SPLITS)}, not {shown(split)}")
    roots = search_roots(root)
    kind = name.removeprefix("packed-")
    if name == kind:
        for place in roots:
            if found := load_official(kind, split, place, download=False):
                return found
        if download and (found := load_official(kind, split, roots[-1], download=True)):
            return found
    for place in roots:
        if (place / MARKERS[kind]).is_file():
            return load_packed(kind, split, place)
    raise DatasetError(_not_found(name, kind, roots))


def load_training(
    name: str,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    *,
    crop: tuple[int, int],
    crops: int | None = None,
    seed: int = 0,
    plain: float = 0.0,
    skip: Callable[[str], None] | None = None,
) -> ImageDataset | RandomCrops:
    """Load what a model is trained on: of photographs random crops, of other sets the split
    "train".

    Args:
        name, root, download: as `load_dataset` takes them.
        crop: height and width of the model's images.
        crops: how many an epoch has, of photographs and only of them.
        seed: of the random crops, >= 0.
        plain: share of crops that are no photographs, 0 to 1; as `RandomCrops` takes it.
        skip: as `load_photos` takes it; other sets have no images to skip.

    Raises:
        DatasetError: as `load_dataset`; or `crops` is missing, or given for another set.
    """
    _check_name(name)
    if name.startswith(_PHOTOS):
        if crops is None:
            raise DatasetError(
                f"{name} needs a number of crops an epoch, such as --crops-per-epoch 20000"
            )
        number, first = count_of("crops", crops, 1), count_of("seed", seed, 0)
        places = name.removeprefix(_PHOTOS)
        photos = load_photos(places, "train", crop_size(crop), root, skip=skip)
        return RandomCrops(photos, number, first, plain)
    if crops is not None:
        raise DatasetError(f"{name} has epochs of its own; only {_PHOTOS}PATH takes crops an epoch")
    return load_dataset(name, "train", root, download, crop=crop)


def _check_name(name: object) -> None:
    """Refuse what is no text: DatasetError."""
    if not isinstance(name, str):
        known = ", ".join(DATASETS)
        kind = f"{type(name).__name__} {shown(name)}"
        raise DatasetError(f"a data set is given by its name: {known}; got {kind}")


def _not_found(name: str, kind: str, roots: list[Path]) -> str:
    places = " or ".join(str(place) for place in roots)
    wanted = f"the packed file {MARKERS[kind]}"
    if name == kind:
        wanted = f"torchvision's files or {wanted}"
    return (
        f"data set {name} not found: looked for {wanted} in {places}. "
        f"Download the official set with load_dataset({kind!r}, download=True), "
        f"or name the directory that holds it with {ROOT_VARIABLE}=DIRECTORY"
    )
