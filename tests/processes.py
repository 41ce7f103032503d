"""Servers in processes of their own. Those that a test has started for itself end with it, or
memory would fill up with them; those of a fixture live as long as the fixture's scope says.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.forked import ForkedServer

ServerProcess = subprocess.Popen[str] | ForkedServer

_of_this_test: list[ServerProcess] = []


def start_forked(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> ForkedServer:
    """Start a server with these flags, by a fork: in a sixth of the time."""
    return ForkedServer(words, log, _environment(environment))


def start_fresh(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a server as users do; its coding processes are its own descendants."""
    with log.open("a") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "hvae_codec.server", *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(environment),
        )


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """This process's with these variables.

    One thread, as in this process: the same floats, so the same bytes.
    """
    return {**os.environ, "OMP_NUM_THREADS": "1", **(more or {})}


def register(process: ServerProcess) -> None:
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
