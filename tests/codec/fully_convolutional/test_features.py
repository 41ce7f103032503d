"""Features, previews, information and samples of a tiny model of maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hvae_codec.errors import BitstreamError
from tests.codec.fully_convolutional.models import (
    TINY,
    assert_equal_symbols,
    assert_within_a_level,
    waves,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = [latent.channels for latent in TINY.latents]


@pytest.mark.parametrize("size", [(40, 50), (32, 32), (70, 80)])
def test_a_file_cut_off_behind_its_first_layer_gives_its_preview(tiny, size):
    picture = waves(*size, 1, seed=3)
    blob = tiny.encode(picture)
    preview = tiny.preview(blob)
    zeros = [layer * (n == 0) for n, layer in enumerate(tiny.file_coder.read_block(blob).symbols)]
    block = replace(tiny.quantise_block([picture]), symbols=zeros)
    assert_within_a_level(preview, tiny.images_of([block])[0])  # 0 is the prior's mode
    cut = next(n for n in range(len(blob)) if previews(tiny, blob[:n]))
    assert cut < 0.8 * len(blob)
    np.testing.assert_array_equal(tiny.preview(blob[:cut]), preview)
    np.testing.assert_array_equal(tiny.decode(blob[:cut], partial=True), preview)
    assert_equal_symbols(tiny.file_coder.read_block(blob[:cut], 1).rows(), tiny.symbols([blob])[:1])
    assert tiny.features_from_bytes(blob[:cut]).mean.shape == (1, 4)
    with pytest.raises(BitstreamError):
        tiny.decode(blob[:cut])
    with pytest.raises(BitstreamError):
        tiny.layer_features_from_bytes(blob[:cut], 2)
    np.testing.assert_array_equal(tiny.decode(blob, partial=True), tiny.decode(blob))


def previews(tiny, data):
    try:
        tiny.preview(data)
    except BitstreamError:
        return False
    return True


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
    assert [f.mean.shape for f in tiny.layer_features([])] == [(0, c) for c in CHANNELS]
    assert [f.std.shape for f in tiny.layer_features_from_bytes([])] == [(0, c) for c in CHANNELS]
    for layers in (0, 5):
        with pytest.raises(ValueError, match=r"1\.\.4"):
            tiny.layer_features(pictures, layers)
        with pytest.raises(ValueError, match=r"1\.\.4"):
            tiny.layer_features_from_bytes(blobs, layers)
        with pytest.raises(ValueError, match=r"1\.\.4"):
            tiny.file_coder.read_block(blobs[0], layers)


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


def test_samples(tiny):
    pictures = tiny.sample(3, seed=5)
    assert pictures.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(pictures, tiny.sample(3, seed=5))
    assert (pictures != tiny.sample(3, seed=6)).any()
    assert (pictures[0] != pictures[1]).any()
    cold = tiny.sample(3, seed=1, temperature=0.0)
    assert_within_a_level(cold[0], cold[2])
    np.testing.assert_array_equal(cold, tiny.sample(3, seed=2, temperature=0.0))
    np.testing.assert_array_equal(cold, tiny.sample(3, seed=2, temperature=1e-300))
    assert (tiny.at_quality(1).sample(2, seed=5) != pictures[:2]).any()
    for arguments in ((0,), (1, -1), (1, 2**63), (1, 0, -0.1), (1, 0, float("nan"))):
        with pytest.raises(ValueError, match="must be"):
            tiny.sample(*arguments)
