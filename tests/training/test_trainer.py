"""Training: Eq. 8, resumption after a kill bit for bit, divergence, and what a recipe refuses."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hvae_codec.data import ImageDataset
from hvae_codec.errors import CheckpointError, DatasetError, DivergenceError, SpecError
from hvae_codec.training import Recipe, train
from hvae_codec.training.run_state import STATE_FILE


def dataset(count=96, shape=(28, 28, 1)):
    generator = np.random.default_rng(7)
    # Smooth blobs, so that there is something to learn.
    coarse = generator.integers(0, 256, (count, 7, 7, shape[2]), dtype=np.uint8)
    images = coarse.repeat(shape[0] // 7 + 1, axis=1).repeat(shape[1] // 7 + 1, axis=2)
    images = np.ascontiguousarray(images[:, : shape[0], : shape[1]])
    return ImageDataset(images, None, "blobs", "train")


def recipe(**changes):
    settings = {"spec": "ghvae-28x28x1", "dataset": "blobs", "betas": (1.0, 0.5), "batch_size": 16}
    return Recipe(**{**settings, "epochs": 3, **changes})


def test_learns_and_reports_each_epoch(tmp_path):
    rows = []
    train(recipe(epochs=4), dataset(), tmp_path, report=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["distortion_nats"] < rows[0]["distortion_nats"]
    assert len(rows[0]["rates_nats"]) == 2


def test_a_heavier_beta_lowers_that_layers_rate(tmp_path):
    """Eq. 8: raising beta_2 alone takes rate from z2."""
    rates = {}
    for beta in (0.01, 20.0):
        rows = []
        run = recipe(betas=(beta, 0.5), epochs=6, learning_rate=3e-3, posterior="gaussian")
        train(run, dataset(), tmp_path / str(beta), report=rows.append)
        rates[beta] = rows[-1]["rates_nats"]
    assert rates[20.0][0] < 0.5 * rates[0.01][0]


def test_interrupted_after_any_epoch_it_ends_with_the_same_weights(tmp_path):
    class StopError(Exception):
        pass

    def stop_after(epoch):
        def report(row):
            if row["epoch"] == epoch:
                raise StopError

        return report

    whole = train(recipe(rounded_epochs=1), dataset(), tmp_path / "whole")
    for epoch in (1, 2):
        directory = tmp_path / str(epoch)
        with pytest.raises(StopError):
            train(recipe(rounded_epochs=1), dataset(), directory, report=stop_after(epoch))
        resumed = train(recipe(rounded_epochs=1), dataset(), directory)
        for (name, a), b in zip(
            whole.state_dict().items(), resumed.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b), name


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_trainer import dataset, recipe
from hvae_codec.data import ImageDataset
from hvae_codec.training import train
batches = ImageDataset.batches
def killed(data, epoch, order):
    for number, batch in enumerate(batches(data, epoch, order)):
        if (epoch, number) == (1, 3):  # in the middle of the second
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
ImageDataset.batches = killed
report = lambda row: print(row["epoch"], flush=True)
train(recipe(), dataset(), Path({out!r}), report=report)
"""


def test_killed_in_the_middle_of_an_epoch_it_ends_with_the_same_weights(tmp_path):
    script = KILLED.format(tests=os.path.dirname(__file__), out=str(tmp_path / "killed"))
    command = [sys.executable, "-c", script]
    victim = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (victim.returncode, victim.stdout) == (-signal.SIGKILL, "1\n"), victim.stderr
    rows = []
    train(recipe(), dataset(), tmp_path / "killed", report=rows.append)
    assert [row["epoch"] for row in rows] == [2, 3], "it went on, it did not start again"
    train(recipe(), dataset(), tmp_path / "whole")
    ours = load_file(tmp_path / "killed" / STATE_FILE)
    theirs = load_file(tmp_path / "whole" / STATE_FILE)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(value, ours[name]), name


def test_state_of_another_recipe_is_refused(tmp_path):
    train(recipe(epochs=1), dataset(), tmp_path)
    with pytest.raises(CheckpointError, match=r"batch_size 16 \(now 8\)"):
        train(recipe(epochs=1, batch_size=8), dataset(), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_state_is_refused(tmp_path, damage):
    train(recipe(epochs=1), dataset(), tmp_path)
    path = tmp_path / STATE_FILE
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "other": b"\0" * 64}[damage])
    with pytest.raises(CheckpointError, match=STATE_FILE):
        train(recipe(epochs=1), dataset(), tmp_path)


