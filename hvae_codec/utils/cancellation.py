"""Cancellation of work between two of its steps, once no caller waits for it.

The function that starts work says how to find out (`cancelled_if`), or gives it a `Cancellation`
(`cancelled_by`). What takes long calls `check` between its steps: passes through networks, strips
of an image, candidates of a search.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_cancelled: ContextVar[Callable[[], bool] | None] = ContextVar("is_cancelled", default=None)


class CancelledWorkError(Exception):
    """The work was given up, since no caller waits for it."""


def check() -> None:
    """Raise CancelledWorkError where no caller waits for what this thread or task computes."""
    is_cancelled = _is_cancelled.get()
    if is_cancelled is not None and is_cancelled():
        raise CancelledWorkError("no caller waits for this work any more")


@contextmanager
def cancelled_if(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Let `check` in the block ask this function."""
    token = _is_cancelled.set(is_cancelled)
    try:
        yield
    finally:
        _is_cancelled.reset(token)


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


def current_cancellation() -> Cancellation:
    """That of the work of this task; one that never comes where there is none."""
    return _current.get() or Cancellation()


@contextmanager
def cancelled_by(cancellation: Cancellation) -> Iterator[None]:
    """Let what the block starts, in threads or other processes, end with it."""
    token = _current.set(cancellation)
    try:
        with cancelled_if(lambda: cancellation.cancelled):
            yield
    finally:
        _current.reset(token)
