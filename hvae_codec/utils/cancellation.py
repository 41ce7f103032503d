"""Work that nobody waits for any more ends between two of its steps.

Whoever starts work says how to find out (`cancelled_if`). What takes long calls `check` between its
steps: passes through networks, strips of an image, candidates of a search.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_cancelled: ContextVar[Callable[[], bool] | None] = ContextVar("is_cancelled", default=None)


class CancelledWorkError(Exception):
    """The work was given up, since nobody waits for it."""


def check() -> None:
    """Raise CancelledWorkError where nobody waits for what this thread or task computes."""
    is_cancelled = _is_cancelled.get()
    if is_cancelled is not None and is_cancelled():
        raise CancelledWorkError("nobody waits for this work any more")


@contextmanager
def cancelled_if(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Let `check` in the block ask this function."""
    token = _is_cancelled.set(is_cancelled)
    try:
        yield
    finally:
        _is_cancelled.reset(token)
