"""Files that are read again when they change."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

POLL_SECONDS: Final = 1.0
"""How often files are looked at; a change holds after at most so long."""


@dataclass(frozen=True)
class FileVersion:
    """What tells one state of a file from another, also where it is replaced as a whole."""

    modified_ns: int
    inode: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Of an open file's status."""
        return cls(status.st_mtime_ns, status.st_ino, status.st_size)

    @classmethod
    def at(cls, path: Path) -> Self | None:
        """Of what is at a path; None where nothing can be found out."""
        try:
            return cls.of(path.stat())
        except OSError:
            return None


async def watch(refresh: list[Callable[[], None]]) -> None:
    """Call all of these again and again, for ever."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        for each in refresh:
            each()
