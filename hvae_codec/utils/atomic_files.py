"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import BinaryIO


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` at the end of the `with`, if all went well.

    Whoever reads `path`, also after a kill, finds the old file or the new one; where `durable`,
    also after a power cut, for which the disk is waited for.

    Raises:
        OSError: the directory is missing, full or not writable; `path` is as it was.
    """
    # Of one thread of one process, and short: `path` may have the longest name there can be.
    temporary = path.with_name(f".{os.getpid()}-{get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` by way of a temporary name beside it, as `replacing` does.

    Raises:
        OSError: as `replacing`.
    """
    with replacing(path, durable=durable) as file:
        file.write(data)


@contextmanager
def locked(directory: Path, refusal: type[Exception]) -> Iterator[None]:
    """Keep other processes that ask for the same from working in `directory` meanwhile.

    The lock ends with the process, however that ends.

    Raises:
        refusal: another process is at work there.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal(f"another process is at work in {directory}") from None
        yield
    finally:
        os.close(descriptor)
