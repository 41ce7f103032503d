"""`hvae-codec train`, end to end on a few crops."""

import json
import math
import shlex
from pathlib import Path

import pytest

import hvae_codec
from hvae_codec.cli import build_parser
from hvae_codec.cli.research import train_job
from hvae_codec.data import load_dataset
from hvae_codec.evaluation.card_figures import measure_codec
from hvae_codec.models import SPECS
from hvae_codec.models.fully_convolutional.spec import ConvLatent, ConvSpec, Resolution
from hvae_codec.utils.atomic_files import locked


@pytest.fixture
def words(save, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, split in enumerate(("train", "test")):
        save(tmp_path / "crops" / split / "a.png", picture(128, 128, 3, seed))
    line = "train --data folder:crops --betas 0.1,0.2 --epochs 2 --batch-size 8 --out runs/a"
    return [*line.split(), "--seed", "3", "--threads", "1", "--json"]


def test_a_run_leaves_a_codec_whose_card_says_what_it_does(run, words):
    done = run(*words)
    assert done.code == 0, done.err
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["epoch 1", "epoch 2"]
    codec = hvae_codec.load_file("runs/a/mine-q1.safetensors")
    with open("runs/a/mine-q1.json") as file:
        card = json.load(file)
    measured = measure_codec(codec, load_dataset("folder:crops", "test").images)
    assert card["measured"] == measured
    assert done.json == {
        "checkpoint": "runs/a/mine-q1.safetensors",
        "model_id": codec.info.model_id,
        **measured,
    }
    assert (card["data"]["train_images"], card["data"]["test_images"]) == (16, 16)
    assert card["recipe"]["betas"] == [0.1, 0.2]


def test_the_command_in_the_card_repeats_the_run(run, words):
    first = run(*words).json
    with open("runs/a/mine-q1.json") as file:
        name, *again = shlex.split(json.load(file)["command"])
    assert name == "hvae-codec"
    parsed = build_parser().parse_args(again)
    assert str(parsed.out) == "runs/mine-q1"
    second = run(*again, "--threads", "1", "--json").json
    assert {**second, "checkpoint": None} == {**first, "checkpoint": None}


def test_a_finished_run_with_another_recipe_is_refused(run, words):
    run(*words)
    done = run(*words, "--betas", "0.3,0.3")
    assert (done.code, done.out) == (1, "")
    assert "runs/a" in done.error()


def test_a_finished_run_on_other_images_is_refused_and_changes_nothing(run, words, save, picture):
    run(*words)
    before = {path: path.read_bytes() for path in Path("runs/a").iterdir()}
    save(Path("crops/train/b.png"), picture(64, 64, 3, 9))
    done = run(*words)
    assert (done.code, done.out) == (1, "")
    assert "of 1 images in train" in done.error()
    assert "now '32x32 crops of 2 images in train" in done.error()
    assert {path: path.read_bytes() for path in Path("runs/a").iterdir()} == before


def test_a_checkpoint_of_another_model_is_overwritten_only_where_asked(run, words):
    first = run(*words).json["model_id"]
    Path("runs/a/state.safetensors").unlink()
    done = run(*words, "--seed", "4")
    assert (done.code, done.out) == (1, "")
    assert f"holds model {first}" in done.err
    assert hvae_codec.load_file("runs/a/mine-q1.safetensors").info.model_id == first
    done = run(*words, "--seed", "4", "--replace")
    assert done.code == 0
    second = hvae_codec.load_file("runs/a/mine-q1.safetensors").info.model_id
    assert second == done.json["model_id"] != first


def test_a_kill_while_it_is_measured_leaves_no_checkpoint(run, words, monkeypatch):
    """No card of 0 bytes and 0 dB; the next call measures."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_job, "measure_codec", killed)
        with pytest.raises(KeyboardInterrupt):
            train_job.run(build_parser().parse_args(words))
    assert [path.name for path in Path("runs/a").iterdir()] == ["state.safetensors"]
    done = run(*words)
    assert done.code == 0
    with open("runs/a/mine-q1.json") as file:
        assert json.load(file)["measured"]["psnr_db"] == done.json["psnr_db"] > 5


def test_a_folder_is_of_one_run_at_a_time(run, words):
    Path("runs/a").mkdir(parents=True)
    with locked(Path("runs/a"), AssertionError):  # as the other run has it
        other = run(*words)
        assert "no state of a run" in run(*words, "--snapshot").error()
    assert other.code == 1
    assert "another process is at work in runs/a" in other.error()
    assert list(Path("runs/a").iterdir()) == []
    assert run(*words).code == 0


def test_a_snapshot_has_a_folder_of_its_own(run, words):
    missing = run(*words, "--snapshot")
    assert missing.code == 1
    assert "no state of a run" in missing.error()
    done = run(*words, "--epochs", "1", "--schedule", "constant", "--optimiser", "muon")
    more = [*words, "--epochs", "3", "--schedule", "constant", "--optimiser", "muon"]
    taken = run(*more, "--snapshot")
    assert (taken.code, taken.err) == (0, "")
    place = "runs/a/snapshots/epoch-00001/mine-q1.safetensors"
    assert taken.json == {**done.json, "checkpoint": place}
    assert run(*more, "--replace").json["model_id"] != done.json["model_id"]
    card = json.loads(Path(place).with_suffix(".json").read_text())
    assert card["training"]["epochs"] == 1
    assert card["training"]["cpu_seconds"] > 0
    assert card["training"]["learning_rates"] == [[1, 0.001]]


def test_tables_can_follow_an_encoder_of_more_effort(run, words):
    shipped = Path(hvae_codec.__file__).parent / "checkpoints" / "cifar10-q3.safetensors"
    words += ["--start", shipped, "--epochs", "1", "--learning-rate", "1e-6"]
    first = run(*words).json
    refused = run(*words, "--fit-effort", "1")  # training is done: only the tables are new
    assert refused.code == 1
    assert first["model_id"] in refused.error()
    again = run(*words, "--fit-effort", "1", "--replace").json
    assert again["model_id"] != first["model_id"]
    codec = hvae_codec.load_file("runs/a/mine-q1.safetensors")
    pictures = load_dataset("folder:crops", "train").images
    assert codec.decode_batch(codec.encode_batch(pictures, effort=1)).shape == pictures.shape
    refused = run(*words, "--betas", "0.1,0", "--fit-effort", "1", "--out", "runs/b")
    assert refused.code == 1
    assert "last beta above 0" in refused.error()


def test_calibrate_measures_the_trades_into_the_card(run, words):
    model_id = run(*words).json["model_id"]
    done = run(
        "calibrate",
        "runs/a/mine-q1.safetensors",
        "--data",
        "folder:crops",
        "--images",
        "5",
        "--json",
    )
    assert done.code == 0, done.err
    codec = hvae_codec.load_file("runs/a/mine-q1.safetensors")
    calibration = codec.info.card["calibration"]
    assert codec.info.model_id == model_id
    assert calibration["images"] == 5
    assert len(calibration["trade"]) == len(calibration["psnr_db"]) > 2
    assert done.json == [{"checkpoint": "runs/a/mine-q1.safetensors", **calibration}]


def test_rates_asked_for_are_reached_for_or_reported(run, words):
    at = words.index("--betas")
    asked = [*words[:at], *words[at + 2 :], "--rate", "z2=1.5B", "--rate", "z1=300bits"]
    done = run(*asked)
    assert done.code == 0
    assert len(done.json["rates_missed"]) == 2  # four steps are not enough
    assert done.json["rates_missed"][1].startswith("z1: 207.944 nats were not reached; the nearest")
    assert "warning: z2: 8.31777 nats were not reached" in done.err
    with open("runs/a/mine-q1.json") as file:
        card = json.load(file)
    assert card["recipe"]["rates"] == pytest.approx([12 * math.log(2), 300 * math.log(2)])
    assert card["betas"] == done.json["betas"] != card["recipe"]["betas"]
    again = shlex.split(card["command"])[1:]
    assert {**run(*again, "--threads", "1", "--json").json, "checkpoint": None} == {
        **done.json,
        "checkpoint": None,
    }


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--rate", "z3=2"], 2, "has z2, z1"),
        (["--rate", "z1=2", "--rate", "z1=3"], 2, "twice"),
        (["--rate", "z1=2"], 2, "a --rate for every layer"),
        (["--rate", "z1=0"], 2, "a layer and a rate above 0"),
        (["--rate", "12"], 2, "a layer and a rate above 0"),
        ([], 2, "give --betas"),
    ],
)
def test_rates_that_cannot_be_asked_for(run, words, options, code, message):
    at = words.index("--betas")
    done = run(*words[:at], *words[at + 2 :], *options)
    assert done.code == code
    assert message in done.err


def test_bins_give_layers_a_beta_together(run, words):
    at = words.index("--betas")
    deep = [*words[:at], *words[at + 2 :], "--spec", "ghvae4-32x32x3", "--epochs", "1"]
    done = run(*deep, "--betas", "0.1,0.3", "--bins", "1,3")
    assert done.code == 0, done.err
    with open("runs/a/mine-q1.json") as file:
        card = json.load(file)
    assert card["recipe"]["betas"] == [0.1, 0.3, 0.3, 0.3]
    assert len(card["measured"]["rates_nats"]) == 4
    assert all(words in card["command"] for words in ("--betas 0.1,0.3", "--beta-groups 1,3"))
    rates = [word for layer in "4321" for word in ("--rate", f"z{layer}=9")]
    for options, message in (
        (
            ["--betas", "0.1,0.3", "--bins", "2,1"],
            "--beta-groups 2,1: each needs 1 or more layers, 4",
        ),
        (["--betas", "0.1", "--bins", "2,2"], "need a beta each, 2 in all; 1 given"),
        (["--bins", "2,2"], "give --betas"),
        (["--bins", "2,2", *rates], "give these too"),
        (["--betas", "0.1", "--bins", "two"], "such as 2,2"),
    ):
        refused = run(*deep, *options)
        assert refused.code == 2
        assert message in refused.err


def test_a_model_of_maps_is_trained_on_photographs(run, save, picture, tmp_path, monkeypatch):
    parts = Resolution(4, 8, 1, 1), Resolution(8, 8, 1, 1), Resolution(16, 8, 1, 1)
    latents = ConvLatent(16, 2), ConvLatent(8, 2)
    monkeypatch.setitem(SPECS, "tiny", ConvSpec("tiny", (3, 16, 16), parts, latents, knots=2))
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        save(tmp_path / "photos" / f"{seed}.png", picture(20, 40, 3, seed))
    line = "train --spec tiny --data photos:photos --crops 16 --batch-size 8 --epochs 1 --threads 1"
    words = [*line.split(), "--average", "0.9", "--schedule", "hold", "--quality-rate", "3"]
    done = run(*words, "--quality", "50", "--out", "runs/a", "--json")
    assert done.code == 0, done.err
    with open("runs/a/mine-q50.json") as file:
        card = json.load(file)
    assert card["recipe"]["betas"] == [1.0, 1.0]
    assert card["data"] == {
        "train": "random 16x16 crops, 16 an epoch, of 2 of 3 images in photos train",
        "train_images": 2,
        "test": "16x16 crops of 1 of 3 images in photos test",
        "test_images": 2,
    }
    for options, message in (
        (["--fit-effort", "1"], "--fit-effort is not for tiny"),
        (["--rounded-epochs", "1"], "rounded_epochs must be 0"),
        (["--data", "folder:photos"], "only photos:PATH takes crops"),
    ):
        refused = run(*words, *options, "--out", "runs/b")
        assert refused.code == 1
        assert message in refused.error()
