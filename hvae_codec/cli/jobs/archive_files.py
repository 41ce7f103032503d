"""What the commands on archives write: archives, and where unpacked images go."""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import hvae_codec
from hvae_codec.cli.common import print_warning
from hvae_codec.cli.jobs.files import PICTURE_SUFFIXES, distinct
from hvae_codec.errors import CorruptError, HvaeCodecError
from hvae_codec.utils.atomic_files import (
    behind_links,
    is_special,
    replacing,
    temporary_beside,
    write_atomically,
)

if TYPE_CHECKING:
    from hvae_codec.codec.archive.info import PictureInfo

_PIXEL_BATCH = 1 << 24


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
    what is there stays until the new archive is whole; of a link, what it leads to. With `labels` a
    new one has room for them. With `whole` a new one, too, appears whole or not at all; without,
    what was written of it outlives the process.

    Raises:
        HvaeCodecError: there is a file and the mode is "new"; or one to replace is being written by
            another process, or is no regular file.
    """
    if mode == "new" and path.exists():
        raise HvaeCodecError(f"{path} is there already; --append adds to it, --replace replaces it")
    if is_special(path):
        raise HvaeCodecError(f"{path} is no regular file: an archive cannot be written there")
    path = behind_links(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    apart = mode == "replace" or (whole and mode == "new")
    target = temporary_beside(path) if apart else path
    with _no_other_writer(path) if mode == "replace" else nullcontext():
        try:
            with _warnings_shown():
                writer = hvae_codec.ArchiveWriter(
                    target, codec, append=mode == "append", labels=labels
                )
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
    """The labels of images in `labels.json` in the folder: an object, by path below it.

    Labels there of other images, which were unpacked before, are kept.

    Raises:
        HvaeCodecError: the file is there and holds no labels.
    """
    labels, file = _labels(archive), folder / "labels.json"
    named = {paths[number].relative_to(folder).as_posix(): labels.get(number) for number in numbers}
    given = {path: label for path, label in named.items() if label is not None}
    before = _labels_in(file) if file.exists() else {}
    if before is None:
        if given:
            raise HvaeCodecError(f"{file} is there and holds no labels: unpack into another folder")
        return
    after = {path: label for path, label in before.items() if path not in named} | given
    if after != before:
        write_atomically(file, _json(after), durable=False)


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
    replaced = output.exists()
    head = {"descr": "|u1", "fortran_order": False, "shape": (len(numbers), *found[0])}
    step = max(1, _PIXEL_BATCH // int(np.prod(found[0])))
    with replacing(output, durable=False) as file:
        np.lib.format.write_array_header_1_0(file, head)
        for start in range(0, len(numbers), step):
            pictures = archive.decode(numbers[start : start + step])
            for picture in pictures:
                file.write(np.ascontiguousarray(picture).data)
            progress(len(pictures))
    labels, beside = _labels(archive), output.with_suffix(".labels.json")
    listed = [labels.get(number) for number in numbers]
    if labels:
        write_atomically(beside, _json(listed), durable=False)
    elif replaced and beside.is_file():  # the labels of the array that was there
        beside.unlink()


@contextmanager
def _no_other_writer(path: Path) -> Iterator[None]:
    """Keep others from adding to the archive at `path`, if there is one, until it is replaced.

    Raises HvaeCodecError where another one is doing so: what it adds would be lost.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):  # what cannot be read may be replaced
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HvaeCodecError(f"{path} is being written by another writer") from None
    finally:
        os.close(descriptor)


def _labels(archive: hvae_codec.Archive) -> dict[int, Any]:
    """The labels of an archive by number, but those of damaged blocks."""
    if not archive.info.labels:
        return {}
    infos = (info for part in archive.blocks for info in _listed(archive, part))
    return {info.number: info.label for info in infos if info.label is not None}


def _labels_in(file: Path) -> dict[str, Any] | None:
    """What a file written by `write_labels` holds; None if it is no such file."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


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
