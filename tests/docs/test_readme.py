"""Commands and programs of README.md and docs/, run as they stand but for ports and data set."""

import contextlib
import functools
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hvae_codec.data
from benchmarks.docs.demo import running_server
from hvae_codec.cli import main
from hvae_codec.data import ImageDataset
from tests.docs.pages import PAGES, RUN, commands, fenced
from tests.photographs import load_sample_image

ADDRESS = "127.0.0.1:50051"


PROGRAMS = {page: fenced(page, "python") for page, text in PAGES.items() if "```python" in text}


def make_images():
    """The images that the pages name, below the current directory."""
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


def load_dataset(original, name, split="train", **options):
    """`hvae_codec.data.load_dataset`, with other images for CIFAR-10's: of the upper and of the
    lower part of one, as many as its test split has.
    """
    if name != "cifar10":
        return original(name, split, **options)
    assert (split, options) == ("test", {})
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
    """What the programs of a page left that ran one after another, as if pasted."""

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
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "server.log"
    with running_server(log) as target:
        yield target
    assert "INFO serving after" in log.read_text()


@pytest.fixture(scope="module")
def ran(tmp_path_factory, server):
    """A function from a page to the session of its programs, which run once."""

    @functools.cache
    def session(page):
        folder = tmp_path_factory.mktemp("page")
        names, programs = {"__name__": "__main__"}, {}
        with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
            make_images()
            original = hvae_codec.data.load_dataset
            patch.setattr(hvae_codec.data, "load_dataset", partial(load_dataset, original))
            for name in ("CACHE", "DATA_CACHE"):  # a program sets them, for itself alone
                patch.setenv(f"DATA_OPTIMIZER_{name}_FOLDER", str(folder / name))
            for program in PROGRAMS[page]:
                assert ADDRESS in program or "Client(" not in program
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(program.replace(ADDRESS, server), page, "exec"), names)
                programs[program] = (out.getvalue(), dict(names))
        return Session(folder, programs)

    return session


@pytest.mark.parametrize("page", PROGRAMS)
def test_all_programs_run(page, ran):
    session = ran(page)
    assert len(session.programs) == len(PROGRAMS[page]) == PAGES[page].count("```python")


def test_pages_with_programs():
    guides = "archives encode-decode features photographs pillow pytorch service stores training"
    assert set(PROGRAMS) == {
        "README.md",
        "docs/index.md",
        "docs/tutorials/classify-a-folder.md",
        *(f"docs/guides/{guide}.md" for guide in guides.split()),
    }


def test_quick_start(ran):
    session = ran("README.md")
    assert "(64, 96, 3) (64, 96, 3)" in session.output("codec.preview")
    assert session.output("decode_rows").endswith(", 96, 3)\n")
    assert session.output("ArchiveWriter") == "3 (64, 96, 3) (64, 96, 3)\n"
    assert float(session.output("HVAEFeatures")) > 0.9, "sky and trees are easily told apart"
    assert session.output("Client").endswith(" (64, 96, 3) (1, 32)\n")


def test_tutorial(ran):
    session = ran("docs/tutorials/classify-a-folder.md")
    assert session.output("Image.fromarray") == "56\n"
    assert session.output("HVAEFeatures").startswith("(56, ")
    assert float(session.output("cross_val_score")) > 0.9
    assert session.output('archive["china-0-0.png"]') == "(96, 96, 3)\n"


def test_training_in_python(ran):
    session = ran("docs/guides/training.md")
    assert int(session.output("Recipe(")) > 1000
    assert (session.folder / "runs/small").is_dir()


def test_in_python(ran):
    session = ran("docs/guides/encode-decode.md")
    assert session.output("encode_block").endswith("(260, 32) (16, 32, 32, 3)\n")


def test_sizes_and_qualities_that_are_asked_for(ran):
    session = ran("docs/guides/encode-decode.md")
    names = session.names_after("encode_within")
    assert len(names["blob"]) <= 80  # of the last of three requests
    assert sum(map(len, names["blobs"])) <= 500
    assert (len(names["blobs"]), names["between"].info.name) == (8, "cifar10")


def test_archive(ran):
    session = ran("docs/guides/archives.md")
    assert session.output("many.hvaa").splitlines() == [
        "3 ['flower', None, None] True",
        "(64, 96, 3) (64, 96, 3)",
        "2 (1, 32)",
    ]


