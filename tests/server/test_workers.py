"""Coding processes: the codec's own bytes, and a process that dies costs nobody an answer."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import hvae_codec
from hvae_codec.errors import BitstreamError
from hvae_codec.server import workers
from hvae_codec.server.workers import CodingProcesses, WorkerLostError

pytestmark = pytest.mark.usefixtures("one_thread")


def manager_threads():
    """Threads of process pools that still work or wait."""
    kinds = [type(thread).__name__ for thread in threading.enumerate()]
    return [kind for kind in kinds if "Executor" in kind]


def run(count, work):
    async def main():
        processes = CodingProcesses(count)
        await processes.start()
        try:
            return await work(processes)
        finally:
            processes.stop()

    return asyncio.run(asyncio.wait_for(main(), 120))


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10")


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(60, 190, (20, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("count", [0, 2])
def test_bytes_are_those_of_the_codec(codec, pictures, count):
    async def work(processes):
        (part,) = codec.quantise(pictures)
        files = await processes.write(codec.entropy, part)
        damaged = [*files[:3], b"nonsense", files[3][:-2], *files[4:]]
        return files, *await processes.read(codec.entropy, damaged, None)

    files, parts, errors = run(count, work)
    assert files == codec.encode_batch(pictures)
    assert sorted(errors) == [3, 4]
    assert all(isinstance(error, BitstreamError) for error in errors.values())
    good = [file for number, file in enumerate(files) if number != 3]
    np.testing.assert_array_equal(codec.pictures_of(parts), codec.decode_batch(good))


def test_a_process_that_dies_is_replaced_and_its_work_done(codec, pictures):
    async def work(processes):
        (part,) = codec.quantise(pictures)
        files = []
        for _ in range(3):
            pid = await processes._run(os.getpid)
            writing = [asyncio.create_task(processes.write(codec.entropy, part)) for _ in range(8)]
            await asyncio.sleep(0.002)
            os.kill(pid, signal.SIGKILL)
            files += await asyncio.gather(*writing)
        return files, processes.replaced

    files, replaced = run(2, work)
    assert len(files) == 24
    assert all(some == codec.encode_batch(pictures) for some in files)
    assert replaced >= 1
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() or manager_threads():
        assert time.monotonic() < deadline, "what was replaced is still there"
        time.sleep(0.05)


def test_work_that_always_kills_its_process_fails_clearly():
    async def work(processes):
        with pytest.raises(WorkerLostError, match="twice"):
            await processes._run(os._exit, 3)
        return await processes._run(os.getpid)

    assert run(1, work) != os.getpid()


ORPHAN = """
import asyncio, os
from hvae_codec.server.workers import CodingProcesses
if __name__ == "__main__":
    async def main():
        processes = CodingProcesses(1)
        await processes.start()
        print(await processes._run(os.getpid), flush=True)
        os.kill(os.getpid(), 9)
    asyncio.run(main())
"""


def test_processes_end_with_a_server_that_was_killed(tmp_path):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    done = subprocess.run(
        [sys.executable, script], stdout=subprocess.PIPE, timeout=60, check=False, text=True
    )
    assert done.returncode == -signal.SIGKILL
    pid, deadline = int(done.stdout), time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the coding process outlived its server")


def test_a_coding_process_has_no_torch():
    assert (
        "torch"
        not in subprocess.run(
            [sys.executable, "-c", "import sys, hvae_codec.server.workers; print(*sys.modules)"],
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
            text=True,
        ).stdout.split()
    )
    assert workers.__name__ == "hvae_codec.server.workers"
