"""Sweeps: plans, stacks that train as their models would alone, and folders that survive."""

import itertools
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hvae_codec.codec.checkpoint import load_checkpoint
from hvae_codec.codec.codec import Codec
from hvae_codec.data import load_dataset
from hvae_codec.errors import SpecError, SweepError
from hvae_codec.models.stacked import StackedVAE
from hvae_codec.training import train
from hvae_codec.training.run_state import RunState
from hvae_codec.training.sweep import stacked_trainer
from hvae_codec.training.sweep.chunk import fingerprint_of, pending_chunks
from hvae_codec.training.sweep.job import SweepJob, run_sweep
from hvae_codec.training.sweep.memory import fitting_chunk, model_bytes
from hvae_codec.training.sweep.plan import (
    PLAN_FILE,
    SweepModel,
    SweepPlan,
    divergence_path,
    grid,
    is_done,
    model_path,
    read_plan,
    write_plan,
)
from hvae_codec.training.sweep.stacked_trainer import train_chunk
from hvae_codec.utils.executors.local import LocalExecutor

pytestmark = pytest.mark.usefixtures("one_thread")


def weights(directory, count):
    """SHA-256 of each model, by its card."""
    cards = [json.loads((directory / f"models/{i:04}.json").read_text()) for i in range(count)]
    return [card["sha256"] for card in cards]


def run_locally(job, workers, progress):
    with LocalExecutor(workers) as executor:
        return run_sweep(job, executor, progress)


def test_the_papers_grid():
    models = grid((21, 21), 0.1, 10.0)
    assert len(models) == 441
    assert models[0].betas == (0.1, 0.1)
    assert models[20].betas == (0.1, 10.0)  # beta_1 changes fastest
    assert models[-1].betas == (10.0, 10.0)
    assert models[10 * 21 + 10].betas == (1.0, 1.0)  # the VAE, in the middle
    steps = {round(b.betas[1] / a.betas[1], 3) for a, b in itertools.pairwise(models[:21])}
    assert steps == {round(100 ** (1 / 20), 3)}


@pytest.mark.parametrize(
    ("sizes", "low", "high"),
    [((0, 3), 0.1, 10), ((3, 3), 0, 10), ((3, 3), 2, 1), ((3, 3), 1, math.inf), ((999, 999), 1, 2)],
)
def test_impossible_grids_are_refused(sizes, low, high):
    with pytest.raises(SweepError):
        grid(sizes, low, high)


def test_a_plan_comes_back_from_its_folder(make_plan, tmp_path):
    plan = make_plan([(0.1, 1.0), SweepModel((0.5, 0.5), (3.0, 20.0))])
    write_plan(tmp_path / "s", plan)
    assert read_plan(tmp_path / "s") == plan
    assert [list(chunk) for chunk in make_plan(chunk=2).chunks()] == [[0, 1], [2]]
    write_plan(tmp_path / "s", plan)  # the same again is no matter


def test_other_settings_and_foreign_folders_are_refused(make_plan, tmp_path):
    write_plan(tmp_path / "s", make_plan())
    with pytest.raises(SweepError, match="recipe"):
        write_plan(tmp_path / "s", make_plan(seed=1))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    with pytest.raises(SweepError, match="not empty"):
        write_plan(tmp_path / "foreign", make_plan())
    with pytest.raises(SweepError, match="not a sweep"):
        read_plan(tmp_path / "foreign")
    for damage in ("{", "[]", '{"format": "other"}', '{"format": "hvae-codec sweep 1"}'):
        (tmp_path / "s" / "sweep.json").write_text(damage)
        with pytest.raises(SweepError):
            read_plan(tmp_path / "s")


def test_a_plan_checks_every_model(make_plan):
    with pytest.raises(SpecError, match="betas"):
        make_plan([(0.1, 0.1), (0.1, -1.0)])
    with pytest.raises(SweepError, match="chunks"):
        make_plan(chunk=0)


def trained_alone(plan, index, training, directory):
    return train(plan.recipe_of(index), training, directory).state_dict()


