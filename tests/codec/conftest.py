"""A tiny model of maps, its weights random."""

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
    """Its codec."""
    return hvae_codec.load_file(tiny_directory / "tiny.safetensors")


@pytest.fixture
def tiny_at_hand(tiny_directory, monkeypatch):
    """It is what `hvae_codec.load` and readers of files find."""
    monkeypatch.setenv("HVAE_MODELS", str(tiny_directory))