def test_divergence_names_step_and_layer(tmp_path):
    start = train(recipe(epochs=1), dataset(), tmp_path / "a").state_dict()
    start["log_steps.0"] = torch.full_like(start["log_steps.0"], float("nan"))
    with pytest.raises(DivergenceError, match=r"step 0: .*the rate of z2 is nan"):
        train(recipe(), dataset(), tmp_path / "b", start=start)
    assert not (tmp_path / "b" / STATE_FILE).exists()


def test_starts_from_given_weights(tmp_path):
    first = train(recipe(epochs=1), dataset(), tmp_path / "a")
    second = train(
        recipe(epochs=1, learning_rate=1e-12), dataset(), tmp_path / "b", start=first.state_dict()
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_bf16_and_contiguous_train_too(tmp_path):
    rows = []
    run = recipe(precision="bf16", channels_last=False, epochs=2)
    train(run, dataset(), tmp_path, report=rows.append)
    assert rows[1]["distortion_nats"] < rows[0]["distortion_nats"]


def test_pictures_must_fit_the_model(tmp_path):
    with pytest.raises(DatasetError, match=r"\(3, 32, 32\)"):
        train(recipe(spec="ghvae-32x32x3"), dataset(), tmp_path)
    with pytest.raises(DatasetError, match="do not fill a minibatch of 16"):
        train(recipe(), dataset(8), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"betas": (1.0,)}, "1 betas given"),
        ({"betas": (1.0, -0.1)}, "at least 0"),
        ({"betas": (1.0, float("nan"))}, "finite"),
        ({"epochs": 0}, "epochs 0"),
        ({"precision": "fp8"}, "fp32, bf16"),
        ({"schedule": "linear"}, "constant, cosine, hold"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"rounded_epochs": 9}, "must not exceed"),
        ({"rounded_epochs": 1, "posterior": "gaussian"}, "no grid"),
        ({"plain_crops": 1.5, "crops": 64}, "plain_crops 1.5; must lie between 0 and 1"),
        ({"plain_crops": 0.1}, "plain_crops is a share of random crops"),
        ({"spec": "vae"}, "no architecture 'vae'"),
    ],
)
def test_recipes_refuse(changes, message):
    with pytest.raises(SpecError, match=message):
        recipe(**changes)


def test_recipe_round_trip_and_schedule():
    run = recipe(schedule="cosine", rate_warmup_epochs=2, learning_rate=1.0)
    assert Recipe.from_json(json.loads(json.dumps(run.to_json()))) == run
    assert [run.learning_rate_at(step, 8) for step in (0, 4)] == pytest.approx([1.0, 0.5])
    assert run.betas_at(0.5) == (0.25, 0.125)
    assert run.betas_at(2.0) == (1.0, 0.5)
    plain = recipe(crops=64, plain_crops=0.04)
    assert plain.to_json()["plain_crops"] == 0.04
    assert Recipe.from_json(plain.to_json()) == plain
    assert "plain_crops" not in run.to_json()  # releases without it read what they can repeat
    with pytest.raises(SpecError, match="unknown recipe fields: momentum"):
        Recipe.from_json({**run.to_json(), "momentum": 0.9})


def test_a_rate_out_of_all_bounds_is_divergence(tmp_path):
    start = train(recipe(epochs=1), dataset(), tmp_path / "a").state_dict()
    # Means of z2 near 1,000 cost about 500,000 nats a dimension under N(0, 1).
    name = "layers.0.mean.1.bias"
    start[name] = torch.full_like(start[name], 1e3)
    with pytest.raises(DivergenceError, match="step 0: the rate of z2 is"):
        train(recipe(), dataset(), tmp_path / "b", start=start)


def test_a_gradient_norm_bounds_the_step_of_an_outlier(tmp_path):
    """Clipped to next to nothing, Adam's epsilon outweighs the gradient and weights stand still."""
    first = train(recipe(epochs=1), dataset(), tmp_path / "a")
    run = recipe(epochs=1, gradient_norm=1e-16)
    second = train(run, dataset(), tmp_path / "b", start=first.state_dict())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    with pytest.raises(SpecError, match="gradient_norm 0"):
        recipe(gradient_norm=0.0)
