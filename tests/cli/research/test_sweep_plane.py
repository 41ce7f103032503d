"""`hvae-codec sweep --plane` and `--plane-checkpoint`."""

import json

import pytest

PLANE = ("sweep", "--plane", "--data", "none", "--output", "unused")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--grid", "2x2", "--workers", 1), "does not go with --workers"),
        (("--grid", "2x2", "--workers", 3), "does not go with --workers"),
        (("--grid", "2x2", "--models-per-stack", 3), "does not go with --models-per-stack"),
        (("--grid", "2x2", "--chunk", 3), "does not go with --models-per-stack"),
        (("--grid", "3x1"), "at least two betas for each layer; z1 has 0.1 alone"),
        (("--grid", "1x3"), "at least two betas for each layer; z2 has 0.1 alone"),
        (("--betas", "1,2", "--betas", "3,2"), "at least two betas for each layer; z1 has 2 alone"),
        (("--grid", "2x2", "--rates", "z2=12,z1=180"), "adapts no betas to --rates"),
    ],
)
def test_wrong_usage(run, words, message):
    done = run(*PLANE, *words)
    assert done.code == 2
    assert message in done.err


def test_a_layer_s_betas_may_come_from_several_flags(run):
    done = run(*PLANE, "--grid", "3x1", "--betas", "1,2")
    assert (done.code, "two betas" in done.err) == (1, False)  # the data set is none


@pytest.fixture
def line(save, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, split in enumerate(("train", "test")):
        save(tmp_path / "crops" / split / "a.png", picture(128, 128, 3, seed))
    return ["sweep", "--data", "folder:crops", "--threads", "1", "--json"]


def test_a_kept_model_is_taken_at_other_betas(run, line, save, picture, tmp_path):
    train = [*line, "--plane", "--epochs", "2", "--batch-size", "8", "--betas", "0.5,1"]
    done = run(*train, "--betas", "2,3", "--output", "runs/s")
    assert done.code == 0, done.err
    plane = "runs/s/plane.safetensors"
    take = [*line, "--plane-checkpoint", plane, "--output", "runs/t"]
    done = run(*take, "--betas", "0.5,1", "--betas", "1.5,2")
    assert done.json == {"sweep": "runs/t", "trained": ["0000", "0001"], "diverged": []}
    cards = [json.loads((tmp_path / f"runs/{x}/models/0000.json").read_text()) for x in "st"]
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert cards[0]["recipe"] == cards[1]["recipe"]
    done = run(*take, "--betas", "0.5,4")
    assert (done.code, "allowed: 0.5 to 2, 1 to 3" in done.error()) == (1, True)
    done = run(*take, "--betas", "0.5,1", "--epochs", "3")
    assert done.code == 2
    assert "plane.safetensors was trained with --epochs 2, not 3" in done.err
    save(tmp_path / "crops" / "train" / "b.png", picture(32, 32, 3, 9))
    done = run(*line, "--plane-checkpoint", plane, "--output", "runs/u", "--betas", "1,2")
    assert (done.code, "was trained on other images" in done.error()) == (1, True)
    assert not (tmp_path / "runs/u").exists()


def test_a_file_that_is_no_kept_model_is_named(run, line, grey_models, tmp_path):
    out = ("--betas", "1,2", "--output", "runs/s")
    done = run(*line, "--plane-checkpoint", grey_models / "grey-q1.safetensors", *out)
    assert "this release reads 'hvae-codec plane 1'" in done.error()
    done = run(*line, "--plane-checkpoint", "none.safetensors", *out)
    assert "none.json is not a checkpoint's card" in done.error()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [("--rates", "z2=1,z1=2"), ("--workers", "2"), ("--plane",)])
def test_what_trains_nothing_takes_no_flags_of_training(run, words):
    done = run("sweep", "--plane-checkpoint", "x.safetensors", "--output", "unused", *words)
    assert done.code == 2
    assert words[0] in done.err
