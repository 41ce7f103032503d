"""Servers that a test has started for itself: they end with it, or memory would fill up with them.

Those that a fixture has started live as long as the fixture's scope says.
"""

import os
import subprocess

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
