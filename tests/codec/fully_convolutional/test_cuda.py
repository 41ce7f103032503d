"""A tiny model of maps on a GPU: files that the CPU decodes, and the same symbols from them."""

import copy

import numpy as np
import pytest
import torch

from hvae_codec.codec.checkpoint import Checkpoint
from hvae_codec.codec.codec import Codec
from tests.codec.fully_convolutional.models import (
    assert_equal_symbols,
    assert_within_a_level,
    tiny_model,
    waves,
)

pytestmark = pytest.mark.cuda


@pytest.fixture
def on_gpu(tiny):
    checkpoint = tiny.checkpoint
    model = copy.deepcopy(checkpoint.model).to("cuda")
    return Codec(Checkpoint(model, checkpoint.tables, checkpoint.card))


def test_files_of_either_device_decode_on_the_other(tiny, on_gpu):
    pictures = [waves(48, 80, seed=1), waves(64, 64, seed=2), waves(33, 65, 1, seed=3)]
    for quality in (1, 50, 100):
        here, there = tiny.at_quality(quality), on_gpu.at_quality(quality)
        for blobs in (here.encode_batch(pictures), there.encode_batch(pictures)):
            for blob in blobs:
                assert_equal_symbols(here.symbols([blob]), there.symbols([blob]))
                assert_within_a_level(here.decode(blob), there.decode(blob))
        features = [codec.features(pictures) for codec in (here, there)]
        np.testing.assert_allclose(features[0].mean, features[1].mean, atol=0.05)


def test_rates_and_gradients_are_those_of_the_cpu():
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    outcomes, gradients = [], []
    for device in ("cpu", "cuda"):
        model = tiny_model().double().to(device).requires_grad_(True)
        outcome = model(
            x.double().to(device), seed=5, qualities=torch.linspace(0, 1, 4, device=device).double()
        )
        (outcome.distortion_nats + outcome.rates_nats.sum(1)).mean().backward()
        outcomes.append(torch.cat([outcome.rates_nats.sum(1), outcome.distortion_nats]).cpu())
        gradients.append(torch.cat([p.grad.flatten().cpu() for p in model.parameters()]))
    torch.testing.assert_close(*outcomes, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)
