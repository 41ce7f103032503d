"""Files that are read again when they change."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

from ..errors import SecurityError

Value = TypeVar("Value")

_logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
"""How often files are looked at; a change holds after at most so long."""


class WatchedFiles(ABC, Generic[Value]):
    """The `value` that was read from files; `what` names it in the log."""

    what: ClassVar[str]

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the files. Raises SecurityError as `_read`."""
        self._paths = paths
        self._versions = self._look()
        self.value = self._read()

    @abstractmethod
    def _read(self) -> Value:
        """What is in the files. Raises SecurityError where they cannot be used."""

    def refresh(self) -> None:
        """Read the files again if one changed. An error is logged, and the old value stays: a file
        that is gone locks no caller out, and files are seldom replaced at the same moment.
        """
        versions = self._look()
        if versions == self._versions:
            return
        self._versions = versions
        try:
            self.value = self._read()
        except SecurityError as error:
            _logger.error("%s stay as they are: %s", self.what, error)
        else:
            _logger.info("%s read from %s", self.what, self._paths[0])

    def _look(self) -> list[Any]:
        """What tells one state of the files from another, also where a file is replaced."""
        return [_version(path) for path in self._paths]


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


async def watch(files: Sequence[WatchedFiles[Any]]) -> None:
    """Refresh all of these again and again, for ever."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        for each in files:
            each.refresh()
