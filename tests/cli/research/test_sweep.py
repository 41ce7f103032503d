"""`hvae-codec sweep`, end to end on a few crops."""

import json
from pathlib import Path

import pytest

import hvae_codec
from hvae_codec.training.sweep.plan import read_plan


@pytest.fixture
def words(save, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, split in enumerate(("train", "test")):
        save(tmp_path / "crops" / split / "a.png", picture(128, 128, 3, seed))
    line = "sweep --data folder:crops --epochs 1 --batch-size 8 --threads 1 --out runs/s --json"
    return line.split()


def test_a_grid_and_single_models_become_checkpoints(run, words):
    more = ["--grid", "2x1", "--beta", "0.5:2", "--betas", "1,3", "--rates", "z2=3,z1=4B"]
    done = run(*words, *more, "--chunk", "3")
    assert done.code == 0, done.err
    assert done.json == {
        "sweep": "runs/s",
        "trained": ["0000", "0001", "0002", "0003"],
        "diverged": [],
    }
    with open("runs/s/sweep.json") as file:
        models = json.load(file)["models"]
    assert [model["betas"] for model in models[:3]] == [[0.5, 0.5], [2.0, 0.5], [1.0, 3.0]]
    assert models[3]["rates"] == [3.0, pytest.approx(4 * 5.545177, rel=1e-6)]  # 8 ln 2 nats a byte
    codec = hvae_codec.load_file("runs/s/models/0003.safetensors")
    card = codec.info.card
    assert card["betas"] != card["recipe"]["betas"]  # adapted
    assert (
        hvae_codec.load_file("runs/s/models/0000.safetensors").info.model_id != codec.info.model_id
    )


def test_again_it_goes_on_and_other_settings_are_refused(run, words):
    first = run(*words, "--grid", "1x2")
    assert run(*words, "--grid", "1x2").json == first.json
    done = run(*words, "--grid", "1x2", "--seed", "4")
    assert done.code == 1
    assert "other settings (recipe)" in done.error()


def test_a_model_of_a_sweep_alone_is_the_same_model(run, words):
    """The recipe in a card is all that `train` needs. In fp32 sums are ordered differently."""
    run(*words, "--grid", "1x2", "--chunk", "2")
    recipe = read_plan(Path("runs/s")).recipe_of(1)
    line = "train --data folder:crops --epochs 1 --batch-size 8 --threads 1 --out runs/a --json"
    alone = run(
        *line.split(),
        *("--posterior", "gaussian", "--learning-rate", "3e-4", "--schedule", "constant"),
        *("--betas", ",".join(map(str, recipe.betas)), "--noise-index", "1"),
    )
    assert alone.code == 0, alone.err
    swept = hvae_codec.load_file("runs/s/models/0001.safetensors").info.card["measured"]
    assert alone.json["rates_nats"] == pytest.approx(swept["rates_nats"], rel=1e-3)
    assert alone.json["psnr_db"] == pytest.approx(swept["psnr_db"], rel=1e-3)


def test_bins_of_layers_share_a_beta(run, words):
    deep = ["--spec", "ghvae4-32x32x3", "--bins", "1,3", "--images", "8"]
    done = run(*words, *deep, "--grid", "1x2", "--beta", "1:4", "--betas", "0.5,2")
    assert done.code == 0, done.err
    models = read_plan(Path("runs/s")).models
    assert [model.betas for model in models] == [(1, 1, 1, 1), (1, 4, 4, 4), (0.5, 2, 2, 2)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "give --grid, --betas or --rates"),
        (["--grid", "3x3x3"], "3 sides"),
        (["--grid", "3x"], "'3x'"),
        (["--grid", "2x2", "--beta", "1"], "'1'"),
        (["--rates", "z2=3"], "each of the 2 layers"),
        (["--rates", "z3=3,z2=1,z1=2"], "z3"),
        (["--rates", "z2=3,z2=4"], "twice"),
        (["--grid", "2x2", "--workers", "0"], "0"),
        (["--grid", "2x2", "--bins", "2"], "in 1 bins"),
    ],
)
def test_wrong_usage(run, words, more, message):
    done = run(*words, *more)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_impossible_betas_and_missing_data(run, words):
    done = run(*words, "--grid", "2x2", "--beta", "0:1")
    assert done.code == 1
    assert "0 < first <= last" in done.error()
    done = run(*(word.replace("crops", "nowhere") for word in words), "--grid", "1x1")
    assert done.code == 1
    assert "nowhere" in done.error()
