"""A codec of each family, for tests of what both do; their own images have 32 x 32 pixels."""

import pytest
import torch

import hvae_codec
from tests.codec.fully_convolutional.models import save_tiny


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory):
    """A directory of one checkpoint, "tiny"."""
    path = tmp_path_factory.mktemp("models")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    save_tiny(path / "tiny.safetensors")
    torch.set_num_threads(before)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_directory):
    """The codec of a tiny fully convolutional model of random weights."""
    return hvae_codec.load_file(tiny_directory / "tiny.safetensors")


@pytest.fixture
def tiny_at_hand(tiny_directory, monkeypatch):
    """It is what `hvae_codec.load` and readers of files find."""
    monkeypatch.setenv("HVAE_MODELS", str(tiny_directory))


@pytest.fixture(scope="session")
def cifar10():
    """The codec of a tiled model, as shipped."""
    return hvae_codec.load("cifar10", quality=3)


@pytest.fixture(scope="session", params=["cifar10", "tiny"], ids=["tiled", "conv"])
def codec(request):
    """A codec of either family."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def other_point(codec):
    """The same model at another operating point: a quality, or an effort."""
    return codec.tuned(1) if codec.number is None else codec.at_quality(9)
