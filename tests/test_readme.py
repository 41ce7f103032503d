"""README.md's commands and programs, run as they stand (ports and the data set excepted)."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

import hvae_codec.data
from benchmarks.docs.demo import running_server
from hvae_codec import HVAEFeatures
from hvae_codec.cli import main
from hvae_codec.data import ImageDataset

README = (Path(__file__).parents[1] / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
ADDRESS = "127.0.0.1:50051"
LONG_COMMANDS = ("serve", "train", "sweep", "evaluate", "report")
COMMANDS = re.findall(r"^    hvae-codec (.*)$", README, re.MULTILINE)


def make_images():
    """The images that README.md names, below the current directory."""
    photo = Image.fromarray(load_sample_image("flower.jpg")[:64, :96])
    photo.save("photo.png")
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:500])
    Path("photos").mkdir()
    photo.save("photos/a.png")
    china = Image.fromarray(load_sample_image("china.jpg"))
    china.crop((100, 200, 132, 232)).save("photos/b.png")
    china.crop((132, 200, 164, 232)).save("photos/c.png")
    Path("pictures").mkdir()
    photo.save("pictures/a.png")
    china.crop((100, 200, 300, 300)).save("pictures/b.png")
    Path("pictures/broken.png").write_bytes(Path("photo.png").read_bytes()[:500])


def sky_and_trees(name, split):
    """As many images as CIFAR-10's test split has: of the upper and of the lower part of one."""
    assert (name, split) == ("cifar10", "test")
    china, rng = load_sample_image("china.jpg"), np.random.default_rng(0)
    labels, columns = rng.integers(0, 2, 10_000), rng.integers(0, 608, 10_000)
    rows = 300 * labels + rng.integers(0, 30, 10_000)
    crops = [china[y : y + 32, x : x + 32] for y, x in zip(rows, columns, strict=True)]
    return ImageDataset(np.stack(crops), labels, "sky and trees", "test")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with the images, and no other to write to."""
    monkeypatch.chdir(tmp_path)
    make_images()
    return tmp_path


@dataclass
class Session:
    """What all programs left that ran one after another, as one who pastes them has it."""

    folder: Path
    programs: dict[str, tuple[str, dict]]
    """Of each what it printed, and all names after it."""

    def output(self, words):
        """What the one program with these words in it printed."""
        return self._program(words)[0]

    def names_after(self, words):
        """The names and values that it and those before it left."""
        return self._program(words)[1]

    def _program(self, words):
        (found,) = [result for program, result in self.programs.items() if words in program]
        return found


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    names, programs = {"__name__": "__main__"}, {}
    with (
        contextlib.chdir(folder),
        pytest.MonkeyPatch.context() as patch,
        running_server() as target,
    ):
        make_images()
        patch.setattr(hvae_codec.data, "load_dataset", sky_and_trees)
        for program in PROGRAMS:
            assert ADDRESS in program or "Client(" not in program
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(program.replace(ADDRESS, target), "README.md", "exec"), names)
            programs[program] = (out.getvalue(), dict(names))
    return Session(folder, programs)


def test_all_programs_are_run_each_once(session):
    assert len(session.programs) == len(PROGRAMS) == README.count("```python") == 11


def test_in_python(session):
    assert session.output("encode_block").endswith("(260, 32) (16, 32, 32, 3)\n")


def test_sizes_and_qualities_that_are_asked_for(session):
    names = session.names_after("encode_within")
    assert len(names["blob"]) <= 80  # of the last of three requests
    assert sum(map(len, names["blobs"])) <= 500
    assert (len(names["blobs"]), names["between"].info.name) == (8, "cifar10")


def test_archive(session):
    assert session.output("many.hvaa").splitlines() == [
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


def test_photographs(session):
    lines = session.output("decode_rows").splitlines()
    assert [line.split(") ")[0] for line in lines] == ["(32, 1500, 3"] * 18 + ["(24, 1500, 3"]


def test_photographs_whole(session):
    first, second = session.output('load("photo"').splitlines()
    assert first.endswith(" (427, 640, 3)")
    assert 0 < int(first.split()[0]) < 40_000
    assert int(second) == pytest.approx(20_000, rel=0.02)


def test_features_of_photographs(session):
    score = float(session.output('HVAEFeatures("photo"'))
    assert score > 0.8, "a flower and a palace are easily told apart"


def test_in_pillow(session):
    shown = "HVAE (96, 64) RGB {'model': 'photo', 'quality': 40.0} 1\n"
    assert session.output("pillow_plugin") == shown
    assert Image.open(session.folder / "small.png").size == (48, 32)


def test_as_features(session):
    score = float(session.output("load_dataset"))
    assert score > 0.9, "sky and trees are easily told apart"


def test_features_of_an_archive(session):
    score, _, name = session.output("ArchivePictures").partition(" ")
    assert float(score) > 0.7
    assert name.startswith("{'hvaefeatures__layers': ")
    assert HVAEFeatures.load(session.folder / "features.json").quality == 3


def test_as_a_service(session):
    names = session.names_after("client.features_from_bytes")
    assert names["pictures"][0].shape == (64, 96, 3)
    assert names["features"].mean.shape == (1, 32)
    lines = session.output("encode_stream").splitlines()
    assert re.fullmatch(r"\d+ bytes", lines[0])
    assert "truncated PNG" in lines[1]
    size, psnr = re.fullmatch(r"(\d+) bytes, ([\d.]+) dB", lines[2]).groups()
    assert int(size) == len(session.names_after("encode_stream")["found"].encoded)
    assert float(psnr) >= 33.0


def test_the_service_on_the_command_line(here, capsys):
    """Commands and all that they print; numbers differ, images being others."""
    (shown,) = [block for kind, block in FENCED if not kind and "remote encode pictures" in block]
    steps = re.findall(r"^\$ hvae-codec (.*)\n((?:[^$].*\n)*)", shown, re.MULTILINE)
    assert len(steps) == shown.count("$ ") == 2
    numbers = re.compile(r"\d+(?:\.\d+)?")
    with running_server() as target:
        for command, output in steps:
            code = main(shlex.split(command.replace(ADDRESS, target)))
            found = capsys.readouterr()
            assert code == ("failed" in output and " 0 failed" not in output)
            assert numbers.sub("N", found.err + found.out) == numbers.sub("N", output)


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


def test_secrets_are_made_as_shown_and_the_server_takes_them(here):
    block = next(text for _, text in FENCED if "secrets.token_urlsafe" in text)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    serve = next(shlex.split(line) for line in lines if line.startswith("hvae-codec serve"))
    remote = next(shlex.split(line) for line in lines if line.startswith("hvae-codec remote"))
    making = "\n".join(line for line in lines if not line.startswith("hvae-codec"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", making], check=True, env=environment, capture_output=True)
    for secret in ("tokens", "my-token", "server.key"):
        assert Path(secret).stat().st_mode & 0o077 == 0
    command = [sys.executable, "-m", "hvae_codec.server", *serve[2:]]
    command += ["--port", "0", "--port-file", "port", "--warm", "cifar10"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not Path("port").exists():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        remote[remote.index("--server") + 1] = f"localhost:{Path('port').read_text().strip()}"
        assert main(remote[1:]) == 0
    finally:
        server.kill()
        server.wait()
    assert Path("photo.hvae").exists()
