"""A model that a server has loaded outlives its files, whatever becomes of its processes."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import hvae_codec
from hvae_codec.client import Client
from tests.server.test_faults import coding_processes

CHECKPOINTS = Path(hvae_codec.__file__).parent / "checkpoints"


def remove(folder):
    """As where a volume is gone."""
    shutil.rmtree(folder)


def exchange(folder):
    """Other models take the names of the old ones, as an update in place does it."""
    for path in folder.glob("cifar10-q3.*"):
        shutil.copy(CHECKPOINTS / f"mnist-q1{path.suffix}", path)
    for path in folder.glob("photo.*"):
        path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("go", [remove, exchange])
def test_loaded_models_outlive_their_files(go, start_server, tiles, smooth_picture, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    for path in (*CHECKPOINTS.glob("cifar10-q3.*"), *CHECKPOINTS.glob("photo.*")):
        shutil.copy(path, folder)
    server = start_server("--models", str(folder), "--coding-processes", "1", fresh=True)
    pictures = np.concatenate([tiles] * 8)  # more than the event loop computes by itself
    photographs = [smooth_picture(300, 400, seed=seed) for seed in range(3)]

    def ask(client):
        files = client.encode(pictures, model="cifar10", quality=3)
        large = client.encode(photographs, model="photo", quality=37.5)
        return (
            *(files, large),
            np.array(client.decode(files)).tobytes(),
            [each.tobytes() for each in client.decode(large)],
            client.features(pictures, model="cifar10", quality=3).mean.tobytes(),
        )

    with Client(server.address) as client:
        before = ask(client)
        go(folder)
        (process,) = coding_processes(server)
        os.kill(process, signal.SIGKILL)
        assert ask(client) == before
        assert coding_processes(server) != [process]
        assert ask(client) == before
    deadline = time.monotonic() + 60
    while "a coding process is given cifar10-q3: " not in server.log:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # Once for each model, or for each batch of it under way: the process keeps what it was given.
    assert 2 <= server.log.count("a coding process is given") <= 4
