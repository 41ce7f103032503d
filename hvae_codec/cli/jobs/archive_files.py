"""What the commands on archives read and write: images to pack, and where unpacked ones go."""

from __future__ import annotations

import glob
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import hvae_codec
from hvae_codec.cli.common import print_warning
from hvae_codec.cli.jobs.files import PICTURE_SUFFIXES, distinct, find
from hvae_codec.cli.jobs.models import size_of
from hvae_codec.errors import CorruptError, HvaeCodecError
from hvae_codec.utils.atomic_files import replacing, write_atomically
from hvae_codec.utils.folders import in_a_cycle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.codec.archive.info import PictureInfo
    from hvae_codec.codec.images.conversions import Conversions
    from hvae_codec.codec.images.stored_arrays import StoredRows

_PIXEL_BATCH = 1 << 24


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


def picture_sources(
    inputs: Sequence[Path], conversions: Conversions, *, named: bool
) -> list[Source]:
    """The images that files, folders, patterns and .npy arrays stand for.

    Raises:
        HvaeCodecError: as `hvae_codec.cli.jobs.files.find`; or an array is not of images.
    """
    sources: list[Source] = []
    for file, below in find(_expanded(inputs), PICTURE_SUFFIXES):
        if file.suffix.lower() == ".npy":
            sources += array_sources(_read_array(file), str(file), file)
        else:
            name = below.as_posix() if named else None
            sources.append(Source(str(file), name, FilePicture(file, conversions)))
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


@contextmanager
def open_archive(path: Path) -> Iterator[hvae_codec.Archive]:
    """An archive to read, a damaged index being a line on standard error."""
    with _warnings_shown():
        archive = hvae_codec.Archive(path)
    with archive:
        yield archive


@contextmanager
def open_writer(
    path: Path,
    codec: hvae_codec.Codec,
    mode: str,
    *,
    labels: bool = False,
    whole: bool = False,
) -> Iterator[hvae_codec.ArchiveWriter]:
    """An archive to write. Mode "new": nothing may be there; "append": add to what is; "replace":
    what is there stays until the new archive is whole. With `labels` a new one has room for them.
    With `whole` a new one, too, appears whole
    or not at all; without, what was written of it outlives the process.

    Raises:
        HvaeCodecError: there is a file and the mode is "new".
    """
    if mode == "new" and path.exists():
        raise HvaeCodecError(f"{path} is there already; --append adds to it, --replace replaces it")
    path.parent.mkdir(parents=True, exist_ok=True)
    apart = mode == "replace" or (whole and mode == "new")
    target = path.with_name(f".{path.name}.{os.getpid()}") if apart else path
    try:
        with _warnings_shown():
            writer = hvae_codec.ArchiveWriter(target, codec, append=mode == "append", labels=labels)
        with writer:
            yield writer
        if target != path:
            os.replace(target, path)
    finally:
        if target != path:
            target.unlink(missing_ok=True)


def picture_number(archive: hvae_codec.Archive, key: str) -> int:
    """The number of the image of this name, or of this number where no image has the name.

    Raises:
        HvaeCodecError: there is neither.
    """
    if key in archive:
        return archive.number(key)
    try:
        number = int(key)
    except ValueError:
        raise HvaeCodecError(f"no image of the archive is named {key!r}") from None
    if number not in archive:
        raise HvaeCodecError(f"the archive has {len(archive)} images, none of number {number}")
    return number % len(archive)


def unpacked_paths(
    archive: hvae_codec.Archive, parts: Sequence[range], folder: Path
) -> dict[int, Path]:
    """The path of each image's PNG: its name with another suffix, or its number.

    Where two names differ in the suffix alone, the images keep it before ".png". Where that does
    not tell them apart, they have their number there too. Images whose directory is damaged have
    no path.

    Raises:
        HvaeCodecError: a name leads out of the folder.
    """
    infos = [info for part in parts for info in _listed(archive, part)]
    digits = len(str(max(0, len(archive) - 1)))
    short = [_relative(info, digits) for info in infos]
    long = [
        path if info.name is None else PurePosixPath(f"{info.name}.png")
        for info, path in zip(infos, short, strict=True)
    ]
    named = distinct(short, long)
    numbered = [
        path.with_name(f"{path.stem}.{info.number}.png")
        for info, path in zip(infos, named, strict=True)
    ]
    paths = distinct(named, numbered)
    return {info.number: folder / path for info, path in zip(infos, paths, strict=True)}


