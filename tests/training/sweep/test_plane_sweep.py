"""A sweep by one model for all betas: ordinary checkpoints that are that model at each choice."""

import pytest
import torch

from hvae_codec.codec.checkpoint import load_checkpoint
from hvae_codec.codec.codec import Codec
from hvae_codec.data import load_dataset
from hvae_codec.errors import SpecError, SweepError
from hvae_codec.training import train
from hvae_codec.training.sweep.chunk import pending_chunks, run_chunk
from hvae_codec.training.sweep.plan import SweepModel, model_path, read_plan, write_plan

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


def test_choices_that_the_one_model_does_not_have_are_refused(make_plan):
    ranges = ((0.1, 10.0), (0.1, 10.0))
    with pytest.raises(SpecError, match=r"betas 20\.0, 1\.0; allowed: 0\.1 to 10, 0\.1 to 10"):
        make_plan([SweepModel((20.0, 1.0))], beta_ranges=ranges)
    with pytest.raises(SweepError, match="adapts none of them to rates"):
        make_plan([SweepModel((1.0, 1.0), (3.0, 20.0))], beta_ranges=ranges)
