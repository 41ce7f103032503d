"""Signals while the server starts: none is lost, also where the system ignores those unhandled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import starting_with

SECONDS = 60
COMMANDS = {
    "command": [str(Path(sys.executable).with_name("hvae-codec")), "serve"],
    "module": [sys.executable, "-m", "hvae_codec.server"],
}


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
    process = subprocess.Popen(
        [
            # As the kernel does for process 1 of a container that has no handler.
            *starting_with(signal.SIGTERM, signal.SIG_IGN),
            *(*COMMANDS[command], "--port", "0", "--port-file", str(port_file)),
        ],
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not handles(process.pid, signal.SIGTERM):
            assert process.poll() is None
            assert time.monotonic() < deadline
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
        os.kill(process.pid, number)
        assert process.wait(SECONDS) == 0
        assert process.stderr.read() == b""
        assert not port_file.exists()
    finally:
        process.kill()
        process.communicate()
