"""Servers that a test has started for itself: they end with it, or memory would fill up with them.

Those that a fixture has started live as long as the fixture's scope says.
"""

import os
import signal
import subprocess
import sys

_of_this_test: list[subprocess.Popen[str]] = []


def register(process: subprocess.Popen[str]) -> None:
    """End the process with the test that is running now, if it is the test that has started it."""
    if os.environ.get("PYTEST_CURRENT_TEST", "").endswith("(call)"):
        _of_this_test.append(process)


def end_all() -> None:
    """End what was registered."""
    while _of_this_test:
        process = _of_this_test.pop()
        process.kill()
        process.wait()


_SIGNAL_AT_START = """
import os, signal, sys
signal.signal(int(sys.argv[1]), signal.Handlers(int(sys.argv[2])))
os.execv(sys.argv[3], sys.argv[3:])
"""


def starting_with(number: signal.Signals, handler: signal.Handlers) -> list[str]:
    """What goes before a command so that it starts with this handling of a signal.

    A process of its own sets it: one that is forked from that of the tests has what gRPC does after
    forks, and its words on standard error.
    """
    return [sys.executable, "-c", _SIGNAL_AT_START, str(int(number)), str(int(handler))]
