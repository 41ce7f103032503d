"""The files of a folder, or those that a pattern names, behind links too."""

from __future__ import annotations

import errno
import glob
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hvae_codec.errors import SkippedFilesWarning

_NAMES = """
    .apng .avif .avifs .blp .bmp .bufr .bw .cur .dcx .dds .dib .emf .eps .fit .fits .flc .fli .ftc
    .ftu .gbr .gif .grib .h5 .hdf .icb .icns .ico .iim .im .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg
    .jpf .jpg .jpx .mpeg .mpg .msp .pbm .pcd .pcx .pfm .pgm .png .pnm .ppm .ps .psd .pxr .qoi
    .ras .rgb .rgba .sgi .tga .tif .tiff .vda .vst .webp .wmf .xbm .xpm .heic .heif .jxl
    """
IMAGE_SUFFIXES = frozenset(_NAMES.split())
"""Suffixes of what Pillow reads, also with plugins: no such file is skipped silently."""

_Identity = tuple[int, int]


def files_of(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files in a folder and the folders in it, sorted, that end in one of `suffixes`.

    Links are followed; one that leads to a folder that it lies in is not. The case of a suffix does
    not count.

    Raises:
        OSError: a folder cannot be listed.

    Warns:
        SkippedFilesWarning: links lead nowhere; or, where images are looked for, there are others.
    """
    below = [path for directory, names in _walk(folder) for path in map(directory.joinpath, names)]
    return chosen(below, suffixes, str(folder))


def chosen(paths: Iterable[Path], suffixes: Sequence[str], place: str) -> list[Path]:
    """The files of these paths, sorted, that end in one of `suffixes`; warns as `files_of`, of what
    lies in `place`.
    """
    found: list[Path] = []
    skipped: Counter[str] = Counter()
    images = any(suffix in IMAGE_SUFFIXES for suffix in suffixes)
    for path in paths:
        suffix, is_file = path.suffix.lower(), path.is_file()
        if suffix in suffixes and is_file:
            found.append(path)
        elif not is_file and path.is_symlink() and not path.exists():
            skipped["broken links"] += 1
        elif images and is_file and suffix in IMAGE_SUFFIXES:
            skipped[f"*{suffix}"] += 1
    if skipped:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(skipped.items()))
        message = f"{place}: skipped {counts}; files taken: *{', *'.join(suffixes)}"
        warnings.warn(message, SkippedFilesWarning, stacklevel=4)
    return sorted(found)


def matching(pattern: Path, root: Path = Path()) -> list[Path]:
    """The files and folders that a pattern below `root` names, sorted, as `glob` reads it: `**` is
    any folders, but hidden ones.

    Links are followed; one that leads to a folder that it lies in is not.
    """
    parts = pattern.parts
    if "**" not in parts:
        names = glob.glob(str(pattern), root_dir=None if root == Path() else root)
        return sorted(path for path in map(root.joinpath, names) if not _in_a_cycle(path))
    at = parts.index("**")
    before, after = Path(*parts[:at]), Path(*parts[at + 1 :])
    tops = matching(before, root) if glob.has_magic(str(before)) else [root / before]
    found: set[Path] = set()
    for top in filter(Path.is_dir, tops):
        for folder, names in _walk(top):
            if any(part.startswith(".") for part in folder.relative_to(top).parts):
                continue
            if after.parts:
                found.update(matching(after, folder))
            else:
                found.update((folder, *(folder / n for n in names if not n.startswith("."))))
    return sorted(found)


def _in_a_cycle(path: Path) -> bool:
    """Whether a path leads to or through a folder twice, by a link to one that it lies in."""
    seen = [_identity(folder) for folder in (path, *path.parents) if folder.exists()]
    return len(set(seen)) < len(seen)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below it, each with the names in it that are none of a folder."""
    waiting = [(folder, frozenset([_identity(folder)]))]
    while waiting:
        directory, above = waiting.pop()
        names: list[str] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                path = directory / entry.name
                if not _is_directory(entry):
                    names.append(entry.name)
                elif not entry.is_symlink():
                    waiting.append((path, above | {_identity(path)}))
                elif (identity := _identity(path)) not in above:
                    waiting.append((path, above | {identity}))
        yield directory, names


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link that leads to itself is no folder
        if error.errno == errno.ELOOP:
            return False
        raise


def _identity(folder: Path) -> _Identity:
    stated = folder.stat()
    return stated.st_dev, stated.st_ino
