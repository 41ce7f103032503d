"""Encoded files in: anything that holds the bytes of one becomes `bytes`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import BitstreamError, NotAnHvaeFileError
from hvae_codec.utils.arguments import is_unordered, shown

if TYPE_CHECKING:  # clients of a server take files too, and do not wait for torch
    import torch

Encoded: TypeAlias = (
    "bytes | bytearray | memoryview | NDArray[Any] | torch.Tensor | str | os.PathLike[str]"
)
"""A file: its bytes in any buffer, a uint8 array or tensor [bytes], an array of no dimensions that
holds one of these (as array stores give), or a path."""

MAX_STREAMED_BYTES = 1 << 29
"""Most bytes of a `.hvae` file that comes through a pipe or from a device."""

_ACCEPTED = "bytes, a buffer, a uint8 array [bytes] or the path of a file"


def as_file(given: Encoded) -> bytes:
    """The bytes of a `.hvae` file, or of the first part of one; they are not looked at.

    Raises:
        NotAnHvaeFileError: it is of another kind, or an array of another shape or dtype.
        BitstreamError: a path that cannot be read.
    """
    if isinstance(given, bytes):
        return given
    if isinstance(given, bytearray | memoryview):
        try:
            return bytes(given)
        except ValueError as error:  # a view that was released
            raise NotAnHvaeFileError(f"a buffer without bytes is no file: {error}") from error
    if isinstance(given, np.ndarray):
        return _from_array(given)
    if isinstance(given, str | os.PathLike):
        return _from_path(given)
    if (torch := sys.modules.get("torch")) and isinstance(given, torch.Tensor):
        try:
            return _from_array(given.detach().cpu().numpy())
        except (RuntimeError, TypeError) as error:
            raise NotAnHvaeFileError(f"a tensor without values is no file: {error}") from error
    if (view := _bytes_of_buffer(given)) is not None:
        return view.tobytes()
    raise NotAnHvaeFileError(
        f"an encoded image must be {_ACCEPTED}; got {type(given).__name__} {shown(given)}"
    )


def read_file(path: Path) -> bytes:
    """A whole file; of a pipe or device, which may have no end, at most MAX_STREAMED_BYTES.

    Raises:
        BitstreamError: a pipe or device gives more. OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read()
        data = file.read(MAX_STREAMED_BYTES + 1)
    if len(data) > MAX_STREAMED_BYTES:
        raise BitstreamError(
            f"{path} gives over {MAX_STREAMED_BYTES:,} bytes, the most that are read of a pipe or "
            "device"
        )
    return data


def as_files(given: Iterable[Encoded]) -> list[bytes]:
    """Many files, each as `as_file` gives it.

    Raises:
        NotAnHvaeFileError, BitstreamError: as `as_file`, the message saying which; also for one.
    """
    if is_one(given) or not isinstance(given, Iterable):
        raise NotAnHvaeFileError(
            f"many encoded images are a list; got one {type(given).__name__}: put it in a list"
        )
    if is_unordered(given):
        raise NotAnHvaeFileError(f"a {type(given).__name__} of files has no order: give a list")
    files = []
    for number, file in enumerate(given):
        try:
            files.append(as_file(file))
        except BitstreamError as error:
            raise type(error)(f"file {number} of the batch: {error}") from error
    return files


def one_or_more(given: Encoded | Iterable[Encoded]) -> list[bytes]:
    """One file, or many, as `as_files` gives them.

    Raises:
        NotAnHvaeFileError, BitstreamError: as `as_file`.
    """
    return as_files([given] if is_one(given) else given)  # type: ignore[list-item, arg-type]


def is_one(given: object) -> bool:
    """Whether it is one file in any of the forms that `as_file` takes, not a sequence of them."""
    if isinstance(given, np.ndarray):
        return given.ndim == 0 or (given.ndim == 1 and given.dtype == np.uint8)
    if isinstance(given, bytes | bytearray | memoryview | str | os.PathLike):
        return True
    return _bytes_of_buffer(given) is not None


def _bytes_of_buffer(given: Any) -> memoryview | None:
    """A view of another buffer of bytes, such as of mmap or array; None for anything else."""
    try:
        view = memoryview(given)
    except (TypeError, ValueError):  # ValueError: one that was released
        return None
    return view if view.format in ("B", "b", "c") else None


def _from_array(array: NDArray[Any]) -> bytes:
    if array.ndim == 0 and array.dtype.kind in "OV":  # S drops zeros at the end
        held = array.item()
        if isinstance(held, bytes | bytearray | memoryview | np.ndarray):
            return as_file(held)
    if array.ndim != 1 or array.dtype != np.uint8:
        raise NotAnHvaeFileError(
            f"an encoded image must be {_ACCEPTED}; got an array of {array.dtype} "
            f"{list(array.shape)}"
        )
    return array.tobytes()


def _from_path(path: str | os.PathLike[str]) -> bytes:
    try:
        return read_file(Path(os.fsdecode(path)))
    except BitstreamError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise BitstreamError(f"{str(path)!r} cannot be read: {error}") from error