def test_archives_on_the_command_line(here, capsys):
    """Commands and their output; sizes may differ by a few bytes where networks round otherwise."""
    (session,) = fenced("docs/guides/archives.md", "console")
    steps = re.findall(r"^\$ hvae-codec (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert len(steps) == session.count("$ ") == 6
    for command, output in steps:
        assert main(shlex.split(command)) == 0, command
        shown, numbers = capsys.readouterr().out, re.compile(r"\d+(?:\.\d+)?")
        assert numbers.sub("N", shown) == numbers.sub("N", output)
        pairs = zip(numbers.findall(shown), numbers.findall(output), strict=True)
        assert all(float(new) == pytest.approx(float(old), rel=0.03) for new, old in pairs)
    assert len(list(Path("unpacked").iterdir())) == 4


def test_photographs(ran):
    session = ran("docs/guides/photographs.md")
    lines = session.output("decode_rows").splitlines()
    assert [line.split(") ")[0] for line in lines] == ["(32, 1500, 3"] * 18 + ["(24, 1500, 3"]


def test_photographs_whole(ran):
    session = ran("docs/guides/photographs.md")
    first, second = session.output('load("photo"').splitlines()
    assert first.endswith(" (427, 640, 3)")
    assert 0 < int(first.split()[0]) < 40_000
    assert int(second) == pytest.approx(20_000, rel=0.02)


def test_features_of_photographs(ran):
    session = ran("docs/guides/features.md")
    score = float(session.output('HVAEFeatures("photo"'))
    assert score > 0.8, "a flower and a palace are easily told apart"


def test_labels_of_an_archive(ran):
    session = ran("docs/guides/archives.md")
    shown = "[7, {'class': 'flower', 'box': [0, 0, 32, 32]}]\n"
    assert session.output("labels=True") == shown


def test_in_pytorch(ran):
    session = ran("docs/guides/pytorch.md")
    lines = session.output("ArchiveStream").splitlines()
    labels = [json.loads(line.partition("]) ")[2]) for line in lines]
    assert sorted(labels[0] + labels[1]) == sorted(labels[2] + labels[3]) == list(range(8))
    assert labels[:2] != labels[2:]
    assert lines[0].startswith("torch.Size([4, 3, 64, 96]) [")
    shape, _, size = session.output("encode_image").rpartition(" ")
    assert shape == "torch.Size([3, 64, 96])"
    assert 0 < int(size) < 4_000


def test_in_stores(ran):
    session = ran("docs/guides/stores.md")
    assert session.output("large.zarr").startswith("(3, 32, 32, 3) (64, 96, 3)\n")
    assert session.output("to_zarr") == "uint8\n"
    assert session.output("HvaeNumcodec") == "(32, 32, 3)\n"
    lines = session.output("TarEncoder").splitlines()
    assert lines[9:] == ["0009 (32, 32, 3) 9", "10"]
    assert session.output("Dataset.from_dict") == "(64, 96, 3)\n(64, 96, 3)\n"
    assert session.output("litdata.optimize").endswith("10 (32, 32, 3)\n")
    assert session.output("pyarrow.parquet") == "(10, 32, 32, 3) (2, 32, 32, 3)\n"


def test_in_pillow(ran):
    session = ran("docs/guides/pillow.md")
    shown = "HVAE (96, 64) RGB {'model': 'photo', 'quality': 40.0} 1\n"
    assert session.output("pillow_plugin") == shown
    assert Image.open(session.folder / "small.png").size == (48, 32)


def test_as_features(ran):
    session = ran("docs/guides/features.md")
    score = float(session.output("load_dataset"))
    assert score > 0.9, "sky and trees are easily told apart"


def test_features_of_an_archive(ran):
    session = ran("docs/guides/features.md")
    score, _, name = session.output("ArchivePictures").partition(" ")
    assert float(score) > 0.7
    assert name.startswith("{'hvaefeatures__layers': ")
    assert hvae_codec.HVAEFeatures.load(session.folder / "features.json").quality == 3


def test_as_a_service(ran):
    session = ran("docs/guides/service.md")
    names = session.names_after("client.features_from_bytes")
    assert names["images"][0].shape == (64, 96, 3)
    assert names["features"].mean.shape == (1, 32)
    lines = session.output("encode_stream").splitlines()
    assert re.fullmatch(r"\d+ bytes", lines[0])
    assert "truncated PNG" in lines[1]
    size, psnr = re.fullmatch(r"(\d+) bytes, ([\d.]+) dB", lines[2]).groups()
    assert int(size) == len(session.names_after("encode_stream")["found"].encoded)
    assert float(psnr) >= 33.0


def test_the_service_on_the_command_line(here, server, capsys):
    """Commands and all that they print; numbers differ, images being others."""
    blocks = fenced("docs/guides/service.md", "")
    (shown,) = [block for block in blocks if "encode pictures --server" in block]
    steps = re.findall(r"^\$ hvae-codec (.*)\n((?:[^$].*\n)*)", shown, re.MULTILINE)
    assert len(steps) == shown.count("$ ") == 2
    numbers = re.compile(r"\d+(?:\.\d+)?")
    for command, output in steps:
        code = main(shlex.split(command.replace(ADDRESS, server)))
        found = capsys.readouterr()
        assert code == ("failed" in output and " 0 failed" not in output)
        assert numbers.sub("N", found.err + found.out) == numbers.sub("N", output)


def test_on_the_command_line(here, capsys):
    found = commands("docs/guides/command-line.md")
    assert [command.split()[0] for command in found] == list(RUN)
    for command in found:
        assert main(shlex.split(command)) == 0, command
        assert capsys.readouterr().out
    assert {path.name for path in here.iterdir()} >= {"photo.hvae", "z2.npz", "samples.png"}


def test_secrets_are_made_as_shown_and_the_server_takes_them(here):
    blocks = fenced("docs/guides/service.md", "")
    block = next(text for text in blocks if "secrets.token_urlsafe" in text)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    serve = next(shlex.split(line) for line in lines if line.startswith("hvae-codec serve"))
    call = next(shlex.split(line) for line in lines if line.startswith("hvae-codec encode"))
    making = "\n".join(line for line in lines if not line.startswith("hvae-codec"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", making], check=True, env=environment, capture_output=True)
    for secret in ("tokens", "my-token", "server.key"):
        assert Path(secret).stat().st_mode & 0o077 == 0
    command = [sys.executable, "-m", "hvae_codec.server", *serve[2:]]
    command += ["--port", "0", "--port-file", "port", "--preload", "cifar10"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not Path("port").exists():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        call[call.index("--server") + 1] = f"localhost:{Path('port').read_text().strip()}"
        assert main(call[1:]) == 0
    finally:
        server.kill()
        server.wait()
    assert Path("photo.hvae").exists()
