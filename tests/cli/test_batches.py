"""Batches of files beside each other: what they make, in which order, and how much at a time."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import hvae_codec
from hvae_codec.cli.jobs import batches
from hvae_codec.cli.jobs.batches import Item, run_in_batches
from hvae_codec.cli.jobs.files import Job
from hvae_codec.errors import HvaeCodecError

SECONDS = 60


@pytest.fixture
def cores(monkeypatch):
    """Two cores, though tests compute on one."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    yield
    torch.set_num_threads(threads)


def jobs(count):
    return [Job(Path(f"{index}.png"), Path(f"{index}.hvae")) for index in range(count)]


def number(path):
    return int(path.stem)


def finish(job, result):
    return {"input": str(job.source), "result": result}


def test_two_batches_are_converted_at_a_time_and_rows_keep_their_order(cores):
    both, threads = threading.Barrier(2), set()

    def convert(group, values):
        both.wait(SECONDS)  # passes only while another batch is converted
        threads.add(threading.get_ident())
        return [value * 10 for value in values]

    def read(source):
        return Item(number(source) % 2, number(source), batches.BATCH_PIXELS)

    rows = run_in_batches(jobs(6), "test", read=read, convert=convert, finish=finish)
    assert rows == [finish(job, 10 * index) for index, job in enumerate(jobs(6))]
    assert len(threads) == 2
    assert threading.get_ident() not in threads


def test_images_at_work_are_bounded_and_the_largest_are_alone_in_the_caller(cores):
    lock, now, most, alone = threading.Lock(), [0], [0], []
    large = {2, 5}

    def pixels(index):
        return batches.MAX_PIXELS if index in large else batches.MAX_PIXELS // 2

    def convert(group, values):
        with lock:
            now[0] += sum(map(pixels, values))
            most[0] = max(most[0], now[0])
        if large & set(values):
            alone.append((threading.current_thread() is threading.main_thread(), now[0]))
        with lock:
            now[0] -= sum(map(pixels, values))
        return values

    def read(source):
        return Item(number(source), number(source), pixels(number(source)))

    rows = run_in_batches(jobs(8), "test", read=read, convert=convert, finish=finish)
    assert [row["result"] for row in rows] == list(range(8))
    assert most[0] == batches.MAX_PIXELS
    assert alone == [(True, batches.MAX_PIXELS)] * 2


def test_an_error_of_one_image_is_its_own_and_any_other_error_ends_the_run(cores, capsys):
    def read(source):
        return Item("all", number(source), 1)

    def convert(group, values):
        if 3 in values:
            raise HvaeCodecError("three is refused")
        return values

    rows = run_in_batches(jobs(5), "test", read=read, convert=convert, finish=finish)
    assert rows.pop(3) == {"input": "3.png", "error": "3.png: three is refused"}
    assert [row["result"] for row in rows] == [0, 1, 2, 4]
    assert "3.png: three is refused" in capsys.readouterr().err

    def broken(group, values):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_batches(jobs(5), "test", read=read, convert=broken, finish=finish)


def test_a_folder_on_two_cores_gives_what_one_core_gives(save, picture, tmp_path):
    """In a process of its own, with threads that compute."""
    sizes = [(512, 512), (40, 70), (512, 513), (33, 65), (64, 100)]  # of 262,144 pixels a batch
    pictures = [picture(*size, 3, seed) for seed, size in enumerate(sizes)]
    folder = tmp_path / "images"
    folder.mkdir()
    for index, pixels in enumerate(pictures):
        save(folder / f"{index}.png", pixels)
    (folder / "bad.png").write_bytes(b"no image")
    command = [
        sys.executable,
        "-m",
        "hvae_codec.cli",
        "encode",
        folder,
        "--model",
        "photo",
        "--json",
    ]
    done = subprocess.run(
        [*command, "--output", tmp_path / "made"],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    assert [Path(row["input"]).name for row in rows] == [*(f"{i}.png" for i in range(5)), "bad.png"]
    codec = hvae_codec.load("photo")
    for index, pixels in enumerate(pictures):
        blob = (tmp_path / "made" / f"{index}.hvae").read_bytes()
        assert blob == codec.encode(pixels)
