"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` at the end of the `with`, if all went well.

    Whoever reads `path`, also after a kill, finds the old file or the new one; where `durable`,
    also after a power cut, for which the disk is waited for. Of a link it is the file that the link
    leads to. A pipe or device is written to, not replaced.

    Raises:
        OSError: the directory is missing, full or not writable; `path` is as it was.
    """
    if is_special(path):
        with path.open("wb") as file:
            yield file
        return
    path = behind_links(path)
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # of a write, such as a full disk
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether something lies at `path` that is no regular file: a folder, pipe, socket or device,
    which no file may take the place of.
    """
    return path.exists() and not path.is_file()


def behind_links(path: Path) -> Path:
    """The path of the file that a link leads to, also where there is none yet; else `path`.

    Raises:
        OSError: links lead in a circle.
    """
    try:
        return path.resolve() if path.is_symlink() else path
    except RuntimeError as error:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that nothing has: no other writer, and none that was killed."""
    # Short: `path` may have the longest name there can be. Containers share process numbers.
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(6)}.part")


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
