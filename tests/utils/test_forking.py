"""Processes that are forked from one that has computed: they compute the same, and return."""

import multiprocessing
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.errors import ArchiveError

SECONDS = 60
IMAGE = np.random.default_rng(3).integers(0, 256, (160, 160, 3), np.uint8)


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_fork(function, *arguments):
    """What a function gives in a forked process; fails where that does not return in time."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def run():
        try:
            theirs.send((True, function(*arguments)))
        except Exception as error:
            theirs.send((False, repr(error)))

    process = context.Process(target=run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        process.start()
    try:
        assert ours.poll(SECONDS), "the forked process does not return"
        good, result = ours.recv()
        assert good, result
        return result
    finally:
        process.kill()
        process.join()


def everything(codec, options):
    blob = codec.encode(IMAGE, **options)
    return blob, codec.decode(blob), codec.features([IMAGE]).mean, codec.sample(2, seed=1)


@pytest.mark.parametrize(
    ("name", "options"), [("cifar10", {}), ("cifar10", {"effort": 1}), ("photo", {})]
)
def test_a_forked_process_computes_the_same(name, options):
    codec = hvae_codec.load(name)
    expected = everything(codec, options)
    found = in_fork(everything, codec, options)
    assert found[0] == expected[0]
    for one, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(one.astype(float), other.astype(float), atol=1.01)


def with_threads(codec, count):
    torch.set_num_threads(count)
    return codec.encode(IMAGE), torch.get_num_threads()


def test_threads_set_in_the_child_do_not_hang_it():
    codec = hvae_codec.load("cifar10")
    expected = codec.encode(IMAGE)
    assert in_fork(with_threads, codec, 2) == (expected, 1)
    assert torch.get_num_threads() == 2


def test_a_fork_of_a_fork(tmp_path):
    """Also with the library imported in the parent alone, and torch used there without it."""
    code = (
        "import os, sys\n"
        "import numpy as np, torch, hvae_codec\n"
        "torch.set_num_threads(2)\n"
        "torch.randn(512, 512) @ torch.randn(512, 512)\n"
        "for _ in range(2):\n"
        "    child = os.fork()\n"
        "    if child:\n"
        "        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "codec = hvae_codec.load('cifar10', 1)\n"
        "print(codec.decode(codec.encode(np.zeros((200, 200, 3), np.uint8))).shape, flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    assert done.stdout == "(200, 200, 3)\n"


def test_an_archive_is_read_in_a_fork(tmp_path):
    with ArchiveWriter(tmp_path / "a.hvaa", hvae_codec.load("cifar10", 1)) as writer:
        writer.extend([IMAGE, IMAGE[:32, :32]])
    with Archive(tmp_path / "a.hvaa") as archive:
        expected = archive[1]
        found = in_fork(archive.__getitem__, 1)
        np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=1.01)


def used_in_child(writer):
    messages = []
    for use in (lambda: writer.add(IMAGE), writer.flush):
        try:
            use()
        except ArchiveError as error:
            messages.append(str(error))
    writer.close()
    return messages


def test_a_writer_is_of_its_process(tmp_path):
    codec = hvae_codec.load("cifar10", 1)
    with ArchiveWriter(tmp_path / "a.hvaa", codec) as writer:
        writer.add(IMAGE[:32, :32])
        messages = in_fork(used_in_child, writer)
        assert len(messages) == 2
        assert all("is of another process" in message for message in messages)
        writer.add(IMAGE[32:64, :32])
    with Archive(tmp_path / "a.hvaa") as archive:
        assert (len(archive), archive.info.problem, archive.verify()) == (2, None, [])


def test_a_process_forked_while_other_threads_compute_returns():
    # A thread in the middle of a matrix product holds a lock of NumPy's, for ever in the child.
    codec = hvae_codec.load("photo", 30)
    expected = codec.encode(IMAGE)
    ended = threading.Event()

    def compute():
        while not ended.is_set():
            codec.encode(IMAGE)

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert in_fork(codec.encode, IMAGE) == expected
    finally:
        ended.set()
        for thread in threads:
            thread.join()