@pytest.mark.usefixtures("fp64")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_norm": 5.0, "schedule": "constant"},
        {"posterior": "uniform", "rounded_epochs": 1},
        {"spec": "lvae-32x32x3", "rate_warmup_epochs": 1},
        {"betas": [SweepModel((0.5, 0.5), (3.0, 20.0)), (0.1, 2.0), (3.0, 1.0)]},
        {"optimiser": "muon", "posterior": "uniform", "gradient_norm": 5.0},
        {"optimiser": "soap", "epochs": 3, "channels_last": False},
    ],
    ids=["plain", "clipped", "uniform", "lvae", "rates", "muon", "soap"],
)
def test_a_slice_of_a_stack_is_the_model_trained_alone(make_plan, tmp_path, settings):
    """In double precision: the order of a convolution's sums is all that may differ.

    The eigenvectors of SOAP magnify that where eigenvalues are close; where they are 0, they depend
    on the order of columns in memory, which a stack has as models that are not channels_last.
    """
    atol = 1e-5 if settings.get("optimiser") == "soap" else 1e-9
    plan = make_plan(**settings)
    training = load_dataset(plan.recipe.dataset, "train")
    stacked = train_chunk(plan, range(1, 3), training, tmp_path / "stack")
    first = train_chunk(plan, range(1), training, tmp_path / "first")
    for index, result in zip((0, 1, 2), (*first, *stacked), strict=True):
        alone = trained_alone(plan, index, training, tmp_path / f"alone-{index}")
        assert result.state.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(result.state[name], value, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("optimiser", ["adam", "muon", "soap"])
def test_a_model_that_diverges_is_reported_and_disturbs_no_other(
    make_plan, tmp_path, monkeypatch, optimiser
):
    """Bit for bit: the others are what they are beside a healthy model."""
    plan = make_plan(chunk=3, optimiser=optimiser)
    training = load_dataset(plan.recipe.dataset, "train")
    healthy = train_chunk(plan, range(3), training, tmp_path / "healthy")

    class Breaking(StackedVAE):
        """Its model 1 gets a weight that is not finite at the third step."""

        calls = 0

        def forward(self, *args, **kwargs):
            self.calls += 1
            if self.calls == 3:
                self.decoder_output.weight.data[1, 0] = torch.inf
            return super().forward(*args, **kwargs)

    monkeypatch.setattr(stacked_trainer, "StackedVAE", Breaking)
    broken = train_chunk(plan, range(3), training, tmp_path / "broken")
    assert broken[1].state is None
    assert "diverged at step 2" in broken[1].history[-1]["diverged"]
    for slot in (0, 2):
        assert broken[slot].history == healthy[slot].history
        for name, value in healthy[slot].state.items():
            assert torch.equal(broken[slot].state[name], value)


def test_a_sweep_leaves_ordinary_checkpoints(make_plan, tmp_path):
    plan = make_plan()
    write_plan(tmp_path / "s", plan)
    seen = []
    assert run_locally(SweepJob(tmp_path / "s"), 1, seen.append) == []
    assert sum(seen) == 3 * 2 * 32  # models, epochs, pictures
    assert pending_chunks(tmp_path / "s") == []
    test = load_dataset(plan.recipe.dataset, "test")
    for index in range(3):
        checkpoint = load_checkpoint(model_path(tmp_path / "s", index))
        assert checkpoint.card["recipe"] == plan.recipe_of(index).to_json()
        assert checkpoint.card["quality"] == index + 1
        assert checkpoint.card["measured"]["images"] == 8
        codec = Codec(checkpoint)
        assert codec.decode(codec.encode(test.images[0])).shape == (32, 32, 3)


def test_what_diverged_leaves_a_note_and_no_checkpoint(make_plan, tmp_path, monkeypatch):
    plan = make_plan([(0.1, 0.1), (0.1, 1e38)], learning_rate=1e-2, epochs=1)
    write_plan(tmp_path / "s", plan)
    lines = run_locally(SweepJob(tmp_path / "s"), 1, lambda images: None)
    assert len(lines) == 1
    assert lines[0].startswith("model 0001")
    assert (
        "diverged at step" in json.loads(divergence_path(tmp_path / "s", 1).read_text())["diverged"]
    )
    assert not model_path(tmp_path / "s", 1).exists()
    assert is_done(tmp_path / "s", 0)
    assert is_done(tmp_path / "s", 1)


def test_workers_give_what_one_process_gives(make_plan, tmp_path):
    plan = make_plan(epochs=1)
    for name, workers in (("one", 1), ("two", 2)):
        write_plan(tmp_path / name, plan)
        run_locally(SweepJob(tmp_path / name, threads=1), workers, lambda images: None)
    assert weights(tmp_path / "one", 3) == weights(tmp_path / "two", 3)


class Flooding(SweepJob):
    """One chunk reports without end; another fails in the middle of that."""

    def run(self, number, progress):
        if number == 0:
            time.sleep(2.0)
            raise SweepError("the first chunk failed")
        while True:
            progress(1)


@pytest.mark.timeout(100)
def test_a_chunk_that_fails_while_others_report_ends_the_sweep(make_plan, tmp_path):
    """They are ended in the middle of a report: nobody may wait for the rest of it."""
    write_plan(tmp_path / "sweep", make_plan(epochs=1))
    seen = []
    with pytest.raises(SweepError, match="the first chunk failed"):
        run_locally(Flooding(tmp_path / "sweep", threads=1), 2, seen.append)
    assert sum(seen) > 0


KILLED = """
import os, signal, sys
from pathlib import Path
from hvae_codec.training.run_state import RunState
from hvae_codec.training.sweep.job import SweepJob, run_sweep
from hvae_codec.utils.executors.local import LocalExecutor
save = RunState.save
def killed(state, progress):
    save(state, progress)
    os.kill(os.getpid(), signal.SIGKILL)
RunState.save = killed
run_sweep(SweepJob(Path(sys.argv[1]), threads=1), LocalExecutor(1), lambda images: None)
"""


def test_a_killed_sweep_goes_on_bit_for_bit(make_plan, tmp_path):
    plan = make_plan()
    for name in ("whole", "killed"):
        write_plan(tmp_path / name, plan)
    run_locally(SweepJob(tmp_path / "whole", threads=1), 1, lambda images: None)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    assert subprocess.run(command, timeout=240).returncode == -signal.SIGKILL
    state = tmp_path / "killed/chunks/000/state.safetensors"
    assert state.exists()
    run_locally(SweepJob(tmp_path / "killed", threads=1), 1, lambda images: None)
    assert weights(tmp_path / "killed", 3) == weights(tmp_path / "whole", 3)
    assert not state.exists()  # the models are there; nothing is kept twice


def test_other_data_are_refused(make_plan, tmp_path):
    plan = make_plan()
    other = SweepPlan(plan.recipe, plan.models, plan.chunk, plan.name, {**plan.data, "test": "?"})
    write_plan(tmp_path / "s", other)
    with pytest.raises(SweepError, match="begun with"):
        run_locally(SweepJob(tmp_path / "s"), 1, lambda images: None)


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_images_are_refused(make_plan, crops, tmp_path, split):
    """Of one name and number, by the plan and by the chunks that are still to come."""
    plan = replace(make_plan(), fingerprint=fingerprint_of(*both_splits(crops)))
    write_plan(tmp_path / "s", plan)
    path = tmp_path / "crops" / split / "a.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    with pytest.raises(SweepError, match="begun with other images"):
        run_locally(SweepJob(tmp_path / "s"), 1, lambda images: None)
    now = replace(plan, fingerprint=fingerprint_of(*both_splits(crops)))
    with pytest.raises(SweepError, match=r"other settings \(content of the images\)"):
        write_plan(tmp_path / "s", now)
    assert not list((tmp_path / "s").glob("models/*"))


def test_a_plan_of_an_earlier_release_goes_on(make_plan, tmp_path):
    plan, folder = make_plan(), tmp_path / "s"
    write_plan(folder, plan)
    stored = json.loads((folder / PLAN_FILE).read_text())
    del stored["fingerprint"]
    (folder / PLAN_FILE).write_text(json.dumps(stored))
    write_plan(folder, replace(plan, fingerprint="0" * 64))
    assert read_plan(folder) == plan


def both_splits(name):
    return load_dataset(name, "train"), load_dataset(name, "test")


def test_a_full_disk_leaves_the_last_state(make_plan, tmp_path, monkeypatch):
    plan = make_plan(chunk=3)
    training = load_dataset(plan.recipe.dataset, "train")
    whole = train_chunk(plan, range(3), training, tmp_path / "whole")
    save, calls = RunState.save, []

    def full(state, progress):
        calls.append(progress)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(state, progress)

    with monkeypatch.context() as patch:
        patch.setattr(RunState, "save", full)
        with pytest.raises(OSError, match="No space"):
            train_chunk(plan, range(3), training, tmp_path / "full")
    again = train_chunk(plan, range(3), training, tmp_path / "full")
    for one, other in zip(whole, again, strict=True):
        assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)


def test_chunks_fit_memory(make_plan):
    recipe = make_plan(batch_size=16).recipe
    one = model_bytes(recipe)
    assert one > 475_811 * 16  # the paper's parameters, with gradient and moments
    assert model_bytes(make_plan(batch_size=32).recipe) > one
    assert fitting_chunk(recipe, 441, "cpu") <= 32
    assert fitting_chunk(recipe, 3, "cpu", workers=3) == 1
    models, chunk = 50, fitting_chunk(recipe, 50, "cpu")
    assert -(-models // chunk) * chunk - models < chunk


def test_stacked_weights_are_what_safetensors_holds(make_plan, tmp_path):
    plan = make_plan(epochs=1)
    training = load_dataset(plan.recipe.dataset, "train")
    results = train_chunk(plan, range(2), training, tmp_path / "c")
    tensors = load_file(tmp_path / "c/state.safetensors")
    for slot, result in enumerate(results):
        for name, value in result.state.items():
            saved = tensors[f"model.{name}"]
            if not name.startswith("log_step"):
                assert np.array_equal(saved[slot].numpy(), value.numpy())
