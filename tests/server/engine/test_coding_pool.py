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
from hvae_codec.server.engine import coding_pool
from hvae_codec.server.engine.batch_worker import (
    ModelNeededError,
    key_of,
    preparation,
    run_batch,
)
from hvae_codec.server.engine.coding_pool import CodingPool
from hvae_codec.server.engine.operations import Decode, Encode, ReadFeatures
from hvae_codec.server.engine.process_pool import BATCH_WORKER
from hvae_codec.server.errors import WorkerLostError
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("one_thread")


def pool_threads():
    """Threads of process pools that still work or wait."""
    return [name for thread in threading.enumerate() if "processes" in (name := thread.name)]


def run(count, work, prepare=None):
    async def main():
        processes = CodingPool(count, prepare)
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
        files = await processes.write(codec.file_coder, part)
        damaged = [*files[:3], b"nonsense", files[3][:-2], *files[4:]]
        return files, *await processes.read(codec.file_coder, damaged, None)

    files, parts, errors = run(count, work)
    assert files == codec.encode_batch(pictures)
    assert sorted(errors) == [3, 4]
    assert all(isinstance(error, BitstreamError) for error in errors.values())
    good = [file for number, file in enumerate(files) if number != 3]
    np.testing.assert_array_equal(codec.images_of(parts), codec.decode_batch(good))


def test_a_process_that_dies_is_replaced_and_its_work_done(codec, pictures):
    async def work(processes):
        (part,) = codec.quantise(pictures)
        files = []
        for _ in range(3):
            pid = await processes.run(os.getpid)
            writing = [
                asyncio.create_task(processes.write(codec.file_coder, part)) for _ in range(8)
            ]
            await asyncio.sleep(0.002)
            os.kill(pid, signal.SIGKILL)
            files += await asyncio.gather(*writing)
        return files, processes.restarts

    others = set(multiprocessing.active_children())  # servers
    files, replaced = run(2, work)
    assert len(files) == 24
    assert all(some == codec.encode_batch(pictures) for some in files)
    assert replaced >= 1
    wait_until(
        lambda: set(multiprocessing.active_children()) <= others and not pool_threads(),
        "what was replaced is still there",
    )


def test_batches_are_computed_as_by_the_codec(codec, pictures):
    key = key_of(codec.tuned(1, 2.0))
    expected = codec.encode_batch(pictures, effort=1, trade=2.0)

    async def work(processes):
        plain = await processes.run(run_batch, key_of(codec), Encode(), list(pictures))
        tuned = await processes.run(run_batch, key, Encode(), list(pictures))
        files = [*plain[0][:3], b"nonsense", *plain[0][3:]]
        decoded = await processes.run(run_batch, key_of(codec), Decode(), files)
        read = await processes.run(run_batch, key_of(codec), ReadFeatures(1), list(pictures))
        return plain, tuned, decoded, read

    plain, tuned, decoded, read = run(2, work, preparation([("cifar10", None), ("nonsense", None)]))
    assert plain[0] == codec.encode_batch(pictures)
    assert tuned[0] == expected != plain[0]
    assert isinstance(decoded[0].pop(3), BitstreamError)
    np.testing.assert_array_equal(decoded[0], codec.decode_batch(plain[0]))
    mean = codec.layer_features(pictures)[1].mean
    np.testing.assert_allclose(np.concatenate([f.mean for f in read[0]]), mean, atol=1e-5)
    assert all(0 < seconds < 60 for _, seconds in (plain, tuned, decoded, read))


def test_a_quality_of_photographs_and_an_unknown_model(pictures):
    photo = hvae_codec.load("photo", 30)
    unknown = key_of(photo)._replace(model_id="00" * 8)

    async def work(processes):
        with pytest.raises(ModelNeededError, match="not available"):
            await processes.run(run_batch, unknown, Encode(), list(pictures[:2]))
        return await processes.run(run_batch, key_of(photo), Encode(), list(pictures[:2]))

    files, _ = run(1, work, preparation([]))
    assert files == photo.encode_batch(pictures[:2])


def test_models_and_device_are_those_of_the_server(monkeypatch, tmp_path):
    """Not those of the time at which the process began that the others come from."""

    async def work(processes):
        return await processes.run(os.getenv, "HVAE_MODELS")

    assert run(1, work, preparation([])) == os.getenv("HVAE_MODELS")
    monkeypatch.setenv("HVAE_MODELS", str(tmp_path))
    assert run(1, work, preparation([])) == str(tmp_path)


