"""Signals that end a command: while the server starts, and while others work."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
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


class _Terminated(BaseException):
    """SIGTERM came."""


def unwound_by_sigterm(command: Callable[[], int]) -> int:
    """Run a command; return its exit code. SIGTERM ends it as an interruption from the keyboard
    does: files that are half written are removed, and archives are closed.

    Then the process ends by the signal, as without this. A second SIGTERM ends it at once, as does
    the first in a forked process. Where SIGTERM was handled or ignored before, nothing is changed.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return command()
    process = os.getpid()

    def unwind(number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:
            os.kill(os.getpid(), number)
        raise _Terminated

    signal.signal(signal.SIGTERM, unwind)
    try:
        return command()
    except _Terminated:
        os.kill(process, signal.SIGTERM)
        return 128 + signal.SIGTERM  # process 1 of a container, which no default ends
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(_number: int, _frame: Any) -> None:
    os._exit(0)  # the processes that were started end themselves with this one
