"""Waiting for what happens in another thread or process, however busy the machine is.

Nothing slow is imported: processes of tests import this.
"""

import time
from collections.abc import Callable

SECONDS = 120.0


def wait_until(happened: Callable[[], object], what: str = "it did not happen") -> None:
    """Return once `happened()` is true; fails after two minutes."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def spin(seconds: float) -> None:
    """Keep a core busy for so much of this process's time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
