"""A codec of each family and arithmetic, for tests of what all do; their own images have 32 x 32
pixels.
"""

import pytest
import torch

import hvae_codec
from tests.codec.fully_convolutional.models import save_integers, save_tiny


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
def even_directory(tmp_path_factory):
    """A directory of two checkpoints, "even" of floats and "integers" that is made of it."""
    path = tmp_path_factory.mktemp("models")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    save_integers(path / "even.safetensors")
    torch.set_num_threads(before)
    return path


@pytest.fixture(scope="session")
def even(even_directory):
    """The codec of a tiny float model that can become one of integers."""
    return hvae_codec.load_file(even_directory / "even.safetensors")


@pytest.fixture(scope="session")
def integers(even_directory):
    """The codec of the integer model of `even`."""
    return hvae_codec.load_file(even_directory / "integers.safetensors")


@pytest.fixture(scope="session")
def cifar10():
    """The codec of a tiled model, as shipped."""
    return hvae_codec.load("cifar10", quality=3)


@pytest.fixture(
    scope="session", params=["cifar10", "tiny", "integers"], ids=["tiled", "conv", "integers"]
)
def codec(request):
    """A codec of either family, and of integers."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def other_point(codec):
    """The same model at another operating point: a quality, or an effort."""
    return codec.tuned(1) if codec.number is None else codec.at_quality(9)
