"""Signals that come while the server starts, before there is an event loop to handle them."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
"""What asks a server to stop."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let STOPPING end the process with 0, at once, until something else handles them.

    As process 1 of a container a server would not get SIGTERM without a handler. Outside of the
    main thread, where no signal can be handled, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _leave) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: Any) -> None:
    os._exit(0)  # the processes that were started end themselves with this one
