"""The file of tokens: who may read it, and its reloading."""

import logging
import os
import stat
from pathlib import Path
from typing import Final

from .file_watcher import WatchedFiles
from .token_lines import is_old_form, parse_lines
from .tokens import TokenFileError, Tokens, parse_tokens

_logger = logging.getLogger(__name__)

_MAX_FILE_BYTES: Final = 1024 * 1024


class TokenFile(WatchedFiles[Tokens]):
    """The tokens of a file."""

    what = "tokens"

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            TokenFileError: it cannot be read, others could read it, or it is wrong.
        """
        self._path = path
        super().__init__([path])

    def _read(self) -> Tokens:
        try:
            with self._path.open("rb") as file:
                _check_mode(self._path, os.fstat(file.fileno()))
                content = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise TokenFileError(f"{self._path}: {error.strerror or error}") from error
        if len(content) > _MAX_FILE_BYTES:
            raise TokenFileError(f"{self._path} has more than {_MAX_FILE_BYTES:,} bytes")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            # The error itself holds the file's bytes, so it is not passed on.
            raise TokenFileError(f"{self._path} is not UTF-8 text") from None
        if is_old_form(text):
            _logger.warning(
                "%s: lines of `NAME TOKEN` are read for the last time in this version; "
                "write [[token]] tables with name and sha256",
                self._path,
            )
            return parse_lines(text, str(self._path))
        return parse_tokens(text, str(self._path))


def _check_mode(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others may read: as ssh does, its group too where it is this user's.

    A secret that an orchestrator mounts for the group of a process belongs to root.
    """
    if os.name != "posix":
        return
    forbidden = stat.S_IRWXO | (stat.S_IRWXG if status.st_uid == os.geteuid() else 0)
    mode = stat.S_IMODE(status.st_mode)
    if mode & forbidden:
        raise TokenFileError(
            f"{path} has mode {mode:04o}, so other users may read or write the tokens; "
            f"chmod 600 {path}"
        )
