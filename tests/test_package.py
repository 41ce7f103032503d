"""The package as it is installed: what sources and wheel hold, and that the wheel works."""

import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.pages import fenced

ROOT = Path(__file__).parents[1]
ROUND_TRIP = """
import numpy as np, hvae_codec
from hvae_codec import ops
picture = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
codec = hvae_codec.load("cifar10", quality=1)
print(hvae_codec.__file__, ops.extension_available(), codec.decode(codec.encode(picture)).shape)
"""


def run(*command, **keywords):
    """The output of a command that must succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, **keywords)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """What a source distribution holds, made as `make wheel` makes it."""
    directory = tmp_path_factory.mktemp("sdist")
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir"]
    run(*build, directory, ROOT)
    (packed,) = directory.glob("hvae_codec-*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(directory, filter="data")
    return directory / packed.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory):
    """A wheel of these sources alone, without build isolation and without CUDA."""
    # Objects of the checkout that are newer than the sources are not compiled again.
    if (ROOT / "build" / "objects").is_dir():
        shutil.copytree(ROOT / "build" / "objects", sources / "build" / "objects")
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet"]
    run(*pip, "--wheel-dir", directory, sources, env={**os.environ, "HVAE_CUDA": "0"})
    (made,) = directory.glob("hvae_codec-*.whl")
    return made


@pytest.fixture(scope="module")
def unpacked(wheel):
    """The files of the wheel."""
    site = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The programs of a fresh environment that has the wheel, and what it needs from this one."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False)
    folder = directory / "bin"
    pip = [sys.executable, "-m", "pip", "--python", folder / "python", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", wheel)
    (site,) = directory.glob("lib/python*/site-packages")
    # Named in a .pth file, directories give their modules, but not the checkout that theirs name.
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(shared))
    return folder


ONLY_THE_WHEEL = """
import sys
sys.path.insert(0, {site!r})
# An editable install of the checkout would answer for what the wheel lacks.
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
"""


def run_in(site, code):
    """Run `code` with the unpacked wheel as the only hvae_codec there is."""
    return subprocess.run(
        [sys.executable, "-c", ONLY_THE_WHEEL.format(site=str(site)) + code],
        cwd=site,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_wheel_claims_no_other_names(unpacked):
    names = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"hvae_codec"}


def test_a_wheel_holds_everything(unpacked):
    package = unpacked / "hvae_codec"
    assert (package / "py.typed").is_file()
    assert list(package.glob("_C.*"))
    assert list(package.glob("_integer.*"))
    assert (package / "server" / "__main__.py").is_file()
    assert (package / "server" / "rpc" / "servicer.py").is_file()
    page = {path.name for path in (package / "server" / "status_page").iterdir()}
    assert {"page.html", "page.css", "page.js"} <= page
    report = {path.name for path in (package / "reporting" / "html").iterdir()}
    assert {"page.html", "page.css", "page.js", "plots.js"} <= report
    assert (package / "v1" / "codec_pb2_grpc.py").is_file()
    shipped = {path.name for path in (ROOT / "hvae_codec/checkpoints").glob("*.safetensors")}
    assert {path.name for path in (package / "checkpoints").glob("*.safetensors")} == shipped
    sizes = {path.name: path.stat().st_size for path in (package / "checkpoints").iterdir()}
    assert sizes["photo.safetensors"] < 12_000_000
    assert sum(sizes.values()) < 32_000_000


def test_a_wheel_works(unpacked):
    done = run_in(unpacked, ROUND_TRIP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "True"
    assert done.stdout.startswith(str(unpacked))


def test_the_sources_hold_all_that_is_compiled(sources):
    listed = run("git", "ls-files", "csrc", "proto", "hvae_codec", "server", cwd=ROOT).splitlines()
    assert len(listed) > 200
    assert [name for name in listed if not (sources / name).is_file()] == []


def test_a_fresh_environment_codes_an_image_outside_the_checkout(programs, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [programs / "hvae-codec"]
    ramp = np.add.outer(np.arange(48), 2 * np.arange(64)).astype(np.uint8)
    Image.fromarray(np.dstack([ramp, ramp[:, ::-1], 255 - ramp])).save(tmp_path / "ramp.png")

    def here(*words):
        return run(*command, *words, cwd=tmp_path, env=environment)

    here("encode", "ramp.png", "--model", "photo", "--quality", "80")
    here("decode", "ramp.hvae", "--output", "again.png")
    with Image.open(tmp_path / "ramp.png") as given, Image.open(tmp_path / "again.png") as again:
        difference = np.asarray(again, float) - np.asarray(given, float)
    assert 10 * math.log10(255**2 / np.square(difference).mean()) > 30
    where = "import hvae_codec; print(hvae_codec.__file__)"
    assert str(programs.parent) in run(programs / "python", "-c", where, cwd=tmp_path)
    assert "cifar10" in here("models")
    assert "--port" in here("serve", "--help")


def transcript(page):
    """The commands of a page's transcripts, and what each is said to print."""
    shown = "".join(fenced(page, "console")).replace("\\\n", "")
    for step in re.split(r"^\$ ", shown, flags=re.MULTILINE)[1:]:
        command, _, output = step.partition("\n")
        yield command, output


def words_and_numbers(text):
    """A text without its numbers, and these; seconds, which differ from run to run, are neither."""
    text = re.sub(r"in [\d.]+ s\b", "in S", text)
    number = r"\d+(?:\.\d+)?"
    return re.sub(number, "N", text), [float(found) for found in re.findall(number, text)]


def test_the_tutorial_holds_in_a_fresh_environment(programs, tmp_path):
    environment = {**os.environ, "PATH": f"{programs}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    steps = list(transcript("docs/tutorials/first-files.md"))
    assert len(steps) == 12
    for command, expected in steps:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        assert done.returncode == ("error:" in expected), done.stdout
        words, numbers = words_and_numbers(done.stdout)
        expected_words, expected_numbers = words_and_numbers(expected)
        assert words == expected_words
        # Floats of another processor may move an image's bytes a little.
        assert numbers == pytest.approx(expected_numbers, rel=0.02), command


def test_without_the_extension_everything_works_and_asking_for_it_says_how(unpacked):
    (extension,) = (unpacked / "hvae_codec").glob("_C.*")
    hidden = extension.rename(extension.with_name("hidden"))
    try:
        done = run_in(unpacked, ROUND_TRIP)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[1] == "False"
        asked = run_in(unpacked, "from hvae_codec import ops; ops.require_extension()")
        assert "ExtensionMissingError" in asked.stderr
        assert "pip install --no-build-isolation" in asked.stderr
    finally:
        hidden.rename(extension)
