"""README.md's commands and programs, run as they stand (ports and data sizes excepted)."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

import hvae_codec.data
from benchmarks.main_job import running_server
from hvae_codec import HVAEFeatures
from hvae_codec.cli import main
from hvae_codec.data import ImageDataset

README = (Path(__file__).parents[1] / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LONG_COMMANDS = ("serve", "train", "sweep", "evaluate", "report")
COMMANDS = re.findall(r"^    hvae-codec (.*)$", README, re.MULTILINE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with photo.png and photos/, and no other place to write to."""
    monkeypatch.chdir(tmp_path)
    photo = Image.fromarray(load_sample_image("flower.jpg")[:64, :96])
    photo.save("photo.png")
    Path("photos").mkdir()
    photo.save("photos/a.png")
    china = Image.fromarray(load_sample_image("china.jpg"))
    china.crop((100, 200, 132, 232)).save("photos/b.png")
    china.crop((132, 200, 164, 232)).save("photos/c.png")
    return tmp_path


def test_in_python(here, capsys):
    (program,) = [p for p in PROGRAMS if "encode_block" in p]
    exec(program, {})
    assert capsys.readouterr().out.endswith("(260, 32) (16, 32, 32, 3)\n")


def test_archive(here, capsys):
    (program,) = [p for p in PROGRAMS if "many.hvaa" in p]
    exec(program, {})
    assert capsys.readouterr().out.splitlines() == [
        "3 ['flower', None, None] True",
        "(64, 96, 3) (64, 96, 3)",
        "2 (1, 32)",
    ]


def test_archives_on_the_command_line(here, capsys):
    """Commands and their output; sizes may differ by a few bytes where networks round otherwise."""
    (session,) = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    steps = re.findall(r"^\$ hvae-codec (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert len(steps) == session.count("$ ") == 6
    for command, output in steps:
        assert main(shlex.split(command)) == 0, command
        shown, numbers = capsys.readouterr().out, re.compile(r"\d+(?:\.\d+)?")
        assert numbers.sub("N", shown) == numbers.sub("N", output)
        pairs = zip(numbers.findall(shown), numbers.findall(output), strict=True)
        assert all(float(new) == pytest.approx(float(old), rel=0.03) for new, old in pairs)
    assert len(list(Path("unpacked").iterdir())) == 4


def test_photographs(here, capsys):
    (program,) = [p for p in PROGRAMS if "decode_rows" in p]
    exec(program, {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(") ")[0] for line in lines] == ["(32, 1500, 3"] * 18 + ["(24, 1500, 3"]


def test_photographs_whole(here, capsys):
    (program,) = [p for p in PROGRAMS if 'load("photo"' in p]
    exec(program, {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" (427, 640, 3)")
    assert 0 < int(first.split()[0]) < 40_000
    assert int(second) == pytest.approx(20_000, rel=0.02)


def test_features_of_photographs(here, capsys):
    (program,) = [p for p in PROGRAMS if 'HVAEFeatures("photo"' in p]
    exec(program, {})
    assert float(capsys.readouterr().out) > 0.8, "a flower and a palace are easily told apart"


def test_in_pillow(here, capsys):
    (program,) = [p for p in PROGRAMS if "pillow_plugin" in p]
    exec(program, {})
    shown = "HVAE (96, 64) RGB {'model': 'photo', 'quality': 40.0} 1\n"
    assert capsys.readouterr().out == shown
    assert Image.open("small.png").size == (48, 32)


def test_as_features(here, capsys, monkeypatch):
    china = load_sample_image("china.jpg")
    crops = np.stack([china[y : y + 32, x : x + 32] for y in (0, 300) for x in range(0, 600, 8)])
    labels = np.repeat(np.arange(2), len(crops) // 2)
    order = np.random.default_rng(0).permutation(len(crops))
    pictures = ImageDataset(crops[order], labels[order], "sky and trees", "test")
    monkeypatch.setattr(hvae_codec.data, "load_dataset", lambda name, split: pictures)
    (program,) = [p for p in PROGRAMS if "load_dataset" in p]
    exec(program.replace("8000", "100"), {})
    assert float(capsys.readouterr().out) > 0.9, "sky and trees are easily told apart"


def test_features_of_an_archive(here, capsys):
    (program,) = [p for p in PROGRAMS if "ArchivePictures" in p]
    exec(program, {})
    score, _, name = capsys.readouterr().out.partition(" ")
    assert float(score) > 0.7
    assert name.startswith("{'hvaefeatures__layers': ")
    assert HVAEFeatures.load("features.json").quality == 3


def test_as_a_service(here, capsys):
    plain, streaming = [p for p in PROGRAMS if "Client(" in p]
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:500])
    scope = {}
    with running_server() as target:
        exec(plain.replace("127.0.0.1:50051", target), scope)
        assert scope["pictures"][0].shape == (64, 96, 3)
        assert scope["features"].mean.shape == (1, 32)
        exec(streaming.replace("127.0.0.1:50051", target), scope)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ bytes", lines[0])
    assert "truncated PNG" in lines[1]
    size, psnr = re.fullmatch(r"(\d+) bytes, ([\d.]+) dB", lines[2]).groups()
    assert int(size) == len(scope["found"].encoded)
    assert float(psnr) >= 33.0


def test_on_the_command_line(here, capsys):
    commands = [c for c in COMMANDS if not c.startswith(LONG_COMMANDS)]
    assert len(commands) == 6
    for command in commands:
        assert main(shlex.split(command)) == 0, command
        assert capsys.readouterr().out
    assert {path.name for path in here.iterdir()} >= {"photo.hvae", "z2.npz", "samples.png"}


LONG = [c for c in COMMANDS if c.startswith(LONG_COMMANDS)]


def test_long_commands_are_there():
    words = "serve train train train train sweep evaluate report train-classifier"
    assert [command.split()[0] for command in LONG] == words.split()


@pytest.mark.parametrize("command", LONG)
def test_long_commands_parse(command):
    # --help behind all other arguments shows that the parser takes them.
    done = subprocess.run(
        [sys.executable, "-m", "hvae_codec.cli", *shlex.split(command), "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
