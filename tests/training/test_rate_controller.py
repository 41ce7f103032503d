"""Rates on request: betas adapt until each layer has the rate that was asked for."""

import numpy as np
import pytest

from hvae_codec.data import ImageDataset
from hvae_codec.errors import SpecError
from hvae_codec.training import Recipe, load_history, train
from hvae_codec.training.rate_controller import BETA_MAX, BETA_MIN, FIRMNESS, GAIN, RateController


def blobs(count=256):
    generator = np.random.default_rng(7)
    coarse = generator.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    return ImageDataset(coarse.repeat(7, axis=1).repeat(7, axis=2), None, "blobs", "train")


def recipe(**changes):
    settings = {"spec": "ghvae-28x28x1", "dataset": "blobs", "betas": (0.5, 0.5), "epochs": 2}
    return Recipe(**{**settings, "batch_size": 8, "learning_rate": 2e-3, **changes})


def test_one_update_by_hand():
    controller = RateController((0.1, 0.2, 0.3), (10.0, None, 10.0), 20_000)
    assert controller.betas(1.0) == (0.1, 0.2, 0.3)
    controller.update((20.0, 5.0, 1e-9), pace=0.25)
    # log(20 / 10) = log 2; errors beyond a factor e are cut off
    gain = 0.5 * (1 + 0.75 * FIRMNESS) * GAIN
    expected = (0.1 * 2.0**gain, 0.2, 0.3 * np.exp(-gain))
    assert controller.multipliers == pytest.approx(expected)
    assert controller.errors == pytest.approx((0.02 * np.log(2), 0.0, -0.02))
    for pace in (1.0, 0.25):  # firmer towards the end
        factors = np.exp((2 - pace) * np.array(controller.errors))
        assert controller.betas(pace) == pytest.approx(np.multiply(expected, factors))
    short = RateController((0.1,), (10.0,), 2000)  # a tenth of the steps: ten times the gain
    short.update((20.0,), pace=1.0)
    assert short.multipliers[0] == pytest.approx(0.1 * 2.0 ** (10 * GAIN))


def test_betas_stay_within_their_range():
    controller = RateController((BETA_MAX, BETA_MIN), (1.0, 1.0), 1)
    controller.update((100.0, 0.0), pace=1.0)
    assert controller.multipliers == (BETA_MAX, BETA_MIN)


@pytest.mark.parametrize("steps", [1000, 20_000])
def test_rates_that_follow_their_betas_slowly_reach_the_targets(steps):
    """A stand-in for the networks: rate = c / sqrt(beta), followed with a lag of 50 to 100 steps
    that grows as the learning rate falls along its half cosine.
    """
    constants, targets = np.array([5.0, 30.0]), (12.0, 180.0)
    controller = RateController((0.03, 0.03), targets, steps)
    rates = np.array([60.0, 20.0])
    for step in range(steps):
        pace = 0.5 * (1 + np.cos(np.pi * step / steps))
        lag = min(100.0, steps / 20) / max(pace, 1e-3)
        rates += (constants / np.sqrt(controller.betas(pace)) - rates) / lag
        controller.update(rates.tolist(), pace)
    assert rates == pytest.approx(targets, rel=0.02)
    assert controller.multipliers == pytest.approx((constants / targets) ** 2, rel=0.05)


def test_training_gets_near_to_rates_far_from_those_of_its_first_betas(tmp_path):
    targets = (6.0, 12.0)
    settings = {"epochs": 24, "posterior": "gaussian"}
    train(recipe(rates=targets, **settings), blobs(), tmp_path / "asked")
    train(recipe(**{**settings, "epochs": 4}), blobs(), tmp_path / "fixed")
    fixed = np.array(load_history(tmp_path / "fixed")[-1]["rates_nats"])
    assert (np.abs(np.log(fixed / targets)) > 0.5).any()
    assert load_history(tmp_path / "asked")[-1]["rates_nats"] == pytest.approx(targets, rel=0.2)


def test_interrupted_it_ends_with_the_same_betas(tmp_path):
    class StopError(Exception):
        pass

    def stop(row):
        raise StopError

    run = recipe(rates=(3.0, None))
    train(run, blobs(64), tmp_path / "whole")
    with pytest.raises(StopError):
        train(run, blobs(64), tmp_path / "cut", report=stop)
    train(run, blobs(64), tmp_path / "cut")
    cut, whole = (load_history(tmp_path / name) for name in ("cut", "whole"))
    for row in (*cut, *whole):
        assert row.pop("cpu_seconds") > 0
    assert cut == whole
    assert cut[-1]["betas"][1] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": (1.0,)}, "need one, or none, for each"),
        ({"rates": (0.0, 1.0)}, "finite and above 0"),
        ({"rates": (float("inf"), None)}, "finite and above 0"),
        ({"rates": (1.0, None), "betas": (0.0, 0.5)}, "beta of 0 cannot be adapted"),
        ({"rates": (1.0, None), "rate_warmup_epochs": 1}, "rate_warmup_epochs must be 0"),
    ],
)
def test_recipes_refuse(changes, message):
    with pytest.raises(SpecError, match=message):
        recipe(**changes)


def test_recipe_round_trip():
    run = recipe(rates=(2.5, None))
    assert Recipe.from_json(run.to_json()) == run
