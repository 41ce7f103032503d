"""Training models of maps: it learns, goes on bit for bit; what recipes hold and refuse."""

import errno
import itertools
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hvae_codec.data import RandomCrops
from hvae_codec.data.sources.photographs import Photos
from hvae_codec.errors import CheckpointError, SpecError
from hvae_codec.models.build import build_model
from hvae_codec.models.fully_convolutional.spec import ConvLatent, ConvSpec, Resolution
from hvae_codec.models.zoo import SPECS
from hvae_codec.training import Recipe, load_history, snapshot, train
from hvae_codec.training.ema import weight_average
from hvae_codec.training.recipe import WARMUP_STEPS
from hvae_codec.training.run_state import STATE_FILE

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ConvSpec(
    name="tiny-maps",
    image_shape=(3, 16, 16),
    resolutions=(Resolution(4, 8, 1, 1), Resolution(8, 12, 1, 1), Resolution(16, 16, 1, 1)),
    latents=(ConvLatent(16, 4), ConvLatent(8, 4), ConvLatent(8, 4)),
    knots=3,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(SPECS, TINY.name, TINY)


def crops(count=64):
    """Of a few waves."""
    y, x, channel = np.mgrid[:40, :56, :3] / 8.0
    waves = [128 + 90 * np.sin(a * y + b * x + channel * a) for a, b in ((1, 0.5), (0.3, 1))]
    pictures = tuple(wave.astype(np.uint8) for wave in waves)
    return RandomCrops(Photos(pictures, (16, 16), "waves", "train"), count, seed=5)


def recipe(**changes):
    settings = {"spec": TINY.name, "dataset": "photos:waves", "betas": (1.0,) * 3, "epochs": 3}
    settings |= {"batch_size": 8, "crops": 64, "schedule": "constant", "learning_rate": 3e-3}
    return Recipe(**{**settings, **changes})


def test_learns_at_all_qualities(tmp_path):
    rows = []
    model = train(recipe(epochs=8, average=0.9), crops(), tmp_path, report=rows.append)
    first, last = (row["distortion_nats"] + sum(row["rates_nats"]) for row in (rows[0], rows[-1]))
    assert last < first - 50
    assert rows[-1]["psnr_db"] > rows[0]["psnr_db"] + 1
    x = torch.from_numpy(crops().batch(99, np.arange(16))).permute(0, 3, 1, 2) / 255
    fresh = build_model(TINY, "uniform").eval()
    with torch.inference_mode():
        for quality in (0.0, 0.5, 1.0):
            losses = []
            for some in (fresh, model):
                outcome = some(x, seed=0, qualities=torch.full((16,), quality))
                losses.append((outcome.distortion_nats + outcome.rates_nats.sum(1)).mean().item())
            assert losses[1] < losses[0]


def test_the_average_returned_and_kept_is_that_of_the_recurrence(tmp_path):
    """Against weights seen after every epoch of one step."""
    run = recipe(epochs=24, batch_size=64, average=0.5)
    seen = []

    def report(row):
        tensors = load_file(tmp_path / STATE_FILE)
        seen.append({k: v.double() for k, v in tensors.items() if k.startswith("model.")})

    model = train(run, crops(), tmp_path, report=report)
    kept = {k: v for k, v in load_file(tmp_path / STATE_FILE).items() if k.startswith("average.")}
    for name, value in model.state_dict().items():
        expected = torch.zeros_like(value, dtype=torch.float64)
        for step, weights in enumerate(seen):
            keep = min(0.5, step / (step + 20))
            expected = keep * expected + (1 - keep) * weights[f"model.{name}"]
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(kept[f"average.{name}"], value)


def test_an_average_of_equal_weights_is_those():
    model = torch.nn.Linear(3, 2)
    average = weight_average(model, 0.999)
    for _ in range(50):
        average.update_parameters(model)
    assert torch.equal(average.module.weight, model.weight)


def test_quality_rate_speeds_up_values_by_quality_alone(tmp_path):
    """Adam's first step is the learning rate, whatever the gradient."""
    moved = {}
    for factor in (1.0, 3.0):
        run = recipe(epochs=1, batch_size=64, quality_rate=factor, learning_rate=1e-3)
        torch.manual_seed(run.seed)
        before = build_model(TINY, "uniform").state_dict()
        after = train(run, crops(), tmp_path / str(factor)).state_dict()
        moved[factor] = {k: (after[k] - before[k]).abs().max().item() for k in after}
    for name in moved[1.0]:
        expected = 3e-3 if name.endswith(".table") else 1e-3
        assert moved[3.0][name] == pytest.approx(expected, rel=0.05), name
        assert moved[1.0][name] == pytest.approx(1e-3, rel=0.05), name


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_map_training import SPECS, TINY, crops, killed_recipe
from hvae_codec.data import RandomCrops
from hvae_codec.training import train
SPECS[TINY.name] = TINY
batches = RandomCrops.batches
def killed(data, epoch, order):
    for number, batch in enumerate(batches(data, epoch, order)):
        if (epoch, number) == (1, 3):  # in the middle of the second
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
RandomCrops.batches = killed
report = lambda row: print(row["epoch"], flush=True)
train(killed_recipe(), crops(), Path({out!r}), report=report)
"""


def killed_recipe():
    return recipe(epochs=4, average=0.9, quality_rate=3.0, schedule="hold", decay=0.5)


def test_killed_it_ends_with_the_same_weights_and_average(tmp_path):
    script = KILLED.format(tests=os.path.dirname(__file__), out=str(tmp_path / "killed"))
    command = [sys.executable, "-c", script]
    victim = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (victim.returncode, victim.stdout) == (-signal.SIGKILL, "1\n"), victim.stderr
    rows = []
    resumed = train(killed_recipe(), crops(), tmp_path / "killed", report=rows.append)
    assert [row["epoch"] for row in rows] == [2, 3, 4], "it went on, it did not start again"
    whole = train(killed_recipe(), crops(), tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / run / STATE_FILE) for run in ("killed", "whole"))
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("average.") for name in ours)
    for name, value in theirs.items():
        assert torch.equal(value, ours[name]), name
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_run_with_an_average_is_another_run(tmp_path):
    train(recipe(epochs=1), crops(), tmp_path)
    with pytest.raises(CheckpointError, match=r"average None \(now 0\.9\)"):
        train(recipe(epochs=1, average=0.9), crops(), tmp_path)


def test_other_data_are_another_run(tmp_path):
    """One pixel of one image is enough; the state is as it was."""
    train(recipe(epochs=1), crops(), tmp_path)
    before = (tmp_path / STATE_FILE).read_bytes()
    pictures = [picture.copy() for picture in crops().photos.pictures]
    pictures[1][0, 0, 0] ^= 1
    other = RandomCrops(Photos(tuple(pictures), (16, 16), "waves", "train"), 64, seed=5)
    with pytest.raises(CheckpointError, match=r"data .* of content \w{12} \(now .*\)"):
        train(recipe(epochs=1), other, tmp_path)
    assert (tmp_path / STATE_FILE).read_bytes() == before


def test_a_spec_that_changed_under_its_name_is_another_run(tmp_path, monkeypatch):
    train(recipe(epochs=1), crops(), tmp_path)
    monkeypatch.setitem(SPECS, TINY.name, replace(TINY, knots=4))
    with pytest.raises(CheckpointError, match="'tiny-maps' had other layers"):
        train(recipe(epochs=1), crops(), tmp_path)


def test_another_optimiser_is_another_run(tmp_path):
    train(recipe(epochs=1), crops(), tmp_path)
    with pytest.raises(CheckpointError, match=r"optimiser 'adam' \(now 'muon'\)"):
        train(recipe(epochs=1, optimiser="muon"), crops(), tmp_path)


@pytest.mark.parametrize("optimiser", ["muon", "soap"])
def test_a_run_may_be_lengthened_before_its_learning_rate_falls(tmp_path, optimiser):
    """It then ends with the weights of a run that had that length from the first."""

    def settings(epochs):
        return recipe(epochs=epochs, schedule="hold", decay=0.5, optimiser=optimiser, average=0.9)

    class StopError(Exception):
        pass

    def stop(row):
        if row["epoch"] == 2:
            raise StopError

    with pytest.raises(StopError):
        train(settings(4), crops(), tmp_path / "a", report=stop)
    lengthened = train(settings(6), crops(), tmp_path / "a").state_dict()
    whole = train(settings(6), crops(), tmp_path / "b").state_dict()
    for name, value in whole.items():
        assert torch.equal(value, lengthened[name]), name
    with pytest.raises(CheckpointError, match=r"epochs 6 \(now 7\)"):
        train(settings(7), crops(), tmp_path / "a")


@pytest.mark.parametrize(
    ("schedule", "epochs", "done", "allowed"),
    [
        ("hold", (100, 200), 75, True),
        ("hold", (100, 200), 76, False),  # a quarter of 100 epochs falls
        ("hold", (100, 50), 37, True),
        ("hold", (100, 50), 38, False),
        ("constant", (100, 50), 50, True),
        ("constant", (100, 50), 51, False),
        ("cosine", (100, 200), 1, False),
        ("cosine", (100, 100), 99, True),
    ],
)
def test_what_a_longer_or_shorter_run_may_continue(schedule, epochs, done, allowed):
    earlier, later = (recipe(schedule=schedule, epochs=some) for some in epochs)
    assert later.continues(earlier, done) == allowed
    assert replace(later, precision="bf16").continues(earlier, done) == allowed
    assert replace(later, learning_rate=2e-3).continues(earlier, done) == (
        allowed and schedule != "cosine"
    )
    assert not replace(later, seed=9).continues(earlier, done)


def test_a_learning_rate_may_change_while_it_stands(tmp_path):
    """The state says which epoch had which; from the change on, the steps are those of the new."""

    def settings(learning_rate, epochs=4):
        return recipe(
            epochs=epochs, schedule="constant", optimiser="adam", learning_rate=learning_rate
        )

    class StopError(Exception):
        pass

    def stop(row):
        if row["epoch"] == 2:
            raise StopError

    with pytest.raises(StopError):
        train(settings(1e-3), crops(), tmp_path, report=stop)
    before = load_history(tmp_path)
    changed = train(settings(2e-3), crops(), tmp_path).state_dict()
    history = load_history(tmp_path)
    assert history[:2] == before
    assert [row["learning_rate"] for row in history] == [1e-3, 1e-3, 2e-3, 2e-3]
    slower = train(settings(1e-3), crops(), tmp_path / "slower").state_dict()
    faster = train(settings(2e-3), crops(), tmp_path / "faster").state_dict()
    for other in (slower, faster):
        assert any(not torch.equal(value, changed[name]) for name, value in other.items())
    assert load_history(tmp_path / "slower")[1]["rates_nats"] == history[1]["rates_nats"]


def test_a_snapshot_is_the_average_so_far(tmp_path):
    run = recipe(epochs=2, average=0.9, optimiser="muon")
    with pytest.raises(CheckpointError, match="no state of a run"):
        snapshot(run, crops(), tmp_path)
    trained = train(run, crops(), tmp_path)
    found = snapshot(recipe(epochs=2, average=0.9, optimiser="muon"), crops(), tmp_path)
    assert not found.training
    for name, value in trained.state_dict().items():
        assert torch.equal(value, found.state_dict()[name]), name


def test_a_full_disk_loses_no_state(tmp_path, monkeypatch):
    run = recipe(epochs=3)
    train(recipe(epochs=1, schedule="constant"), crops(), tmp_path)
    before = (tmp_path / STATE_FILE).read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            train(run, crops(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
    assert (tmp_path / STATE_FILE).read_bytes() == before
    rows = []
    train(run, crops(), tmp_path, report=rows.append)
    assert [row["epoch"] for row in rows] == [2, 3]


def test_hold_rises_stands_and_falls():
    run = recipe(schedule="hold", learning_rate=1.0, decay=0.25)
    rates = [run.learning_rate_at(step, 4000) for step in range(4000)]
    assert rates[0] == 1 / WARMUP_STEPS
    assert rates[149] == pytest.approx(0.5)
    assert set(rates[WARMUP_STEPS:3001]) == {1.0}
    assert rates[3500] == pytest.approx(0.5)
    assert rates[3999] == pytest.approx(1 / 1000)
    assert max(math.fabs(b - a) for a, b in itertools.pairwise(rates)) < 0.004


def test_recipes_from_before_these_fields_are_equal_to_those_without_them():
    run = Recipe(spec="ghvae-28x28x1", dataset="mnist", betas=(1.0, 0.5))
    data = run.to_json()
    for name in ("average", "decay", "quality_rate", "crops"):
        del data[name]
    assert Recipe.from_json(data) == run
    new = recipe(average=0.999, schedule="hold", decay=0.2, quality_rate=3.0)
    assert Recipe.from_json(new.to_json()) == new


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"betas": (1.0, 1.0)}, "3 layers"),
        ({"posterior": "gaussian"}, "uniform posteriors only"),
        ({"rounded_epochs": 1}, "rounded latents in every epoch; rounded_epochs must be 0, not 1"),
        ({"average": 1.0}, "between 0 and 1"),
        ({"average": float("nan")}, "between 0 and 1"),
        ({"decay": 0.0}, "above 0 and at most 1"),
        ({"quality_rate": float("inf")}, "quality_rate inf"),
        ({"crops": 0}, "crops 0"),
        ({"images": 5}, "give one"),
        ({"optimiser": "sgd"}, "optimiser 'sgd'; allowed: adam, adamw, muon, soap"),
        (
            {"spec": "ghvae-32x32x3", "betas": (1.0, 1.0), "quality_rate": 2.0},
            "no values by quality",
        ),
    ],
)
def test_recipes_refuse(changes, message):
    with pytest.raises(SpecError, match=message):
        recipe(**changes)
