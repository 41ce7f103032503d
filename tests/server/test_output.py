"""A server whose standard output or standard error nobody reads serves, and ends with 0."""

import os
import subprocess
import sys
import time

import pytest

from hvae_codec.client import Client

SECONDS = 120


def full_pipe():
    """The end for writing of a pipe that has no room; the other end is open, and nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while os.write(writer, bytes(4096)):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    return writer, reader


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return (writer,)


def full_disk():
    return (os.open("/dev/full", os.O_WRONLY),)


@pytest.mark.parametrize("made", [broken_pipe, full_disk, full_pipe])
def test_output_that_goes_nowhere(made, tmp_path):
    """On both streams, each of which has its own."""
    port_file, ends = tmp_path / "port", [*made(), *made()]
    streams = {"stdout": ends[0], "stderr": ends[len(ends) // 2]}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "hvae_codec.server", "--port", "0", "--preload", "mnist"),
            *("--port-file", str(port_file), "--metrics-port", "0"),
        ],
        **streams,
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not port_file.exists():
            assert process.poll() is None, process.returncode
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with Client(f"127.0.0.1:{port_file.read_text().strip()}") as client:
            for _ in range(20):
                assert client.models()
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
        for end in ends:
            os.close(end)


def test_a_failed_start_without_standard_error_is_a_failure():
    (writer,) = broken_pipe()
    command = [sys.executable, "-m", "hvae_codec.cli", "serve", "--port", "0", "--host", "nowhere."]
    done = subprocess.run(command, stderr=writer, timeout=SECONDS, check=False)
    os.close(writer)
    heard = subprocess.run(command, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    assert b"--host nowhere." in heard.stderr
    assert done.returncode == heard.returncode == 2
