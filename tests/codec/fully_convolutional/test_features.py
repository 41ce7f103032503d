"""Features, previews and information of a tiny fully convolutional model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.codec.fully_convolutional.models import (
    TINY,
    assert_within_a_level,
    waves,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = [latent.channels for latent in TINY.latents]


@pytest.mark.parametrize("size", [(40, 50), (32, 32), (70, 80)])
def test_a_preview_is_the_image_at_the_modes_of_the_lower_priors(tiny, size):
    image = waves(*size, 1, seed=3)
    blob = tiny.encode(image)
    zeros = [layer * (n == 0) for n, layer in enumerate(tiny.file_coder.read_block(blob).symbols)]
    block = replace(tiny.quantise_block([image]), symbols=zeros)
    assert_within_a_level(tiny.preview(blob), tiny.images_of([block])[0])


def test_features_of_bytes_are_those_of_their_pictures(tiny):
    pictures = [waves(*size, seed=n) for n, size in enumerate([(64, 64), (40, 70), (64, 64)])]
    blobs = tiny.encode_batch(pictures)
    for layers in (None, 1, 3, 4):
        own = tiny.layer_features(pictures, layers)
        read = tiny.layer_features_from_bytes(blobs, layers)
        assert len(own) == len(read) == (layers or 4)
        for channels, a, b in zip(CHANNELS, own, read, strict=False):
            assert a.mean.shape == a.std.shape == (3, channels)
            np.testing.assert_allclose(a.mean, b.mean, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(a.std, b.std, rtol=1e-6)
    np.testing.assert_array_equal(
        tiny.features(pictures).mean, tiny.layer_features(pictures)[0].mean
    )
    block = tiny.file_coder.read_block(tiny.encode_block([pictures[0], pictures[2]]), 1)
    (found,) = tiny.features_of([block])
    np.testing.assert_allclose(found.mean, tiny.features(pictures).mean[[0, 2]], atol=1e-5)


def test_the_top_features_by_hand(tiny):
    """The top layer's prior has mean 0: its latents are step * k, a uniform step wide each."""
    picture = waves(64, 96)
    blob = tiny.encode(picture)
    k = tiny.symbols([blob])[0].reshape(4, 6)
    q = torch.tensor([126 / 255])
    step = tiny.model.step(0, q).detach().numpy().ravel()
    found = tiny.features_from_bytes(blob)
    np.testing.assert_allclose(found.mean[0], step * k.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.std[0], step / np.sqrt(12 * 6), rtol=1e-5)


def test_information_is_what_files_take(tiny):
    pictures = [waves(256, 256, seed=n) for n in range(2)] + [waves(200, 330, 1, seed=5)]
    for quality in (1, 50, 100):
        own = tiny.at_quality(quality)
        bits = own.information_bits(pictures)
        assert bits.shape == (3, 4)
        for blob, content in zip(own.encode_batch(pictures), bits.sum(axis=1) / 8, strict=True):
            header = 21
            assert content > 900
            assert abs(len(blob) - header - content) < 0.01 * content


def test_samples_depend_on_the_quality(tiny):
    assert (tiny.at_quality(1).sample(2, seed=5) != tiny.sample(2, seed=5)).any()
