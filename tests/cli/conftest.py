"""The command in this process, the installed one in its own, pictures, and a model of grey ones."""

import json
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvae_codec.cli import main
from hvae_codec.codec.checkpoint import save_checkpoint
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.models import HierarchicalVAE, get_spec

COMMAND = Path(sysconfig.get_path("scripts")) / "hvae-codec"


class Outcome:
    """What a run of the command left: exit code and the two streams."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        """Standard output, which must hold one JSON document and nothing else."""
        return json.loads(self.out)

    def error(self):
        """The one line of an error."""
        (line,) = self.err.splitlines()
        assert line.startswith("hvae-codec: error: ")
        return line.removeprefix("hvae-codec: error: ")


@pytest.fixture
def run(capsys):
    """Runs the command's `main` in this process."""

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's way out
            code = stop.code
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def installed():
    """Runs the installed command in a process of its own."""

    def call(*arguments, **options):
        command = [COMMAND, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, **options)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def command():
    """Path of the installed command."""
    return COMMAND


def smooth(height, width, channels, seed):
    """A picture with some structure: a few waves and a little noise, uint8 [H, W, C]."""
    rng = np.random.default_rng(seed)
    y, x, _ = np.mgrid[:height, :width, :1] / 32.0
    turn, shift = rng.uniform(0, 3, (2, channels)), rng.uniform(0, 6, channels)
    waves = np.sin(turn[0] * y + turn[1] * x + shift)
    noisy = 128 + 90 * waves + rng.normal(0, 5, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def picture():
    """Makes a picture uint8 [H, W, C] of a size, the same for the same seed."""
    return smooth


@pytest.fixture
def save():
    """Writes an array as a picture file, with the folders above it, and returns its path."""

    def write(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(path)
        return path

    return write


@pytest.fixture
def mixed_folder(tmp_path, save):
    """A folder of good pictures of several sizes and of bad files between them; the good, the bad.

    Sorted: alpha.png, c0.png ... c3.png, damaged.png, sub/grey-ü.png, text.jpg.
    """
    folder = tmp_path / "pictures"
    good = [save(folder / f"c{i}.png", smooth(32, 32, 3, i)) for i in range(3)]
    good.append(save(folder / "c3.png", smooth(40, 70, 3, 3)))
    good.append(save(folder / "sub" / "grey-ü.png", smooth(32, 32, 1, 4)))
    bad = [folder / "alpha.png", folder / "damaged.png", folder / "text.jpg"]
    Image.new("RGBA", (32, 32)).save(bad[0])
    bad[1].write_bytes(good[0].read_bytes()[:300])
    bad[2].write_text("no image")
    (folder / "notes.txt").write_text("not even looked at")
    return folder, good, bad


@pytest.fixture(scope="session")
def grey_models(tmp_path_factory):
    """A directory with one checkpoint: the 28x28x1 architecture, random weights, named "grey"."""
    directory = tmp_path_factory.mktemp("models")
    torch.manual_seed(5)
    model = HierarchicalVAE(get_spec("ghvae-28x28x1"), "uniform").eval()
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), dtype=np.uint8)
    measured = {"payload_bytes": 1.0, "psnr_db": float("inf"), "rates_nats": [1.0, 2.0]}
    card = {"name": "grey", "quality": 1, "recipe": {}, "measured": measured}
    save_checkpoint(directory / "grey-q1.safetensors", model, fit_tables(model, images), card)
    return directory
