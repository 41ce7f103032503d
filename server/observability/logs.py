"""Logs on standard error: one line of text or JSON for each event, never in the way of calls.

A log line never holds a token, an image, or anything else of a request but its sizes and id.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ..output import put

LogFormat = Literal["text", "json"]
LEVELS: Final = ("debug", "info", "warning", "error")

_MOST_LINES: Final = 10_000
_LINES_AT_ONCE: Final = 100
_LOOK_SECONDS: Final = 0.05
_ENDING_SECONDS: Final = 2.0
_FIELDS: Final = "fields"
"""Attribute of a log record with a dict of what it says besides its message."""


def event(logger: logging.Logger, level: int, message: str, **fields: Any) -> None:
    """Log a message with named values; those that are None are left out."""
    if logger.isEnabledFor(level):
        kept = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, message, extra={_FIELDS: kept})


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, _FIELDS, {})
    request_id = getattr(record, "request_id", "")
    return {"request_id": request_id, **fields} if request_id else fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then what is known of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Of logging."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level and message, then name=value."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Of logging."""
        words = [f"{name}={value}" for name, value in _fields_of(record).items()]
        return " ".join([super().formatMessage(record), *words])


class _Keep(logging.Handler):
    """Keeps records for a thread that writes them, and counts those that find no room."""

    def __init__(
        self,
        records: "deque[logging.LogRecord]",
        dropped: Callable[[], None],
        request_id: Callable[[], str],
    ) -> None:
        super().__init__()
        self._request_id = request_id
        self._records = records
        self._dropped = dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Of logging. What only this thread knows is noted; formatting is left to the other."""
        if len(self._records) >= _MOST_LINES:
            self._dropped()
            return
        record.request_id = self._request_id()
        self._records.append(record)


def _of_a_caller_gone(record: logging.LogRecord) -> bool:
    """Whether gRPC tells of a message that it could not send, since its caller had just gone: to it
    that is an error with a traceback, but nothing is wrong, and the call has a line of its own.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return record.name.startswith("grpc.") and getattr(kind, "__name__", "") == "ExecuteBatchError"


class Logs:
    """The process's logs from `start` to `stop`.

    A thread writes them, so that a pipe without a reader blocks no call. Lines beyond the most that
    wait are dropped, and counted by calls of `dropped`. The thread polls: to wake it for each line
    would cost a call more than all the rest of its log.
    """

    def __init__(
        self,
        log_format: LogFormat,
        level: str,
        dropped: Callable[[], None],
        request_id: Callable[[], str] = str,
    ) -> None:
        """request_id: that of the call which the current task answers; "" outside of calls."""
        self._records: deque[logging.LogRecord] = deque()
        self._keep = _Keep(self._records, dropped, request_id)
        self._keep.addFilter(lambda record: not _of_a_caller_gone(record))
        self._stream = sys.stderr
        self._formatter = JsonFormatter() if log_format == "json" else TextFormatter()
        self._level = level
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def start(self) -> None:
        """Take over the root logger."""
        root = logging.getLogger()
        root.setLevel(self._level.upper())
        root.addHandler(self._keep)
        self._thread.start()

    def stop(self) -> None:
        """Write what is there, as far as that is possible, and let go of the root logger."""
        logging.getLogger().removeHandler(self._keep)
        self._ending.set()
        self._thread.join(_ENDING_SECONDS)

    def _run(self) -> None:
        while True:
            last = self._ending.wait(_LOOK_SECONDS)
            lines = []
            while self._records:
                lines.append(self._line(self._records.popleft()))
                if len(lines) == _LINES_AT_ONCE or not self._records:
                    put(self._stream, "".join(lines))
                    lines.clear()
            if last:
                return

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self._formatter.format(record) + "\n"
        except Exception as error:  # as logging does: what is wrong with a line ends nothing else
            return (
                self._formatter.format(
                    logging.LogRecord(
                        *(record.name, logging.ERROR, record.pathname, record.lineno),
                        *("a log line cannot be written: %r", (error,), None),
                    )
                )
                + "\n"
            )
