"""Cancellation of what is under way in threads and in coding processes, from the event loop."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from hvae_codec.utils.cancellation import cancelled_if

Result = TypeVar("Result")


class Cancellation:
    """Of one piece of work; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether the work was cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """Let the work end at its next step."""
        with self._lock:
            self._cancelled = True
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    @contextmanager
    def telling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call this function on a cancellation before or during the block, or a moment after it."""
        with self._lock:
            self._callbacks.append(callback)
        try:
            if self._cancelled:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)


_current: ContextVar[Cancellation | None] = ContextVar("cancellation", default=None)


def current() -> Cancellation:
    """That of the work of this task; one that never comes where there is none."""
    return _current.get() or Cancellation()


@contextmanager
def cancelled_by(cancellation: Cancellation) -> Iterator[None]:
    """Let what the block starts, by `in_thread` or in coding processes, end with it."""
    token = _current.set(cancellation)
    try:
        with cancelled_if(lambda: cancellation.cancelled):
            yield
    finally:
        _current.reset(token)


async def in_thread(executor: Executor, function: Callable[..., Result], *args: Any) -> Result:
    """What a function gives in a thread, which sees this task's cancellation."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, copy_context().run, function, *args)
