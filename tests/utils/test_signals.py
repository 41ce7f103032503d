"""Signals while the server starts: none is lost, also where the system ignores those unhandled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import starting_with

SECONDS = 120
COMMANDS = {
    "command": [str(Path(sys.executable).with_name("hvae-codec")), "serve"],
    "module": [sys.executable, "-m", "hvae_codec.server"],
}


HELD = """
import sys, time

class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            time.sleep(600)

if not any("multiprocessing" in word for word in sys.orig_argv):
    sys.meta_path.insert(0, Hold())
"""
"""In sitecustomize: the server, and no process that it starts, does not get beyond its import."""


def handles(pid, number):
    """Whether a process has a handler for a signal, as Linux tells."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    raise AssertionError("no SigCgt")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_imports_ends_the_start(command, number, tmp_path):
    port_file = tmp_path / "port"
    (tmp_path / "sitecustomize.py").write_text(HELD)
    process = subprocess.Popen(
        [
            # As the kernel does for process 1 of a container that has no handler.
            *starting_with(signal.SIGTERM, signal.SIG_IGN),
            *(*COMMANDS[command], "--port", "0", "--port-file", str(port_file)),
        ],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not handles(process.pid, signal.SIGTERM):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
        os.kill(process.pid, number)
        assert process.wait(SECONDS) == 0
        assert process.stderr.read() == b""
        assert not port_file.exists()
    finally:
        process.kill()
        process.communicate()
