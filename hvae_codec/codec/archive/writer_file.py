"""The file of an archive that is being written: one writer's, and still the one at its path."""

from __future__ import annotations

import fcntl
import io
import os
import stat
from pathlib import Path

from hvae_codec.codec.archive.format import HEADER_BYTES
from hvae_codec.errors import ArchiveError


class WriterFile(io.FileIO):
    """The file at `path`, locked and not emptied; made if it is not there.

    Args:
        path: of the archive.
        append: there may be a file.

    Raises:
        ArchiveError: another writer has it, or it is no regular file.
        OSError: it cannot be opened; or there is a file and `append` is not given.
    """

    def __init__(self, path: Path, append: bool) -> None:
        flags = os.O_RDWR | os.O_CREAT | (0 if append else os.O_EXCL)
        super().__init__(os.open(path, flags | os.O_CLOEXEC, 0o666), "r+")
        self._path, self._absolute = path, path.absolute()
        try:
            if not stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                raise ArchiveError(f"{path} is no regular file: an archive cannot be written there")
            try:
                fcntl.flock(self.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ArchiveError(f"{path} is being written by another writer") from error
        except BaseException:
            self.close()
            raise
        self._header = b""

    @property
    def size(self) -> int:
        """In bytes."""
        return os.fstat(self.fileno()).st_size

    def keep_header(self) -> None:
        """Take the header that is there now, sound or not, as the archive's."""
        self._header = os.pread(self.fileno(), HEADER_BYTES, 0)

    def write_behind(self, end: int, data: bytes) -> None:
        """Write behind the first `end` bytes, in place of an old index or of part of a block.

        Raises:
            ArchiveError: another program has removed or replaced the file, or changed its beginning
                or length. What is there now stays as it is.
            OSError: it cannot be written.
        """
        self._require_same(end)
        os.ftruncate(self.fileno(), end)
        self.seek(end)
        rest = memoryview(data)
        while rest:
            rest = rest[self.write(rest) :]

    def _require_same(self, end: int) -> None:
        try:
            same = os.path.samestat(os.fstat(self.fileno()), os.stat(self._absolute))
        except FileNotFoundError:
            same = False
        header = os.pread(self.fileno(), HEADER_BYTES, 0)
        if not same or self.size < end or header != self._header:
            raise ArchiveError(
                f"{self._path} was removed, replaced or changed by another program while it was "
                "being written: what was added to it is lost"
            )
