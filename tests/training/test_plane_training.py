"""Training of one model for a range of betas: warm-up, resumption, what a recipe refuses."""

import numpy as np
import pytest
import torch

from hvae_codec.data import ImageDataset
from hvae_codec.errors import CheckpointError, SpecError
from hvae_codec.models.plane import PlaneVAE
from hvae_codec.training import Recipe, train

RANGES = ((0.1, 10.0), (0.1, 10.0))


def recipe(**changes):
    settings = {
        "spec": "ghvae-28x28x1",
        "dataset": "blobs",
        "betas": (1.0, 1.0),
        "beta_ranges": RANGES,
        "posterior": "gaussian",
        "batch_size": 16,
        "epochs": 3,
        "optimiser": "muon",
        "learning_rate": 2e-3,
    }
    return Recipe(**{**settings, **changes})


def dataset():
    coarse = np.random.default_rng(7).integers(0, 256, (64, 7, 7, 1), dtype=np.uint8)
    return ImageDataset(coarse.repeat(4, axis=1).repeat(4, axis=2), None, "blobs", "train")


def test_betas_rise_geometrically_the_top_layers_from_further_down():
    run = recipe(rate_warmup_epochs=2)
    assert run.betas_at(0.0) == pytest.approx((1 / 30, 1 / 3))
    assert run.betas_at(1.0) == pytest.approx((30**-0.5, 3**-0.5))
    assert run.betas_at(2.0) == run.betas_at(2.5) == (1.0, 1.0)
    deep = recipe(
        spec="ghvae3-32x32x3",
        betas=(1.0,) * 3,
        beta_ranges=(*RANGES, (0.1, 10.0)),
        rate_warmup_epochs=2,
    )
    assert deep.betas_at(0.0) == pytest.approx((1 / 30, 90**-0.5, 1 / 3))


def test_rates_follow_the_betas_that_the_model_is_asked_for(tmp_path):
    model = train(recipe(epochs=40, rate_warmup_epochs=4), dataset(), tmp_path)
    assert isinstance(model, PlaneVAE)
    x = model.likelihood.pixels(torch.from_numpy(dataset().images).permute(0, 3, 1, 2))
    rates = {}
    with torch.no_grad():
        for betas in ((0.1, 0.1), (10.0, 10.0)):
            rates[betas] = model.at(betas)(x, seed=1).rates_nats.mean(0)
    assert torch.all(rates[10.0, 10.0] < 0.7 * rates[0.1, 0.1])


def test_interrupted_it_ends_with_the_same_weights(tmp_path):
    class StopError(Exception):
        pass

    def stop(row):
        raise StopError

    torch.set_num_threads(1)
    whole = train(recipe(), dataset(), tmp_path / "whole").state_dict()
    with pytest.raises(StopError):
        train(recipe(), dataset(), tmp_path / "parts", report=stop)
    parts = train(recipe(), dataset(), tmp_path / "parts").state_dict()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    with pytest.raises(CheckpointError, match="beta_ranges"):
        train(recipe(beta_ranges=((0.1, 10.0), (0.1, 5.0))), dataset(), tmp_path / "parts")


def test_recipes_go_through_json_and_old_ones_have_no_ranges():
    run = recipe()
    assert Recipe.from_json(run.to_json()) == run
    plain = recipe(beta_ranges=None)
    assert "beta_ranges" not in plain.to_json()
    assert Recipe.from_json(plain.to_json()) == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta_ranges": ((0.1, 10.0),)}, "1 ranges of betas given; ghvae-28x28x1 has 2"),
        ({"beta_ranges": ((0.1, 10.0), (0.0, 1.0))}, "betas from 0 to 1; allowed"),
        ({"rates": (5.0, None)}, "a range of betas has none"),
        ({"start": "0011"}, "starts from fresh weights"),
        (
            {"spec": "lean6-128x128x3", "betas": (1.0,) * 6, "posterior": "uniform"},
            "has a quality, no ranges of betas",
        ),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        recipe(**changes)
