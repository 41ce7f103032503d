"""Logs on standard error: one line of text or JSON for each event, never in the way of calls.

A log line never holds a token, a picture, or anything else of a request but its sizes and id.
"""

import json
import logging
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from typing import Any, Final, Literal

from .calls_seen import current_call

LogFormat = Literal["text", "json"]
LEVELS: Final = ("debug", "info", "warning", "error")

_QUEUED_LINES: Final = 10_000
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


class _Enqueue(QueueHandler):
    """Puts records into a queue, and counts those that find it full."""

    def __init__(self, records: "queue.Queue[Any]", dropped: Callable[[], None]) -> None:
        super().__init__(records)
        self._dropped = dropped

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Keep what only this thread knows; formatting is left to the other one."""
        record.request_id = current_call().request_id
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Of logging."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped()


class Logs:
    """The process's logs from `start` to `stop`.

    A thread writes them, so that a pipe nobody reads holds up no call; what does not fit into its
    queue is dropped, and counted by calls of `dropped`.
    """

    def __init__(self, log_format: LogFormat, level: str, dropped: Callable[[], None]) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(_QUEUED_LINES)
        self._enqueue = _Enqueue(self._queue, dropped)
        self._write = logging.StreamHandler(sys.stderr)
        self._write.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
        self._level = level
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def start(self) -> None:
        """Take over the root logger."""
        root = logging.getLogger()
        root.setLevel(self._level.upper())
        root.addHandler(self._enqueue)
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, as far as that is possible, and let go of the root logger."""
        logging.getLogger().removeHandler(self._enqueue)
        try:
            self._queue.put(None, timeout=_ENDING_SECONDS)
        except queue.Full:
            return
        self._thread.join(_ENDING_SECONDS)

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            self._write.handle(record)