def write_labels(
    archive: hvae_codec.Archive, numbers: Iterable[int], paths: Mapping[int, Path], folder: Path
) -> None:
    """The labels of images as `labels.json` in the folder: an object, by path below it."""
    labels = _labels(archive)
    named = {paths[number].relative_to(folder).as_posix(): labels.get(number) for number in numbers}
    given = {path: label for path, label in named.items() if label is not None}
    if given:
        write_atomically(folder / "labels.json", _json(given), durable=False)


def write_array(
    archive: hvae_codec.Archive,
    numbers: Sequence[int],
    output: Path,
    progress: Callable[[int], object],
) -> None:
    """The images as a .npy file uint8 [N, H, W, C]; it appears whole or not at all. Where they have
    labels, these are a JSON list of N in the file of the same name with the suffix .labels.json.

    Raises:
        HvaeCodecError: the sizes differ, or there is no image.
        CorruptError: an image cannot be read.
    """
    import numpy as np

    shapes = {info.number: (info.height, info.width, info.channels) for info in archive.listing()}
    found = sorted({shapes[number] for number in numbers})
    if len(found) != 1:
        sizes = ", ".join(f"{w}x{h}x{c}" for h, w, c in found[:4]) or "none"
        raise HvaeCodecError(f"a .npy holds images of one size; these are {sizes}")
    output.parent.mkdir(parents=True, exist_ok=True)
    head = {"descr": "|u1", "fortran_order": False, "shape": (len(numbers), *found[0])}
    step = max(1, _PIXEL_BATCH // int(np.prod(found[0])))
    with replacing(output, durable=False) as file:
        np.lib.format.write_array_header_1_0(file, head)
        for start in range(0, len(numbers), step):
            pictures = archive.decode(numbers[start : start + step])
            for picture in pictures:
                file.write(np.ascontiguousarray(picture).data)
            progress(len(pictures))
    labels = _labels(archive)
    if labels:
        listed = [labels.get(number) for number in numbers]
        write_atomically(output.with_suffix(".labels.json"), _json(listed), durable=False)


def _expanded(inputs: Sequence[Path]) -> list[Path]:
    """Patterns replaced by what they match; the shell does so too, unless they are quoted."""
    found: list[Path] = []
    for path in inputs:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            continue
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not matches:
            raise HvaeCodecError(f"nothing matches {path}")
        found += (match for match in matches if not in_a_cycle(match))
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


def _labels(archive: hvae_codec.Archive) -> dict[int, Any]:
    """The labels of an archive by number, but those of damaged blocks."""
    if not archive.info.labels:
        return {}
    infos = (info for part in archive.blocks for info in _listed(archive, part))
    return {info.number: info.label for info in infos if info.label is not None}


def _json(value: object) -> bytes:
    return f"{json.dumps(value, ensure_ascii=False)}\n".encode()


def _listed(archive: hvae_codec.Archive, part: range) -> list[PictureInfo]:
    """The images of a range; none if their block's directory is damaged."""
    try:
        return list(archive.listing(part))
    except CorruptError:
        return []


def _relative(info: PictureInfo, digits: int) -> PurePosixPath:
    """Where an image goes below the folder. Refuses names that lead out of it on any system."""
    if info.name is None:
        return PurePosixPath(f"{info.number:0{digits}d}.png")
    for kind in (PurePosixPath, PureWindowsPath):
        relative = kind(info.name)
        if relative.anchor or ".." in relative.parts or not relative.name or "\0" in info.name:
            raise HvaeCodecError(f"the name {info.name!r} leads out of the folder; use cat")
    named = PurePosixPath(info.name)
    if named.suffix.lower() in PICTURE_SUFFIXES:
        return named.with_suffix(".png")
    return PurePosixPath(f"{info.name}.png")


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Warnings as lines on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print_warning(str(warning.message))