def test_processes_that_are_killed_in_the_middle_of_batches(codec, pictures):
    expected = codec.encode_batch(pictures)

    async def work(processes):
        ended = []
        for _ in range(2):
            batches = [
                asyncio.create_task(
                    processes.run(run_batch, key_of(codec), Encode(), list(pictures))
                )
                for _ in range(8)
            ]
            await asyncio.sleep(0.02)
            os.kill(next(iter(processes._all))._process.pid, signal.SIGKILL)
            ended += await asyncio.gather(*batches)
        return ended, processes.restarts

    ended, replaced = run(2, work, preparation([("cifar10", None)]))
    assert [files for files, _ in ended] == [expected] * 16
    assert 1 <= replaced <= 2


def test_a_model_that_a_process_cannot_find_is_given_to_it(codec, pictures, monkeypatch, tmp_path):
    monkeypatch.setenv("HVAE_MODELS", str(tmp_path))
    prepare = preparation([])

    async def work(processes):
        task = key_of(codec.tuned(1, 2.0)), Encode(), list(pictures)
        with pytest.raises(ModelNeededError, match=codec.info.model_id):
            await processes.run(run_batch, *task)
        given, _ = await processes.run(run_batch, *task, codec.checkpoint)
        kept, _ = await processes.run(run_batch, *task)
        return given, kept

    given, kept = run(1, work, prepare)
    assert given == kept == codec.encode_batch(pictures, effort=1, trade=2.0)


def test_a_stop_waits_for_no_work():
    async def work(processes):
        sleeping = asyncio.create_task(processes.run(time.sleep, 600))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await asyncio.to_thread(processes.stop)
        with pytest.raises(WorkerLostError):
            await sleeping
        return time.monotonic() - began, processes.restarts

    seconds, replaced = run(1, work)
    assert seconds < 10
    assert replaced == 0


def _raise(kind):
    if kind == "with no way back":
        raise UnpicklableError(kind)
    raise SystemExit(kind) if kind == "exit" else ValueError(kind)


class UnpicklableError(Exception):
    def __reduce__(self):
        raise TypeError("never")


def test_errors_come_back_and_the_process_stays():
    async def work(processes):
        pid = await processes.run(os.getpid)
        with pytest.raises(ValueError, match="bad"):
            await processes.run(_raise, "bad")
        with pytest.raises(RuntimeError, match="no way back"):
            await processes.run(_raise, "with no way back")
        with pytest.raises(RuntimeError, match="exit"):
            await processes.run(_raise, "exit")
        return pid, await processes.run(os.getpid)

    before, after = run(1, work)
    assert before == after


def test_work_that_always_kills_its_process_fails_clearly():
    async def work(processes):
        with pytest.raises(WorkerLostError, match="twice"):
            await processes.run(os._exit, 3)
        return await processes.run(os.getpid)

    assert run(1, work) != os.getpid()


ORPHAN = """
import asyncio, os
from hvae_codec.server.engine.batch_worker import preparation
from hvae_codec.server.engine.coding_pool import CodingPool
if __name__ == "__main__":
    async def main():
        processes = CodingPool(1, %s)
        await processes.start()
        print(await processes.run(os.getpid), flush=True)
        os.kill(os.getpid(), 9)
    asyncio.run(main())
"""


@pytest.mark.parametrize("prepare", ["None", "preparation([])"])
def test_processes_end_with_a_server_that_was_killed(tmp_path, prepare):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN % prepare)
    done = subprocess.run(
        [sys.executable, script], stdout=subprocess.PIPE, timeout=240, check=False, text=True
    )
    assert done.returncode == -signal.SIGKILL
    pid, deadline = int(done.stdout), time.monotonic() + 60
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
            [
                sys.executable,
                "-c",
                "import sys, hvae_codec.server.engine.coding_pool; print(*sys.modules)",
            ],
            stdout=subprocess.PIPE,
            timeout=240,
            check=True,
            text=True,
        ).stdout.split()
    )
    assert coding_pool.__name__ == "hvae_codec.server.engine.coding_pool"


def test_what_coding_processes_share_has_nothing_of_grpc():
    """gRPC's threads do not survive the fork that they come from."""
    command = f"import sys, {BATCH_WORKER}; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", command],
        stdout=subprocess.PIPE,
        timeout=240,
        check=True,
        text=True,
    ).stdout.split()
    assert "torch" in modules
    assert not {"grpc", "grpc._cython"} & set(modules)
