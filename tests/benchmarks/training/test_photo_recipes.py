"""Comparisons of recipes: every variant is a recipe, losses are those of Eq. 8, rows are kept."""

import fnmatch
import json
import math

import numpy as np
import pytest
import torch

from benchmarks.rate_distortion.__main__ import KEPT_APART
from benchmarks.training import photo_recipes
from benchmarks.training.photo_recipes import (
    QUALITIES,
    held_out_crops,
    held_out_loss,
    recipe_of,
    variants,
)
from hvae_codec.models.build import build_model
from hvae_codec.models.fully_convolutional.spec import ConvLatent, ConvSpec, Resolution
from hvae_codec.models.zoo import SPECS, any_spec

TINY = ConvSpec(
    name="tiny-maps",
    image_shape=(3, 16, 16),
    resolutions=(Resolution(4, 8, 1, 1), Resolution(8, 12, 1, 1), Resolution(16, 16, 1, 1)),
    latents=(ConvLatent(16, 4), ConvLatent(8, 4)),
    knots=3,
)


def test_every_variant_differs_from_the_base_in_one_thing():
    base = recipe_of(variants()["base"], 0, 80).to_json()
    known = set(SPECS)
    try:
        for name, variant in variants().items():
            recipe = recipe_of(variant, 0, 80)
            assert recipe.crops == 80 * recipe.batch_size
            changed = {key for key, value in recipe.to_json().items() if value != base[key]}
            if name.startswith("crops-"):  # as many pixels per step, in other crops
                sides = any_spec(recipe.spec).image_shape[1:]
                assert recipe.batch_size * math.prod(sides) == 8 * 128 * 128
                changed -= {"batch_size"}
            if len(recipe.betas) != len(base["betas"]):
                changed -= {"betas"}  # of another number of layers
            assert len(changed - {"crops"}) == (name != "base"), name
    finally:
        for added in set(SPECS) - known:
            del SPECS[added]


def test_losses_are_distortion_and_rate_in_bits_per_pixel():
    torch.manual_seed(0)
    model = build_model(TINY, "uniform").eval()
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    x = held_out_crops(images)
    assert x.shape == (5, 3, 16, 16)
    found = held_out_loss(model, x)
    for index, quality in enumerate(QUALITIES):
        with torch.inference_mode():
            outcome = model(x, seed=5, qualities=torch.full((5,), quality))
        squared = (outcome.output.double() - x).square().flatten(1).sum(1)
        deviation = 0.17 * (0.016 / 0.17) ** quality
        nats = squared / (2 * deviation**2) + 0.5 * 768 * math.log(2 * math.pi * deviation**2)
        rates = outcome.rates_nats.double().sum(1)
        bits = 1.0 / (256 * math.log(2))
        assert found["loss"][index] == pytest.approx(bits * (nats + rates).mean().item(), rel=1e-4)
        assert found["bits_per_pixel"][index] == pytest.approx(bits * rates.mean().item(), abs=1e-3)
    assert found["mean_loss"] == pytest.approx(np.mean(found["loss"]), abs=1e-4)


def test_rows_that_are_there_are_not_measured_again(tmp_path, monkeypatch, capsys):
    path = tmp_path / "recipes.json"
    row = {"variant": "base", "seed": 0, "core_seconds": 300.0, "steps": 7, "mean_loss": -1.25}
    row |= {"bits_per_pixel": [0.5] * 5, "psnr_db": [30.0] * 5, "what": "x", "cpu_seconds": 3.0}
    path.write_text(json.dumps({"rows": [row]}))
    monkeypatch.setattr(photo_recipes, "run", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    assert photo_recipes.BENCHMARK.main(["base", "--json", str(path)]) == 0
    assert "-1.250" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        photo_recipes.BENCHMARK.main(["nothing"])
    assert "no variant nothing; there are base" in capsys.readouterr().err


def test_no_image_that_is_kept_apart_is_trained_on():
    trained = photo_recipes.DATA.split(",")
    names = [place.replace("*", "00001") for place in KEPT_APART.split(",")]
    assert len(names) == 4
    assert not [name for name in names for place in trained if fnmatch.fnmatch(name, place)]
    assert not [place for place in trained if fnmatch.fnmatch("photos/web", place)]
