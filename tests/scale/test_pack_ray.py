"""`hvae-codec pack --engine ray` on a real cluster: the bytes of the local engine, also when a
worker is killed in the middle.
"""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.cli import main
from hvae_codec.cli.jobs import pack_ray
from hvae_codec.cli.jobs.archive_files import open_writer
from hvae_codec.cli.jobs.pack_ray import pack_on_ray
from hvae_codec.cli.jobs.pack_sources import array_sources
from hvae_codec.utils.executors.ray import RayExecutor
from tests.photographs import load_sample_image

pytestmark = [pytest.mark.usefixtures("one_thread", "cluster")]

CHINA = load_sample_image("china.jpg")
CROPS = np.stack(
    [CHINA[y : y + 32, x : x + 32] for y in range(0, 384, 16) for x in range(0, 576, 8)]
)
"""1,728 pictures."""


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return code, json.loads(streams.out), streams.err

    return call


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """350 pictures of three sizes, grey and RGB, two of which cannot be taken; relative paths."""
    monkeypatch.chdir(tmp_path)
    place = Path("in")
    (place / "grey").mkdir(parents=True)
    for number in range(340):
        Image.fromarray(CROPS[number]).save(place / f"{number:03}.png")
    for number in range(6):
        Image.fromarray(CROPS[number, :, :, 0]).save(place / "grey" / f"{number}.png")
    Image.fromarray(CHINA[:40, :50]).save(place / "large.jpg")
    Image.fromarray(CHINA[:20, :30]).save(place / "tiny.webp")
    (place / "100.png").write_bytes(b"no picture")
    Image.fromarray(CROPS[0]).convert("RGBA").save(place / "200.png")
    return place


def packed_by_both(run, *arguments):
    """What each engine printed and reported, and their archives' bytes."""
    found = {}
    for engine in ("local", "ray"):
        code, row, errors = run(
            "pack", *arguments, "-o", f"{engine}.hvaa", "--engine", engine, "--json"
        )
        found[engine] = code, row | {"output": None}, errors, Path(f"{engine}.hvaa").read_bytes()
    return found


def test_a_folder_gives_the_same_archive_and_the_same_errors(run, folder):
    found = packed_by_both(run, folder)
    assert found["ray"] == found["local"]
    code, row, errors, _ = found["ray"]
    assert code == 1
    assert [Path(failed["input"]).name for failed in row["failed"]] == ["100.png", "200.png"]
    assert row["added"] == 346
    assert len(errors.splitlines()) == 2


def test_arrays_and_appending(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", CROPS[:300])
    np.save("b.npy", CHINA[None, :48, :64])
    found = packed_by_both(run, "a.npy", "b.npy")
    assert found["ray"] == found["local"]
    Image.fromarray(CROPS[5]).save("5.png")
    again = packed_by_both(run, "5.png", "a.npy", "--append")
    assert again["ray"] == again["local"]
    assert again["ray"][1]["pictures"] == 602
    twice = packed_by_both(run, "5.png", "--append")
    for code, row, errors, _ in twice.values():
        assert code == 1
        assert row["failed"][0]["error"] == "the archive has an image named '5.png' already"
        assert errors.count("\n") == 1
    assert twice["ray"][3] == twice["local"][3] == again["local"][3]


def test_colour_warnings_are_those_of_this_process(tmp_path, capsys):
    Image.fromarray(CROPS[0]).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    said = []
    for engine in ("local", "ray"):
        output = str(tmp_path / f"{engine}.hvaa")
        assert main(["pack", str(tmp_path / "a.png"), "-o", output, "--engine", engine]) == 0
        lines = capsys.readouterr().err.splitlines()
        said.append([line for line in lines if "profile" in line])
    assert said[0] == said[1]
    assert len(said[0]) == 1
    assert str(tmp_path / "a.png") in said[0][0]


def test_a_pipe_is_refused(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    words = ["pack", tmp_path / "pipe", "-o", tmp_path / "a.hvaa", "--engine", "ray"]
    assert main([str(word) for word in words]) == 1
    assert "is a pipe" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_shards_hold_the_pictures_in_order(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", CROPS[:10])
    code, row, _ = run(
        "pack", "a.npy", "-o", "x.hvaa", "--engine", "ray", "--shards", "3", "--json"
    )
    assert code == 0
    names = [f"x-0000{number}-of-00003.hvaa" for number in range(3)]
    assert [Path(shard["output"]).name for shard in row["archives"]] == names
    assert [shard["pictures"] for shard in row["archives"]] == [3, 3, 4]
    assert sorted(path.name for path in Path().glob("*.hvaa")) == names
    with (
        hvae_codec.Archive(names[1]) as archive,
        hvae_codec.ArchiveWriter("y.hvaa", hvae_codec.load("cifar10")) as writer,
    ):
        writer.extend(CROPS[3:6])
        assert len(archive) == 3
    assert Path("y.hvaa").read_bytes() == Path(names[1]).read_bytes()


def test_a_killed_worker_costs_time_alone(tmp_path, monkeypatch):
    codec = hvae_codec.load("cifar10", effort=1)
    with hvae_codec.ArchiveWriter(tmp_path / "local.hvaa", codec) as writer:
        writer.extend(CROPS[:768])
    runs = tmp_path / "runs"
    runs.mkdir()

    def deadly(block, **settings):
        from hvae_codec.cli.jobs.pack_ray import _code  # the worker's own, which nobody patched

        coded = _code(block, **settings)
        (runs / f"{block[0].place.row}-{os.getpid()}").touch()
        if block[0].place.row == 256 and len(list(runs.glob("256-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)  # its work is done, and lost
        return coded

    def unfinished(pictures):
        assert not (tmp_path / "ray.hvaa").exists()

    monkeypatch.setattr(pack_ray, "_code", deadly)
    wanted = ("cifar10", None, 1)
    sources = array_sources(CROPS[:768])
    with (
        RayExecutor() as executor,
        open_writer(tmp_path / "ray.hvaa", codec, "new", whole=True) as writer,
    ):
        assert pack_on_ray(writer, sources, codec, wanted, executor, unfinished) == []
    of_blocks = [path.name.partition("-")[0] for path in runs.iterdir()]
    assert set(of_blocks) == {"0", "256", "512"}
    assert of_blocks.count("256") == 2
    assert (tmp_path / "ray.hvaa").read_bytes() == (tmp_path / "local.hvaa").read_bytes()
