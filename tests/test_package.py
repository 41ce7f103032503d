"""The package as it is installed: what a wheel holds, and that it works without its extension."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROUND_TRIP = """
import numpy as np, hvae_codec
from hvae_codec import ops
picture = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
codec = hvae_codec.load("cifar10", quality=1)
print(hvae_codec.__file__, ops.extension_available(), codec.decode(codec.encode(picture)).shape)
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The files of a wheel built the normal way, without build isolation and without CUDA."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(directory), str(ROOT)],
        env={**os.environ, "HVAE_CUDA": "0"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = directory.glob("hvae_codec-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "site")
    return directory / "site"


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
