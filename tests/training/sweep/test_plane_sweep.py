"""A sweep by one model for all betas: ordinary checkpoints that are that model at each choice."""

from dataclasses import replace

import pytest
import torch

from hvae_codec.codec.checkpoint import load_checkpoint
from hvae_codec.codec.codec import Codec
from hvae_codec.data import load_dataset
from hvae_codec.errors import CheckpointError, SpecError, SweepError
from hvae_codec.models.plane import PlaneVAE
from hvae_codec.models.zoo import get_spec
from hvae_codec.training import train
from hvae_codec.training.sweep.chunk import pending_chunks, run_chunk
from hvae_codec.training.sweep.plan import (
    PLANE_FILE,
    SweepModel,
    model_path,
    read_plan,
    write_plan,
)
from hvae_codec.training.sweep.plane import check_plane, keep_plane, recipe_of
from hvae_codec.training.sweep.plane_checkpoint import load_plane, make_plane

BETAS = ((0.1, 0.1), (10.0, 0.1), (10.0, 10.0))


@pytest.fixture
def plan(make_plan):
    return make_plan(
        [SweepModel(betas) for betas in BETAS],
        chunk=3,
        optimiser="muon",
        learning_rate=2e-3,
        beta_ranges=((0.1, 10.0), (0.1, 10.0)),
    )


@pytest.fixture
def data(plan):
    return [load_dataset(plan.recipe.dataset, split) for split in ("train", "test")]


def test_checkpoints_are_the_one_model_at_each_choice(plan, data, tmp_path):
    folder = tmp_path / "sweep"
    write_plan(folder, plan)
    assert read_plan(folder) == plan
    seen = []
    assert run_chunk(folder, 0, *data, advance=seen.append) == []
    assert sum(seen) == 2 * 32  # two epochs of 32 images, whatever the number of choices
    assert pending_chunks(folder) == []
    alone = train(plan.recipe, data[0], tmp_path / "alone")
    for index, betas in enumerate(BETAS):
        checkpoint = load_checkpoint(model_path(folder, index))
        assert checkpoint.card["betas"] == list(betas)
        wanted = alone.at(betas).state_dict()
        found = checkpoint.model.state_dict()
        steps = {key for key in found if key.startswith("log_step")}  # set for the codec
        for key in found.keys() - steps:
            torch.testing.assert_close(found[key], wanted[key], rtol=1e-4, atol=1e-5)
    plane = load_plane(folder / PLANE_FILE)
    assert plane.card["recipe"] == plan.recipe.to_json()
    assert [row["epoch"] for row in plane.card["history"]] == [1, 2]
    measured = {tuple(row["betas"]): row for row in plane.card["measured"]}
    assert measured.keys() == {(0.1, 0.1), (10.0, 0.1), (0.1, 10.0), (1.0, 1.0), (10.0, 10.0)}
    of_point = load_checkpoint(model_path(folder, 1)).card["measured"]
    assert measured[10.0, 0.1]["rates_nats"] == pytest.approx(of_point["rates_nats"], rel=0.1)
    codec = Codec(load_checkpoint(model_path(folder, 0)))
    image = data[1].images[0]
    assert codec.decode(codec.encode(image)).shape == image.shape


def test_a_kill_between_two_checkpoints_loses_none(plan, data, tmp_path, monkeypatch):
    folder = tmp_path / "sweep"
    write_plan(folder, plan)
    from hvae_codec.training.sweep import chunk

    export = chunk.export_model

    def killed(directory, of, index, *rest):
        if index == 1:
            raise KeyboardInterrupt
        export(directory, of, index, *rest)

    monkeypatch.setattr(chunk, "export_model", killed)
    with pytest.raises(KeyboardInterrupt):
        run_chunk(folder, 0, *data)
    first = model_path(folder, 0).read_bytes()
    monkeypatch.setattr(chunk, "export_model", export)
    assert pending_chunks(folder) == [0]
    run_chunk(folder, 0, *data)
    assert model_path(folder, 0).read_bytes() == first
    assert pending_chunks(folder) == []


def test_a_kept_model_is_taken_at_other_betas_without_training(
    plan, data, make_plan, tmp_path, monkeypatch
):
    model = PlaneVAE(get_spec(plan.recipe.spec), ranges=plan.recipe.beta_ranges)
    card = {"name": "tiny", "recipe": plan.recipe.to_json(), "data": plan.data}
    card |= {"history": [{"epoch": 1}], "measured": [{}]}
    plane = make_plane(model, card)
    other = replace(plan, models=(SweepModel((0.5, 2.0)),), chunk=1)
    folder = tmp_path / "sweep"
    write_plan(folder, other)
    keep_plane(folder, plane)
    monkeypatch.setattr("hvae_codec.training.sweep.plane.train", None)
    seen = []
    assert run_chunk(folder, 0, *data, advance=seen.append) == []
    assert sum(seen) == plan.recipe.epochs * len(data[0])
    found = load_checkpoint(model_path(folder, 0)).model.state_dict()
    wanted = model.at((0.5, 2.0)).state_dict()
    steps = {key for key in found if key.startswith("log_step")}  # set for the codec
    assert all(torch.equal(found[key], wanted[key]) for key in found.keys() - steps)
    keep_plane(folder, plane)  # again
    with pytest.raises(SweepError, match="use another --output"):
        keep_plane(folder, make_plane(PlaneVAE(model.spec, ranges=model.ranges), card))


def test_a_model_of_another_run_is_refused(plan, tmp_path):
    path = tmp_path / "plane.safetensors"
    model = PlaneVAE(get_spec(plan.recipe.spec), ranges=plan.recipe.beta_ranges)
    plane = make_plane(model, {"recipe": plan.recipe.to_json(), "fingerprint": None})
    check_plane(path, plane, plan)
    with pytest.raises(SweepError, match="by another recipe"):
        check_plane(path, plane, replace(plan, recipe=replace(plan.recipe, seed=1)))
    with pytest.raises(SweepError, match="on other images than"):
        check_plane(path, plane, replace(plan, fingerprint="ab"))
    narrow = PlaneVAE(model.spec, ranges=((0.1, 10.0), (0.1, 5.0)))
    with pytest.raises(CheckpointError, match="the recipe in its card is of another model"):
        recipe_of(path, make_plane(narrow, plane.card))
    for recipe in (None, {}, {"spec": "none"}, {**plan.recipe.to_json(), "epochs": "x"}):
        with pytest.raises(CheckpointError, match="its card has no recipe"):
            recipe_of(path, make_plane(model, {"recipe": recipe}))


def test_choices_that_the_one_model_does_not_have_are_refused(make_plan):
    ranges = ((0.1, 10.0), (0.1, 10.0))
    with pytest.raises(SpecError, match=r"betas 20\.0, 1\.0; allowed: 0\.1 to 10, 0\.1 to 10"):
        make_plan([SweepModel((20.0, 1.0))], beta_ranges=ranges)
    with pytest.raises(SweepError, match="adapts none of them to rates"):
        make_plan([SweepModel((1.0, 1.0), (3.0, 20.0))], beta_ranges=ranges)
