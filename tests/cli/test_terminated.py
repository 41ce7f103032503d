"""Commands that SIGTERM ends: nothing half-written stays, and what was there is as it was."""

import os
import signal
import subprocess
import time

import pytest

from hvae_codec import Archive, ArchiveWriter, load

SECONDS = 100

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def terminated(command, tmp_path):
    """Runs the command on an image and on a pipe, in which it waits until SIGTERM ends it."""

    def call(*arguments):
        os.mkfifo(tmp_path / "pipe")
        inputs = (tmp_path / "a.png", tmp_path / "pipe")
        process = subprocess.Popen(
            [command, arguments[0], *inputs, *arguments[1:], "--model", "cifar10"],
            stderr=subprocess.PIPE,
        )
        try:
            # Opening for writing succeeds once the command has opened the pipe to read it.
            end = time.monotonic() + SECONDS
            writer = None
            while writer is None:
                assert process.poll() is None
                assert time.monotonic() < end
                try:
                    writer = os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)
                except OSError:
                    time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            code = process.wait(SECONDS)
            os.close(writer)
            assert b"Traceback" not in process.stderr.read()
            return code
        finally:
            process.kill()
            process.communicate()

    return call


@pytest.fixture
def image(tmp_path, picture, save):
    return save(tmp_path / "a.png", picture(32, 32, 3, 0))


def test_an_archive_that_is_being_replaced_is_as_it_was(terminated, image, tmp_path):
    path = tmp_path / "x.hvaa"
    with ArchiveWriter(path, load("cifar10")) as writer:
        writer.add(image, "old")
    before = path.read_bytes()
    assert terminated("pack", "--replace", "--output", path) == -signal.SIGTERM
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.png", "pipe", "x.hvaa"]


def test_a_new_archive_holds_what_was_packed(terminated, image, tmp_path):
    path = tmp_path / "x.hvaa"
    assert terminated("pack", "--output", path) == -signal.SIGTERM
    with Archive(path) as archive:
        assert (archive.names, archive.info.problem) == (["a.png"], None)
        assert archive[0].shape == (32, 32, 3)
