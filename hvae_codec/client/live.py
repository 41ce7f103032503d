"""A source that gives values now and then, and a stream whose answers come meanwhile.

Both are read at once, in threads of their own or in tasks, into one `Inbox`. So an answer reaches
the caller while the source is waited for. A value is read when it is asked for, never before.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, Protocol

from hvae_codec.client.sans_io.steps import End, Later, Pull

_SOURCE: Final = object()


class _Came(NamedTuple):
    """What the source or a stream gave: a value, which may be END, or an error."""

    origin: object
    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Inbox:
    """What came of the source, and of the stream that is open, each in its order."""

    def __init__(self) -> None:
        self._values: deque[_Came] = deque()
        self._answers: deque[_Came] = deque()
        self._stream: object = None
        self._asked = False

    def ask(self) -> bool:
        """Whether the source is to be asked for a value: none is on its way."""
        asked, self._asked = self._asked, True
        return not asked

    def follow(self, stream: object) -> None:
        """Keep answers of this stream from now on, and of no other."""
        self._stream = stream
        self._answers.clear()

    def add(self, came: _Came) -> None:
        """Take in what came."""
        if came.origin is _SOURCE:
            self._values.append(came)
        elif came.origin is self._stream:
            self._answers.append(came)

    def value(self, *, watch: bool) -> _Came | None:
        """The value that was asked for; with `watch` ANSWER where there is an answer."""
        if watch and self._answers:
            return _Came(_SOURCE, Later.ANSWER)
        if not self._values:
            return None
        self._asked = False
        return self._values.popleft()

    def answer(self) -> _Came | None:
        """The next answer, if one came."""
        return self._answers.popleft() if self._answers else None


class Answers(Protocol):
    """A stream, whose next answer, or END, is waited for."""

    def next(self) -> Any:
        """The answer; raises grpc.RpcError where the stream broke."""


class LiveThreads:
    """Reads in threads, which end with `close` or when what they wait for comes."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._inbox = Inbox()
        self._came: SimpleQueue[_Came] = SimpleQueue()
        self._asks: SimpleQueue[bool] = SimpleQueue()
        self._begin("source", copy_context().run, self._read_source, iter(values))

    def pull(self, step: Pull) -> Any:
        """Take the step; raises what the source raises."""
        while not self._came.empty():
            self._inbox.add(self._came.get())
        if self._inbox.ask():
            self._asks.put(True)
        ends = None if step.seconds is None else time.monotonic() + step.seconds
        while (found := self._inbox.value(watch=step.watch)) is None:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            try:
                self._inbox.add(self._came.get(timeout=left))
            except Empty:
                return Later.NOTHING
        return found.result()

    def follow(self, stream: Answers) -> None:
        """Read the answers of a stream that was opened."""
        self._inbox.follow(stream)
        self._begin("answers", self._read_answers, stream)

    def receive(self) -> Any:
        """Its next answer, or END; raises grpc.RpcError where it broke."""
        while (found := self._inbox.answer()) is None:
            self._inbox.add(self._came.get())
        return found.result()

    def close(self) -> None:
        """Read nothing more."""
        self._asks.put(False)

    def _begin(self, name: str, *work: Any) -> None:
        threading.Thread(target=work[0], args=work[1:], name=name, daemon=True).start()

    def _read_source(self, source: Iterator[Any]) -> None:
        while self._asks.get():
            try:
                self._came.put(_Came(_SOURCE, next(source, End.END)))
            except BaseException as error:  # the caller's, and raised where the caller is
                self._came.put(_Came(_SOURCE, error=error))

    def _read_answers(self, stream: Answers) -> None:
        value = None
        while value is not End.END:
            try:
                value = stream.next()
            except Exception as error:
                self._came.put(_Came(stream, error=error))
                return
            self._came.put(_Came(stream, value))


class LoopAnswers(Protocol):
    """As `Answers`, of a stream in an event loop."""

    async def next(self) -> Any:
        """As `Answers.next`."""


class LiveTasks:
    """Reads in tasks of the running event loop, the source in one from its first value to its
    last.
    """

    def __init__(self, values: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._inbox = Inbox()
        self._changed = asyncio.Event()
        self._asks: asyncio.Queue[None] = asyncio.Queue()
        source = aiter(values) if isinstance(values, AsyncIterable) else _each(iter(values))
        self._tasks = {asyncio.create_task(self._read_source(source))}

    async def pull(self, step: Pull) -> Any:
        """As `LiveThreads.pull`."""
        if self._inbox.ask():
            self._asks.put_nowait(None)
            await asyncio.sleep(0)  # a value that is there at once is no late one
        with suppress(TimeoutError):
            async with asyncio.timeout(step.seconds):
                while (found := self._inbox.value(watch=step.watch)) is None:
                    await self._change()
            return found.result()
        return Later.NOTHING

    def follow(self, stream: LoopAnswers) -> None:
        """As `LiveThreads.follow`."""
        self._inbox.follow(stream)
        task = asyncio.create_task(self._read_answers(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def receive(self) -> Any:
        """As `LiveThreads.receive`."""
        while (found := self._inbox.answer()) is None:
            await self._change()
        return found.result()

    async def close(self) -> None:
        """End the tasks."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _add(self, came: _Came) -> None:
        self._inbox.add(came)
        self._changed.set()

    async def _read_source(self, source: AsyncIterator[Any]) -> None:
        while True:
            await self._asks.get()
            try:
                self._add(_Came(_SOURCE, await anext(source, End.END)))
            except Exception as error:
                self._add(_Came(_SOURCE, error=error))

    async def _read_answers(self, stream: LoopAnswers) -> None:
        value = None
        while value is not End.END:
            try:
                value = await stream.next()
            except Exception as error:
                self._add(_Came(stream, error=error))
                return
            self._add(_Came(stream, value))


async def _each(values: Iterator[Any]) -> AsyncIterator[Any]:
    """Values that the event loop waits for, which answers what has come before each."""
    for value in values:
        yield value
        await asyncio.sleep(0)
