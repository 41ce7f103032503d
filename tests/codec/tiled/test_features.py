"""Features of every layer of tiled models, of images and of files, worked out otherwise."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import hvae_codec
from hvae_codec.codec.checkpoint import Checkpoint, load_checkpoint
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.models import HierarchicalVAE, get_spec
from tests.photographs import load_sample_image

pytestmark = pytest.mark.usefixtures("one_thread")

CHECKPOINTS = Path(hvae_codec.__file__).parent / "checkpoints"
CHINA = load_sample_image("china.jpg")
CROPS = np.stack([CHINA[y : y + 32, x : x + 32] for y in (200, 300) for x in range(0, 300, 60)])


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10", quality=2)


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0


@torch.inference_mode()
def test_z1_of_pictures_is_the_mode_of_its_posterior_given_that_of_z2(codec):
    z2, z1 = codec.layer_features(CROPS)
    top, below = codec.model.layers
    mode, _ = top.infer(tensor(CROPS), None)
    mean, _ = below.infer(tensor(CROPS), mode)
    np.testing.assert_allclose(z2.mean, mode.numpy(), atol=1e-4)
    np.testing.assert_allclose(z1.mean, mean.flatten(1).numpy(), atol=1e-4)
    # Uniform of one step's width: step^2 / 12 is its variance.
    step = codec.model.step(1).detach().flatten().numpy()
    np.testing.assert_allclose(z1.std**2, np.broadcast_to(step**2 / 12, z1.std.shape), rtol=1e-5)
    np.testing.assert_array_equal(codec.features(CROPS).std, z2.std)
    np.testing.assert_allclose(codec.features(CROPS).mean, z2.mean, atol=1e-5)


@pytest.mark.parametrize("name", ["ghvae-32x32x3", "lvae-32x32x3"])
@torch.inference_mode()
def test_gaussian_deviations_are_softplus_of_the_networks_output(codec, name):
    torch.manual_seed(2)
    model = HierarchicalVAE(get_spec(name), "gaussian").eval()
    tables = fit_tables(model, CROPS)
    gaussian = Codec(Checkpoint(model, tables, codec.info.card))
    z2, z1 = gaussian.layer_features(CROPS)
    mean, raw = model.posteriors(tensor(CROPS))[1]
    np.testing.assert_allclose(z1.mean, mean.flatten(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(z1.std, F.softplus(raw).flatten(1).numpy(), rtol=1e-5)
    assert z2.std.shape == (10, 32)


@torch.inference_mode()
def test_z1_of_bytes_is_what_the_decoder_paints(codec):
    blobs = codec.encode_batch(CROPS)
    z2, z1 = codec.layer_features_from_bytes(blobs)
    # The decoder's networks, run on these numbers, give the decoded pictures.
    painted = codec.model.decode([torch.from_numpy(z1.mean).reshape(-1, 32, 4, 4)]).clamp(0, 1)
    painted = (painted * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    differs = painted.astype(int) - codec.decode_batch(blobs)
    assert np.abs(differs).max() <= 1
    assert np.mean(differs != 0) < 1e-3
    k1 = torch.from_numpy(codec.symbols(blobs)[1].reshape(-1, 32, 4, 4))
    mu_p, _ = codec.model.layers[1].predict(torch.from_numpy(z2.mean))
    expected = (mu_p + codec.model.step(1) * k1).flatten(1).numpy()
    np.testing.assert_allclose(z1.mean, expected, atol=1e-5)
    np.testing.assert_array_equal(codec.features_from_bytes(blobs).mean, z2.mean)


def test_of_several_tiles_the_average_counts(codec):
    wide = np.concatenate(CROPS[:3], axis=1)
    for found, one in (
        (codec.layer_features([wide]), codec.layer_features(CROPS[:3])),
        (
            codec.layer_features_from_bytes([codec.encode(wide), codec.encode(CROPS[5])]),
            codec.layer_features_from_bytes(codec.encode_batch(CROPS[:3])),
        ),
    ):
        for layer, tiles in zip(found, one, strict=True):
            np.testing.assert_allclose(layer.mean[0], tiles.mean.mean(0), atol=1e-4)
            np.testing.assert_allclose(layer.std[0], tiles.std[0] / math.sqrt(3), rtol=1e-4)


def test_features_of_files_need_no_decoder(codec):
    blob = codec.encode(CROPS[0])
    (path,) = CHECKPOINTS.glob("cifar10-q2*.safetensors")
    checkpoint = load_checkpoint(path)
    checkpoint.model.decoder_output.bias.fill_(math.nan)
    blind = Codec(checkpoint)
    for one, other in zip(
        blind.layer_features_from_bytes(blob), codec.layer_features_from_bytes(blob), strict=True
    ):
        np.testing.assert_array_equal(one.mean, other.mean)
