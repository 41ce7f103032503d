"""Servers that are forked from a process which has imported torch already: most of a start's time
is that import, once for the server and once for its coding processes.

It is the server's own main program, with its flags, environment and streams. Tests of the start
itself, and those that look at a server's processes, start a fresh interpreter instead.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

from hvae_codec.server.engine.process_pool import share_imports


class ForkedServer:
    """`python -m hvae_codec.server WORDS`, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, words: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        share_imports()
        reader, writer = multiprocessing.Pipe(duplex=False)
        with writer:
            self._process = multiprocessing.get_context("forkserver").Process(
                target=_serve, args=(list(words), writer, str(log), dict(environment))
            )
            self._process.start()
        self.stdout = os.fdopen(os.dup(reader.fileno()), "r", encoding="utf-8")
        reader.close()
        pid = self._process.pid
        assert pid is not None
        self.pid = pid
        atexit.register(self.kill)  # before multiprocessing's own, which would wait for its end

    @property
    def returncode(self) -> int | None:
        """As of a process of `subprocess`: minus the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (code := self.returncode) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("server", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, None]:
        """The rest of its standard output; waits for its end."""
        rest = "" if self.stdout.closed else self.stdout.read()
        self.stdout.close()
        self.wait()
        return rest, None


def _serve(words: list[str], output: Connection, log: str, environment: dict[str, str]) -> None:
    """In the new process: be the server."""
    with open(log, "ab") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
    os.dup2(output.fileno(), sys.stdout.fileno())
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    # The fork server of the tests has imported what its coding processes share: take that one.
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None  # type: ignore
    sys.argv = ["hvae_codec.server", *words]
    runpy.run_module("hvae_codec.server", run_name="__main__", alter_sys=True)
