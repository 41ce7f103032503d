"""The device of the networks, by the environment."""

import numpy as np
import pytest

import hvae_codec
from hvae_codec.codec.registry import DEVICE_VARIABLE
from hvae_codec.errors import DeviceError


@pytest.mark.parametrize("device", ["cuda:77", "nonsense"])
def test_a_device_that_is_not_here(monkeypatch, device):
    monkeypatch.setenv(DEVICE_VARIABLE, device)
    with pytest.raises(DeviceError, match=device):
        hvae_codec.load("cifar10")


@pytest.mark.cuda
@pytest.mark.parametrize("model", ["cifar10", "mnist", "photo"])
def test_either_device_reads_what_the_other_wrote(monkeypatch, model):
    channels = 1 if model == "mnist" else 3
    pictures = np.random.default_rng(0).integers(90, 120, (6, 64, 96, channels), np.uint8)
    here = hvae_codec.load(model)
    monkeypatch.setenv(DEVICE_VARIABLE, "cuda")
    there = hvae_codec.load(model)
    assert next(there.model.parameters()).is_cuda
    assert not next(here.model.parameters()).is_cuda
    for blobs in (here.encode_batch(pictures), there.encode_batch(pictures)):
        for one, other in zip(here.symbols(blobs), there.symbols(blobs), strict=True):
            np.testing.assert_array_equal(one, other)
        apart = np.abs(
            np.asarray(here.decode_batch(blobs)).astype(int) - np.asarray(there.decode_batch(blobs))
        )
        assert apart.max() <= 1
