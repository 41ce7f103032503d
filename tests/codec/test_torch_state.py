"""What a program sets in torch for itself changes nothing: bytes and pixels equal those without."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec.codec.checkpoint import load_checkpoint
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.evaluation.card_figures import rates_nats

NAMES = ("cifar10", "cifar10-maps", "mnist", "photo")
FOLDER = Path(hvae_codec.__file__).parent / "checkpoints"
RANDOM = np.random.default_rng(5)
COARSE = RANDOM.integers(0, 256, (12, 12, 3), np.uint8)
IMAGE = COARSE.repeat(4, 0).repeat(4, 1)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "half autocast": lambda: torch.autocast("cpu", torch.float16),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
    "meta device": lambda: default_device("meta"),
    "deterministic": deterministic,
}


def image_for(name):
    return IMAGE[..., :1] if name == "mnist" else IMAGE


def results(codec):
    """All that a codec gives, by name."""
    name = codec.info.name
    image = image_for(name)
    blob = codec.encode(image)
    tile = image[: codec.info.image_shape[1], : codec.info.image_shape[2]]
    found = {
        "file": blob,
        "files": codec.encode_batch([image, image[:40]]),
        "block": codec.encode_block([image, image]),
        "image": codec.decode(blob),
        "strips": np.concatenate(list(codec.decode_rows(blob))),
        "batch": codec.decode_batch([blob, blob]),
        "preview": codec.preview(blob),
        "bits": codec.information_bits([tile]),
        "samples": codec.sample(2, seed=4),
    }
    for index, layer in enumerate(codec.layer_features([image])):
        found[f"mean {index}"], found[f"std {index}"] = layer.mean, layer.std
    for index, layer in enumerate(codec.layer_features_from_bytes(blob)):
        found[f"coded mean {index}"], found[f"coded std {index}"] = layer.mean, layer.std
    if codec.number is None:
        found["search"] = codec.encode(image, effort=1, trade=1.5)
        found["reference"] = codec.reference(tile[None])
    return found


@pytest.fixture(scope="module")
def expected():
    return {name: results(hvae_codec.load(name)) for name in NAMES}


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, np.ndarray):
            assert found[key].dtype == value.dtype, key
            np.testing.assert_array_equal(found[key], value, err_msg=key)
        else:
            assert found[key] == value, key


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", NAMES)
def test_a_codec_gives_what_it_gives_without(name, state, expected):
    loaded_before = hvae_codec.load(name)
    rung = "" if loaded_before.info.continuous else f"-q{loaded_before.info.quality}"
    path = FOLDER / f"{name}{rung}.safetensors"
    with STATES[state]():
        assert_equal(results(loaded_before), expected[name])
        loaded_within = hvae_codec.load_file(path)
        assert_equal(results(loaded_within), expected[name])
    blob = loaded_within.encode(image_for(name))
    assert blob == expected[name]["file"]
    np.testing.assert_array_equal(loaded_within.decode(blob), expected[name]["image"])


def test_loading_draws_no_random_numbers():
    torch.manual_seed(0)
    hvae_codec.load_file(FOLDER / "cifar10-q3.safetensors")
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("state", STATES)
def test_tables_and_rates_are_those_without(state):
    images = RANDOM.integers(0, 256, (16, 32, 32, 3), np.uint8)
    path = FOLDER / "cifar10-q1.safetensors"
    model, _ = load_checkpoint(path).of_one_size
    tables, rates = fit_tables(model, images), rates_nats(model, images)
    with STATES[state]():
        model, _ = load_checkpoint(path).of_one_size
        for layer, other in zip(fit_tables(model, images).layers, tables.layers, strict=True):
            np.testing.assert_array_equal(layer.frequency, other.frequency)
        assert rates_nats(model, images) == rates


def test_loading_imports_no_compiler():
    """torch's takes three seconds to import (findings/torch_meta_normal.sh)."""
    script = (
        "import sys, torch, hvae_codec; before = 'torch._dynamo' in sys.modules; "
        "[hvae_codec.load(name) for name in ('cifar10', 'photo')]; "
        "print(before, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr
