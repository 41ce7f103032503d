"""The image files of a folder, those behind links too."""

from __future__ import annotations

import errno
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
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
    found: list[Path] = []
    skipped: Counter[str] = Counter()
    images = any(suffix in IMAGE_SUFFIXES for suffix in suffixes)
    for path, is_file in _entries(folder):
        suffix = path.suffix.lower()
        if suffix in suffixes and is_file:
            found.append(path)
        elif not is_file and path.is_symlink() and not path.exists():
            skipped["broken links"] += 1
        elif images and is_file and suffix in IMAGE_SUFFIXES:
            skipped[f"*{suffix}"] += 1
    if skipped:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(skipped.items()))
        message = f"{folder}: skipped {counts}; files taken: *{', *'.join(suffixes)}"
        warnings.warn(message, SkippedFilesWarning, stacklevel=3)
    return sorted(found)


def in_a_cycle(path: Path) -> bool:
    """Whether a path leads through a folder twice, by a link to a folder that it lies in."""
    seen = [_identity(folder) for folder in path.parents]
    return len(set(seen)) < len(seen)


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """What lies below a folder and is no folder itself, and whether it is a file."""
    waiting = [(folder, frozenset([_identity(folder)]))]
    while waiting:
        directory, above = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                path = directory / entry.name
                if not _is_directory(entry):
                    yield path, path.is_file()
                elif not entry.is_symlink():
                    waiting.append((path, above | {_identity(path)}))
                elif (identity := _identity(path)) not in above:
                    waiting.append((path, above | {identity}))


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
