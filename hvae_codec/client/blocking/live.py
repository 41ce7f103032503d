# Generated from aio/live.py by generate_blocking.py: change that one.
"""A source that gives values now and then, and a stream whose answers come meanwhile.

Both are read at once, each in a thread of its own, into one `Inbox`. So an answer reaches the
caller while the source is waited for. A value is read when it is asked for, never before.
"""

import time
from collections.abc import Iterator
from typing import Any, Protocol

from hvae_codec.client.blocking.primitives import QUEUE_TIMEOUT, SOURCE_ERRORS, Queue, Tasks
from hvae_codec.client.inbox import SOURCE, Arrival, End, Inbox, Later


class Answers(Protocol):
    """A stream, whose next answer, or END, is waited for."""

    def next(self) -> Any:
        """The answer; raises grpc.RpcError where the stream broke."""


class Live:
    """Reads a source from its first value to its last, and the stream that it follows."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._inbox = Inbox()
        self._arrivals: Queue[Arrival] = Queue()
        self._asks: Queue[bool] = Queue()
        self._tasks = Tasks()
        self._tasks.start("source", self._read_source, source)

    def pull(self, seconds: float | None, *, watch: bool) -> Any:
        """The next value, END, or a `Later`: after so many seconds, and with `watch` as soon as the
        stream has something. Raises what the source raises.
        """
        if self._inbox.ask():
            self._asks.put_nowait(True)
        while not self._arrivals.empty():
            self._inbox.add(self._arrivals.get_nowait())
        ends = None if seconds is None else time.monotonic() + seconds
        while (found := self._inbox.value(watch=watch)) is None:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            try:
                self._inbox.add(self._arrivals.get(timeout=left))
            except QUEUE_TIMEOUT:
                return Later.NOTHING
        return found.result()

    def follow(self, stream: Answers) -> None:
        """Read the answers of a stream that was opened."""
        self._inbox.follow(stream)
        self._tasks.start("answers", self._read_answers, stream)

    def receive(self) -> Any:
        """Its next answer, or END; raises grpc.RpcError where it broke."""
        while (found := self._inbox.answer()) is None:
            self._inbox.add(self._arrivals.get())
        return found.result()

    def close(self) -> None:
        """Read nothing more."""
        self._asks.put_nowait(False)
        self._tasks.close()

    def _read_source(self, source: Iterator[Any]) -> None:
        while self._asks.get():
            try:
                self._arrivals.put_nowait(Arrival(SOURCE, next(source, End.END)))
            except SOURCE_ERRORS as error:  # the caller's, and raised where the caller is
                self._arrivals.put_nowait(Arrival(SOURCE, error=error))

    def _read_answers(self, stream: Answers) -> None:
        value = None
        while value is not End.END:
            try:
                value = stream.next()
            except Exception as error:
                self._arrivals.put_nowait(Arrival(stream, error=error))
                return
            self._arrivals.put_nowait(Arrival(stream, value))
