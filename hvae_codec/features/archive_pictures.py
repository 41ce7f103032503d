"""Images of an archive as rows: to be split, shuffled and sent to workers without being read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.archive.reader import Archive
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.features import Features, joined, none_of
from hvae_codec.utils.arguments import shown


@dataclass(frozen=True)
class ArchivePicture:
    """One image of a `.hvaa` archive: where that lies, and the image's number in it."""

    path: Path
    number: int


class ArchivePictures(Sequence[ArchivePicture]):
    """Some images of a `.hvaa` archive, or all, as a sequence of `ArchivePicture`.

    What scikit-learn takes as X: it has a length, and a slice or an array of positions (or a mask)
    gives the `ArchivePictures` of those. It holds a path and numbers alone, no open file, so it is
    small to pickle.

    Args:
        archive: its path, or an `Archive` of it, which need not stay open.
        pictures: numbers or names, or a slice of the numbers; None for all.

    Raises:
        BitstreamError, OSError: as `Archive`.
        KeyError, IndexError: there is no image of this name or number.
    """

    def __init__(
        self,
        archive: str | os.PathLike[str] | Archive,
        pictures: slice | Iterable[int | str] | None = None,
    ) -> None:
        if isinstance(archive, Archive):
            self._path = archive.path.absolute()
            self._numbers = _numbers(archive, pictures)
        else:
            self._path = Path(archive).absolute()
            with Archive(self._path) as opened:
                self._numbers = _numbers(opened, pictures)

    @property
    def path(self) -> Path:
        """Of the archive, absolute: another process may have another working directory."""
        return self._path

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
        try:
            chosen = self._numbers[key]
        except (OverflowError, RuntimeError) as error:  # RuntimeError: a tensor without values
            raise IndexError(f"no image of number {shown(key)}") from error
        if np.ndim(chosen) == 0:
            return ArchivePicture(self._path, int(chosen))
        part = object.__new__(ArchivePictures)
        part._path, part._numbers = self._path, np.asarray(chosen)
        return part


def archive_features(
    pictures: Sequence[ArchivePicture], codec: Codec, layers: int, batch_size: int
) -> list[Features]:
    """Coded latents of images of one or more archives, [N, D_l] for the first `layers` layers.

    Raises:
        WrongModelError: an archive is of another model than `codec`.
        BitstreamError, OSError, IndexError: as `Archive` and `Archive.layer_features`.
    """
    places: dict[Path, list[int]] = {}
    for place, picture in enumerate(pictures):
        places.setdefault(picture.path, []).append(place)
    parts: list[list[Features]] = []
    order: list[int] = []
    for path, own in places.items():
        # By number, so that each block is decoded for one batch, or two.
        own.sort(key=lambda place: pictures[place].number)
        with Archive(path, codec) as archive:
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
    numbers = []
    for picture in pictures:
        number = archive.number(picture) if isinstance(picture, str) else int(picture)
        if not -count <= number < count:
            raise IndexError(f"{archive.path} has {count} images, none of number {number}")
        numbers.append(number % count)
    return np.array(numbers, np.intp)
