"""The file of an evaluation: one JSON object a line; a torn last line is dropped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from hvae_codec.errors import EvaluationError
from hvae_codec.utils.atomic_files import write_atomically

Row = dict[str, Any]

_KEYS = {"model", "sha256", "settings", "total_rate_nats"}


def read_rows(path: Path) -> list[Row]:
    """The rows of an evaluation at `path`, of each model the last, sorted by its name.

    Raises:
        EvaluationError: there is no such file, or a line but the last is no row.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EvaluationError(
            f"{path} cannot be read ({error.strerror}); 'hvae-codec evaluate' writes it"
        ) from error
    return _last_of_each_model(_parse(path, data)[0])


class RowFile:
    """The rows at `path`, to add to; held by one process at a time, to be used in a `with`."""

    def __init__(self, path: Path) -> None:
        """Open or make the file and cut off a last line that was not written whole.

        Raises:
            EvaluationError: another process is adding to it, or it is no file of rows.
            OSError: it cannot be opened.
        """
        self.path = path
        self._file = path.open("a+b")
        try:
            self._lock()
            self._file.seek(0)
            data = self._file.read()
            self.rows, whole = _parse(path, data)
            if whole < len(data):
                self._file.truncate(whole)
        except BaseException:
            self._file.close()
            raise

    def append(self, row: Row) -> None:
        """Add a row; when this returns, it is on the disk.

        Raises:
            OSError: the disk is full; the file then ends as before, or in a torn line.
        """
        self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows.append(row)

    def tidy(self) -> None:
        """Leave the last row of each model, sorted by its name. The file is then another one."""
        rows = _last_of_each_model(self.rows)
        if rows != self.rows:
            lines = [json.dumps(row, allow_nan=False) + "\n" for row in rows]
            write_atomically(self.path, "".join(lines).encode())
            self.rows = rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EvaluationError(f"{self.path} is being written by another process") from error


def _parse(path: Path, data: bytes) -> tuple[list[Row], int]:
    """The rows, and the length of what holds them."""
    rows: list[Row] = []
    *lines, torn = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not row.keys() >= _KEYS:
            raise EvaluationError(
                f"{path}: line {number} is no row of an evaluation; remove the line, and its model "
                "is evaluated again, or give another --output"
            )
        rows.append(row)
    return rows, len(data) - len(torn)


def _last_of_each_model(rows: Sequence[Row]) -> list[Row]:
    last = {row["model"]: row for row in rows}
    return [last[name] for name in sorted(last)]
