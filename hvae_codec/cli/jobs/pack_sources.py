"""What `pack` reads: the images of files, folders, patterns and arrays, with names and labels."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hvae_codec.cli.jobs.files import PICTURE_SUFFIXES, find
from hvae_codec.cli.jobs.models import size_of
from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.folders import matching

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.codec.images.conversions import Conversions
    from hvae_codec.codec.images.stored_arrays import StoredRows


@dataclass(frozen=True)
class FilePicture:
    """The image of a file, `conversions` being done to it."""

    path: Path
    conversions: Conversions

    def __call__(self) -> NDArray[np.uint8]:
        """Read it. Raises ImageError, OSError."""
        from hvae_codec.codec.images.load import as_uint8

        return as_uint8(self.path, self.conversions)


@dataclass(frozen=True, eq=False)
class ArrayPicture:
    """A row of an array [N, H, W, C] in memory, or of the one in `file`."""

    images: NDArray[np.uint8] | StoredRows
    row: int
    file: Path | None = None

    def __call__(self) -> NDArray[np.uint8]:
        """The row."""
        row: NDArray[np.uint8] = self.images[self.row]
        return row


@dataclass(frozen=True)
class Source:
    """An image to pack: how to call it in messages, its name and label in the archive, how to get
    it.
    """

    shown: str
    name: str | None
    picture: FilePicture | ArrayPicture
    label: int | None = None

    def size(self) -> tuple[int, int] | None:
        """Height and width; None if the file cannot be read, or only once."""
        if isinstance(self.picture, FilePicture):
            return size_of(self.picture.path)
        height, width = self.picture.images.shape[1:3]
        return height, width


def find_pictures(inputs: Sequence[Path]) -> list[tuple[Path, Path]]:
    """The files that images, folders, patterns and .npy arrays stand for, each with its path below
    the folder it was found in.

    Raises:
        HvaeCodecError: nothing matches a pattern; or as `hvae_codec.cli.jobs.files.find`.
    """
    return find(_expanded(inputs), PICTURE_SUFFIXES)


def folder_classes(found: Iterable[tuple[Path, Path]], inputs: Sequence[Path]) -> dict[str, int]:
    """Numbers of the class folders of files, as `find_pictures` has them: their places in the order
    of their names, as torchvision's `ImageFolder` numbers classes.

    Raises:
        HvaeCodecError: a file lies in no class folder, or a class folder holds no image.
    """
    names: set[str] = set()
    for file, below in found:
        if len(below.parts) < 2:
            raise HvaeCodecError(
                f"{file} lies in no class folder: --folder-labels takes folders of class folders"
            )
        names.add(below.parts[0])
    classes = {each for top in _expanded(inputs) for each in top.iterdir() if each.is_dir()}
    if empty := sorted(each for each in classes if each.name not in names):
        raise HvaeCodecError(
            f"{empty[0]} holds no image: as a class it would have a number of its own; remove it, "
            "or convert what it holds"
        )
    return {name: number for number, name in enumerate(sorted(names))}


def picture_sources(
    found: Iterable[tuple[Path, Path]],
    conversions: Conversions,
    *,
    named: bool,
    classes: Mapping[str, int] | None = None,
) -> list[Source]:
    """The images of files as `find_pictures` has them; with `classes` they have labels.

    Raises:
        HvaeCodecError: an array is not of images.
    """
    sources: list[Source] = []
    for file, below in found:
        label = None if classes is None else classes[below.parts[0]]
        if file.suffix.lower() == ".npy":
            rows = array_sources(_read_array(file), str(file), file)
            sources += [replace(row, label=label) for row in rows]
        else:
            name = below.as_posix() if named else None
            sources.append(Source(str(file), name, FilePicture(file, conversions), label))
    return sources


def array_sources(
    images: NDArray[np.uint8] | StoredRows,
    shown: str = "the data set",
    file: Path | None = None,
    labels: NDArray[np.int64] | None = None,
) -> list[Source]:
    """The images of an array [N, H, W, C], which may be that of a file; they have no names.
    `labels`: int64 [N].
    """
    numbers = [None] * len(images) if labels is None else labels.tolist()
    return [
        Source(f"image {i} of {shown}", None, ArrayPicture(images, i, file), number)
        for i, number in enumerate(numbers)
    ]


def _expanded(inputs: Sequence[Path]) -> list[Path]:
    """Patterns replaced by what they match; the shell does so too, unless they are quoted."""
    found: list[Path] = []
    for path in inputs:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            continue
        matches = matching(path)
        if not matches:
            raise HvaeCodecError(f"nothing matches {path}")
        found += matches
    return found


def _read_array(file: Path) -> StoredRows:
    import numpy as np

    from hvae_codec.codec.images.stored_arrays import StoredRows

    try:
        array = StoredRows(file)
    except ValueError as error:
        raise HvaeCodecError(f"{file} cannot be read as an array: {error}") from error
    if array.dtype != np.uint8 or len(array.shape) != 4:
        raise HvaeCodecError(
            f"{file} must hold images, uint8 [N, H, W, C]; it holds "
            f"{array.dtype} {list(array.shape)}"
        )
    return array
