"""What cards report, against the same figures taken from the files and the model one by one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch
from safetensors.numpy import load_file

import hvae_codec
from hvae_codec.codec.checkpoint import load_checkpoint, save_checkpoint, update_card
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.errors import CheckpointError
from hvae_codec.evaluation import card_figures
from hvae_codec.evaluation.calibrate import measure_trade
from hvae_codec.evaluation.card_figures import measure_codec, rates_nats
from hvae_codec.models import HierarchicalVAE, get_spec

CHECKPOINTS = Path(hvae_codec.__file__).parent / "checkpoints"


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 235, (24, 5, 5, 3))
    fine = np.repeat(np.repeat(coarse, 7, axis=1), 7, axis=2)[:, :32, :32]
    return np.clip(fine + rng.normal(0, 4, fine.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10", quality=1)


@pytest.fixture(scope="module")
def measured(codec, images):
    return measure_codec(codec, images)


def test_bytes_are_those_of_the_files(codec, images, measured):
    sizes = [len(codec.encode(image)) for image in images]
    assert measured["images"] == len(images)
    assert measured["file_bytes"] == pytest.approx(np.mean(sizes), abs=1e-4)
    # A picture of the model's size has a header of 11 bytes, 13 to 16 with the rare long checks.
    assert 0 <= measured["file_bytes"] - measured["payload_bytes"] - 11 < 0.5


def test_information_is_the_logarithm_of_the_tables_frequencies(codec, images, measured):
    """-log2 of every symbol's share of its table, symbol by symbol, from the checkpoint's file."""
    tensors = load_file(CHECKPOINTS / "cifar10-q1.safetensors")
    expected = []
    for layer, symbols in enumerate(codec.quantise_block(images).symbols):
        low, size, frequency = (
            tensors[f"tables.{layer}.{n}"] for n in ("low", "size", "frequency")
        )
        tables = np.split(frequency, np.cumsum(size)[:-1])
        bits = 0.0
        for dim, table in enumerate(tables):
            bits -= np.log2(table[symbols[:, dim] - low[dim]] / 65_536).sum()
        expected.append(bits / 8 / len(images))
    np.testing.assert_allclose(measured["information_bytes_per_layer"], expected, atol=1e-4)
    assert measured["information_bytes"] == pytest.approx(sum(expected), abs=1e-4)
    assert -0.01 <= measured["payload_bytes"] - measured["information_bytes"] <= 0.5


def test_psnr_is_the_mean_over_pictures(codec, images, measured):
    ratios = []
    for image in images:
        error = image.astype(float) - codec.decode(codec.encode(image))
        ratios.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert measured["psnr_db"] == pytest.approx(np.mean(ratios), abs=0.01)


def test_figures_do_not_depend_on_the_batches(codec, images, measured, monkeypatch):
    monkeypatch.setattr(card_figures, "BATCH", 7)
    again = measure_codec(codec, images)
    np.testing.assert_allclose(again.pop("rates_nats"), measured["rates_nats"], rtol=0.15)
    again.pop("information_bytes_per_layer")
    assert again == pytest.approx({name: measured[name] for name in again}, rel=1e-3)


def test_the_top_layers_rate_is_that_of_a_uniform_posterior_under_the_standard_normal(
    codec, images, measured
):
    """Minus the logarithm of the bin under N(0, 1), the mean over 1,000 places of the sample."""
    step = codec.model.step(0).detach().double().numpy().reshape(1, -1)
    mean = codec.features(images).mean.astype(np.float64)
    nats = 0.0
    for u in (np.arange(1000) + 0.5) / 1000 - 0.5:
        # By symmetry; the mass is then a difference of small numbers, not of numbers near one.
        z = -np.abs(mean + step * u)
        nats -= (
            np.log(scipy.stats.norm.cdf(z + step / 2) - scipy.stats.norm.cdf(z - step / 2))
            .sum(axis=1)
            .mean()
            / 1000
        )
    assert measured["rates_nats"][0] == pytest.approx(nats, rel=0.1)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """A codec of the 28x28x1 architecture with a Gaussian posterior and random weights."""
    torch.manual_seed(5)
    model = HierarchicalVAE(get_spec("ghvae-28x28x1"), "gaussian").eval()
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), dtype=np.uint8)
    measured = {"payload_bytes": 0, "psnr_db": 0, "rates_nats": []}
    card = {"name": "grey", "quality": 1, "recipe": {}, "measured": measured}
    path = tmp_path_factory.mktemp("grey") / "grey-q1.safetensors"
    save_checkpoint(path, model, fit_tables(model, images), card)
    return hvae_codec.load_file(path)


UNCHANGED_DB = 77.074  # one of 784 samples off by one: 10 log10(255^2 * 784)


@pytest.fixture(scope="module")
def pictures(grey):
    """Four pictures that the codec reproduces, and the same with one pixel the other way."""
    exact = np.random.default_rng(1).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    for _ in range(8):
        exact = grey.decode_batch(grey.encode_batch(exact))
    off = exact.copy()
    off[:, 3, 4] = 255 - off[:, 3, 4]
    return exact, off


def test_a_measurement_of_exact_pictures_alone(grey, pictures):
    measured = measure_codec(grey, pictures[0])
    assert (measured["exact_images"], measured["psnr_db"]) == (1.0, UNCHANGED_DB)


def test_the_ratio_is_the_mean_over_pictures_exact_ones_too(grey, pictures):
    exact, off = pictures
    both = np.concatenate([exact, off])
    wrong = [int((grey.decode(grey.encode(p)) != p).sum()) for p in both]  # a sample errs by 255
    measured = measure_codec(grey, both)
    assert 0 in wrong
    assert max(wrong) > 0
    expected = np.mean([10 * np.log10(784 / k) if k else UNCHANGED_DB for k in wrong])
    assert measured["psnr_db"] == pytest.approx(expected, abs=1e-3)
    assert measured["exact_images"] == wrong.count(0) / len(both)
    decibels = [measure_trade(grey, some, 0, 1.0)[1] for some in (exact, both)]
    assert decibels == pytest.approx([UNCHANGED_DB, expected], abs=1e-3)


def test_the_top_layers_rate_of_a_gaussian_posterior_is_the_closed_form(grey, pictures):
    """KL(N(mu, s^2) || N(0, 1)) = (mu^2 + s^2 - 1)/2 - log s, summed over dimensions."""
    found = grey.features(pictures[0])
    mean, std = found.mean.astype(np.float64), found.std.astype(np.float64)
    nats = (0.5 * (mean**2 + std**2 - 1) - np.log(std)).sum(axis=1).mean()
    assert rates_nats(grey.model, pictures[0])[0] == pytest.approx(nats, rel=1e-4)


def test_a_card_of_a_checkpoint_that_was_replaced_meanwhile_stays(tmp_path):
    """As by a training that ends while `calibrate` measures: the pair must still load."""

    def publish(name):
        for suffix in (".safetensors", ".json"):
            shutil.copy(CHECKPOINTS / f"{name}{suffix}", tmp_path / f"mine{suffix}")

    path = tmp_path / "mine.safetensors"
    publish("cifar10-q1")
    checkpoint = load_checkpoint(path)
    publish("cifar10-q2")
    with pytest.raises(CheckpointError, match=r"mine\.safetensors was replaced while"):
        update_card(path, checkpoint, calibration={})
    replaced = load_checkpoint(path)
    assert replaced.model_id != checkpoint.model_id
    update_card(path, replaced, calibration={"images": 5})
    assert load_checkpoint(path).card == {**replaced.card, "calibration": {"images": 5}}
