"""Another language: Node makes its code from the contract, and gets the same file and picture."""

import json
import subprocess
from pathlib import Path

import google.api
import numpy as np
import pytest

import hvae_codec
from hvae_codec.evaluation.metrics.psnr import psnr_db

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "proto" / "hvae_codec" / "v1" / "codec.proto"
SHARED = Path(google.api.__path__[0]).parents[1]

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def program(node_folder):
    """The program, with what it needs installed beside it."""
    return node_folder / "round_trip.mjs"


def run(program, *arguments):
    command = ["node", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_round_trip(program, real):
    done = run(program, real, CONTRACT, SHARED)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    y, x, c = np.mgrid[0:64, 0:64, 0:3]
    picture = np.round(127.5 + 100 * np.sin(x / 15 + y / 21 + c)).astype(np.uint8)
    codec = hvae_codec.load("cifar10", quality=3)
    assert bytes.fromhex(found["encoded"]) == codec.encode(picture)
    assert found["size"] == [64, 64, 3]
    expected = psnr_db(picture, codec.decode(bytes.fromhex(found["encoded"])))
    assert abs(found["psnr_db"] - expected) < 0.05
    assert found["psnr_db"] > 25
    assert (found["stream_answers"], found["stream_equal"]) == (3, True)
    assert (found["bad"]["code"], found["bad"]["reason"]) == (3, "IMAGE")
    assert found["models"] == len(hvae_codec.models())
    assert min(found["limits"].values()) > 0


def test_a_server_that_is_not_there_is_an_error(program):
    done = run(program, "127.0.0.1:1", CONTRACT, SHARED)
    assert (done.returncode, done.stdout) == (1, "")
    assert "UNAVAILABLE" in done.stderr
