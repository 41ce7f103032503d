"""Comparisons of optimisers: which runs a row stands for, and what the table says of them."""

import math

import numpy as np
import pytest
import torch

from benchmarks.training import optimisers
from hvae_codec.data import ImageDataset
from hvae_codec.models.build import build_model
from hvae_codec.models.zoo import SPECS

KEY = {
    "data": "mnist",
    "betas": [0.5, 2.0],
    "batch_size": 32,
    "optimiser": "soap",
    "learning_rate": 2e-3,
    "posterior": "gaussian",
    "core_seconds": 1.0,
    "seed": 3,
}


def digits(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    return ImageDataset(pixels, None, "mnist", "train")


@pytest.mark.parametrize(
    ("steps", "epochs", "images"), [(1, 1, 32), (5, 1, 160), (7, 2, 96), (26, 6, 128)]
)
def test_so_many_steps_are_epochs_of_one_length(monkeypatch, steps, epochs, images):
    monkeypatch.setattr(optimisers, "images_of", lambda *_: digits(160))
    recipe, _ = optimisers.training_of(KEY, steps)
    assert (recipe.epochs, recipe.images) == (epochs, images)
    assert steps - epochs < epochs * images // 32 <= steps
    assert (recipe.optimiser, recipe.learning_rate, recipe.seed) == ("soap", 2e-3, 3)
    assert recipe.betas == (0.5, 2.0)


def test_the_loss_is_distortion_over_the_least_and_weighted_rates():
    torch.manual_seed(0)
    model = build_model(SPECS["ghvae-32x32x3"], "gaussian").eval()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    found = optimisers.loss_of(model, [0.5, 2.0], ImageDataset(pixels, None, "x", "test"))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        outcome = model(x, seed=5)
    least = 0.5 * 3072 * math.log(2 * math.pi * 0.71**2)
    rates = outcome.rates_nats.double().mean(0).numpy()
    expected = outcome.distortion_nats.double().mean().item() - least + rates @ [0.5, 2.0]
    assert found["loss_nats"] == pytest.approx(expected, rel=1e-5)
    assert found["rates_nats"] == pytest.approx(rates, abs=1e-3)


def test_a_table_has_an_optimiser_a_row_and_the_best_first(monkeypatch):
    def row(optimiser, rate, loss):
        named = {**KEY, "optimiser": optimiser, "learning_rate": rate}
        return {**named, "loss_nats": loss, "steps": None if loss is None else 70}

    rows = [row("adam", 1e-3, 9.5), row("muon", 2e-3, 8.2), row("muon", 1e-3, None)]
    lines = optimisers.OPTIMISER_LOSSES.text({"rows": rows}).splitlines()
    assert lines[1].split("optimiser")[1].split() == ["loss", "at", "0.001", "loss", "at", "0.002"]
    assert lines[2].split()[-6:] == ["muon", "diverged", "8.2", "in", "70", "steps"]
    assert lines[3].split()[-5:] == ["adam", "9.5", "in", "70", "steps"]


def test_a_run_that_diverges_has_a_row(monkeypatch):
    monkeypatch.setattr(optimisers, "images_of", lambda *_: digits(64))
    found = optimisers.run({**KEY, "learning_rate": 1e6, "optimiser": "adam"})
    assert found["loss_nats"] is None
    assert "diverged at step" in found["diverged"]


@pytest.mark.parametrize("text", ["1", "1,2,3", "a,b"])
def test_betas_are_a_pair(capsys, text):
    with pytest.raises(SystemExit):
        optimisers.BENCHMARK.main(["--betas", text])
    assert "need beta_2,beta_1" in capsys.readouterr().err
