"""Images of an archive as rows: to be split, shuffled and sent to workers without being read."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.archive.info import ArchiveSource
from hvae_codec.codec.archive.reader import Archive
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.features import Features, joined, none_of
from hvae_codec.errors import ArchiveError
from hvae_codec.utils.arguments import is_unordered, path_of, shown


@dataclass(frozen=True)
class ArchivePicture:
    """One image of a `.hvaa` archive: where that lies, and the image's number in it."""

    path: Path
    number: int
    source: ArchiveSource | None = field(default=None, repr=False, compare=False)
    """The archive that was opened; None: whichever lies at the path when it is read."""


class ArchivePictures(Sequence[ArchivePicture]):
    """Some images of a `.hvaa` archive, or all, as a sequence of `ArchivePicture`.

    What scikit-learn takes as X: it has a length, and a slice or an array of positions (or a mask)
    gives the `ArchivePictures` of those. It holds a path, a digest and numbers, no open file, so it
    is small to pickle. When the images are read, the same archive must lie there, which may have
    grown.

    Args:
        archive: its path, or an `Archive` of it, which need not stay open.
        pictures: numbers or names, a slice of the numbers, or a mask [N] of booleans; None for all.

    Raises:
        BitstreamError, OSError: as `Archive`.
        KeyError, IndexError: there is no image of this name or number, or a mask has another
            length. ArchiveError: `pictures` is none of these.
    """

    def __init__(
        self,
        archive: str | os.PathLike[str] | Archive,
        pictures: slice | Iterable[int | str] | None = None,
    ) -> None:
        if isinstance(archive, Archive):
            self._source = archive.source
            self._numbers = _numbers(archive, pictures)
        else:
            with Archive(path_of("archive", archive).absolute()) as opened:
                self._source = opened.source
                self._numbers = _numbers(opened, pictures)

    @property
    def path(self) -> Path:
        """Of the archive, absolute: another process may have another working directory."""
        return self._source.path

    @property
    def numbers(self) -> NDArray[np.intp]:
        """The images' numbers in the archive, [N]."""
        return self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, key: int) -> ArchivePicture: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | NDArray[np.generic]) -> ArchivePictures: ...
    def __getitem__(
        self, key: int | slice | Sequence[int] | NDArray[np.generic]
    ) -> ArchivePicture | ArchivePictures:
        if np.ma.is_masked(key):
            raise IndexError("a masked array has positions without a value: fill them first")
        try:
            chosen = self._numbers[key]
        except (OverflowError, RuntimeError, TypeError) as error:  # a tensor without values
            raise IndexError(f"no image of number {shown(key)}") from error
        if np.ndim(chosen) == 0:
            return ArchivePicture(self.path, int(chosen), self._source)
        if np.ndim(chosen) > 1:
            raise IndexError(
                "positions of images, or a mask of them, have one dimension; "
                f"{shown(key)} gives {np.ndim(chosen)}"
            )
        part = object.__new__(ArchivePictures)
        part._source, part._numbers = self._source, np.asarray(chosen)
        return part


def archive_features(
    pictures: Sequence[ArchivePicture], codec: Codec, layers: int, batch_size: int
) -> list[Features]:
    """Coded latents of images of one or more archives, [N, D_l] for the first `layers` layers.

    Raises:
        WrongModelError: an archive is of another model than `codec`.
        ArchiveError: another archive lies at the path by now.
        BitstreamError, OSError, IndexError: as `Archive` and `Archive.layer_features`.
    """
    places: dict[tuple[Path, ArchiveSource | None], list[int]] = {}
    for place, picture in enumerate(pictures):
        places.setdefault((picture.path, picture.source), []).append(place)
    parts: list[list[Features]] = []
    order: list[int] = []
    for (path, source), own in places.items():
        # By number, so that each block is decoded for one batch, or two.
        own.sort(key=lambda place: pictures[place].number)
        with Archive(path, codec) if source is None else Archive.reopen(source, codec) as archive:
            for start in range(0, len(own), batch_size):
                numbers = [pictures[place].number for place in own[start : start + batch_size]]
                parts.append(archive.layer_features(numbers, layers))
        order += own
    if not parts:
        return none_of(codec.info.z_dims[:layers])
    return joined(parts, np.argsort(order))


def _numbers(archive: Archive, pictures: slice | Iterable[int | str] | None) -> NDArray[np.intp]:
    count = len(archive)
    if pictures is None or isinstance(pictures, slice):
        return np.arange(count)[slice(None) if pictures is None else pictures]
    listed = _listed(pictures)
    if listed and all(isinstance(each, bool | np.bool_) for each in listed):
        if len(listed) != count:
            raise IndexError(f"{archive.path} has {count} images, the mask {len(listed)} values")
        return np.flatnonzero(listed)
    numbers = []
    for picture in listed:
        number = archive.number(picture) if isinstance(picture, str) else _number(picture)
        if not -count <= number < count:
            raise IndexError(f"{archive.path} has {count} images, none of number {shown(picture)}")
        numbers.append(number % count)
    return np.array(numbers, np.intp)


def _listed(pictures: Any) -> list[Any]:
    """Numbers, names or a mask as a list. Raises ArchiveError if it is no list, or has no order."""
    single = isinstance(pictures, str | bytes | bytearray) or getattr(pictures, "ndim", 1) == 0
    if single or is_unordered(pictures) or not isinstance(pictures, Iterable):
        raise ArchiveError(
            "images of an archive are given as a list of numbers or names, a slice or a mask; got "
            f"{type(pictures).__name__} {shown(pictures)}"
        )
    # Not element by element: those of a masked array or a tensor are no values of Python.
    return list(pictures.tolist() if hasattr(pictures, "tolist") else pictures)


def _number(picture: object) -> int:
    try:
        if not isinstance(picture, bool | np.bool_):
            return operator.index(picture)  # type: ignore[arg-type]
    except (TypeError, RuntimeError):  # RuntimeError: a tensor without values
        pass
    raise ArchiveError(
        "an image of an archive is given by a whole number or a name, and a mask holds booleans "
        f"alone; got {type(picture).__name__} {shown(picture)}"
    )
