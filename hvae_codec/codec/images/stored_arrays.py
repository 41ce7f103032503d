"""Arrays in uncompressed files, PPM, PGM and `.npy`: read when they are asked for, never mapped.

A mapping would show what others write into the file later. Worse, use of it behind the end of a
file that was cut meanwhile kills the process, and each mapping keeps a descriptor.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import ImageError

NPY_MAGIC = b"\x93NUMPY"

_PNM_HEADER_BYTES = 512
_GAP = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P([56])" + (_GAP + rb"(\d{1,9})") * 3 + rb"\s")


@dataclass(frozen=True)
class Layout:
    """Which array a file holds, and where its first value lies.

    fortran: the first index runs fastest.
    largest: sample of a PPM or PGM that means 255.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    fortran: bool = False
    largest: int = 255

    @property
    def data_bytes(self) -> int:
        """What all values take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, values: NDArray[np.uint8]) -> NDArray[Any]:
        """The array of the bytes of all values, scaled to 0..255 where another one is largest."""
        if self.largest != 255:
            levels = np.rint(np.arange(256) * 255 / self.largest)
            values = np.minimum(levels, 255).astype(np.uint8)[values]
        return values.view(self.dtype).reshape(self.shape, order="F" if self.fortran else "C")


def layout_of(file: BinaryIO) -> Layout | None:
    """What an uncompressed file, opened at its start, says of itself; None if it is no such file.

    A PPM or PGM with samples of 8 bits has uint8 [H, W, 3] or [H, W, 1], whose largest sample,
    from 1 to 255, is read as 255; a `.npy` file whatever array was saved. The file is as long as
    that takes.

    Raises:
        ImageError: a PPM or PGM of other samples, or of another length than its header states.
        ValueError: a damaged or short `.npy`, or one of Python objects.
        OSError: the file cannot be read.
    """
    start = file.read(_PNM_HEADER_BYTES)
    if start.startswith(NPY_MAGIC):
        file.seek(0)
        return _npy_layout(file)
    return _pnm_layout(start, _size(file)) if start[:2] in (b"P5", b"P6") else None


def read_array(file: BinaryIO, layout: Layout) -> NDArray[Any]:
    """The whole array of a file.

    Raises:
        ImageError: the file has been cut since its layout was read. OSError: it cannot be read.
    """
    return layout.array(_read(file, layout.offset, layout.data_bytes))


class StoredRows:
    """The array uint8 [N, ...] of a `.npy` file: an index gives a row, which is read at that time.

    No file stays open, so there may be many of these, and they can be sent to other processes.

    Raises:
        ValueError: it is no whole `.npy` file. OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb", buffering=0) as file:
            self._state = _state(file)
            self.layout = _npy_layout(file)
            # Its rows are scattered over the file.
            self._whole = read_array(file, self.layout) if self.layout.fortran else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""
        return self.layout.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> NDArray[Any]:
        """A row from 0 on.

        Raises:
            IndexError: there is none of this number.
            ImageError: the file has changed since this was made. OSError: it cannot be read.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"{self._path} has {len(self)} rows, none of number {row}")
        if self._whole is not None:
            return np.ascontiguousarray(self._whole[row])
        one = Layout(self.dtype, self.shape[1:], 0)
        with self._path.open("rb", buffering=0) as file:
            values = _read(file, self.layout.offset + row * one.data_bytes, one.data_bytes)
            if _state(file) != self._state:
                raise ImageError(f"{self._path} was changed while it was being read")
        return one.array(values)


def _npy_layout(file: BinaryIO) -> Layout:
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:  # the third is that of named fields
        raise ValueError(f"a .npy of version {version[0]}.{version[1]}; 1.0 and 2.0 are read")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"a .npy of {dtype} {list(shape)}, which is not read")
    layout = Layout(dtype, shape, file.tell(), fortran)
    if (size := _size(file)) < layout.offset + layout.data_bytes:
        raise ValueError(
            f"truncated .npy: {dtype} {list(shape)} takes {layout.offset + layout.data_bytes} "
            f"bytes, it has {size}"
        )
    return layout


def _pnm_layout(start: bytes, size: int) -> Layout:
    found = _PNM.match(start)
    if found is None:
        raise ImageError("damaged PPM or PGM: its header cannot be read")
    width, height, largest = (int(found[group]) for group in (2, 3, 4))
    if not 1 <= largest <= 255:
        raise ImageError(f"PPM or PGM with samples up to {largest}; 1 to 255 are read")
    shape = (height, width, 1 if found[1] == b"5" else 3)
    layout = Layout(np.dtype(np.uint8), shape, found.end(), largest=largest)
    stated = layout.offset + layout.data_bytes
    if size != stated or 0 in shape:
        raise ImageError(
            f"damaged PPM or PGM: an image of {width}x{height} makes {stated} bytes, not {size}"
        )
    return layout


def _read(file: BinaryIO, offset: int, length: int) -> NDArray[np.uint8]:
    values = np.empty(length, np.uint8)
    file.seek(offset)
    done = 0
    while done < length:
        count: int = file.readinto(values[done:])  # type: ignore[attr-defined]
        if not count:
            raise ImageError(
                f"the file was cut while it was being read: {length - done} bytes miss"
            )
        done += count
    return values


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _state(file: BinaryIO) -> tuple[int, ...]:
    """What tells a file from another one, or from itself after a change."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
