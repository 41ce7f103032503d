"""`hvae-codec evaluate` of one checkpoint: table, JSON, pictures without labels and bad input."""

import json

import numpy as np
import pytest
import torch

from hvae_codec.codec.checkpoint import save_checkpoint
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.models import HierarchicalVAE, get_spec

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def checkpoint(tmp_path, save, picture):
    """A colour model with random weights, and a folder of unlabelled pictures that it names."""
    for split in ("train", "test"):
        save(tmp_path / "crops" / split / "a.png", picture(128, 160, 3, 1))
    torch.manual_seed(5)
    model = HierarchicalVAE(get_spec("ghvae-32x32x3"), "gaussian").eval()
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    recipe = {"dataset": f"folder:{tmp_path / 'crops'}", "betas": [0.1, 3.0], "epochs": 2}
    card = {"name": "c", "quality": 1, "recipe": recipe}
    path = tmp_path / "c-q1.safetensors"
    save_checkpoint(path, model, fit_tables(model, images), card)
    return path


def test_pictures_without_labels_give_a_row_and_a_warning(run, checkpoint):
    done = run("evaluate", checkpoint)
    assert done.code == 0, done.err
    assert "no labels: no information about classes and no accuracies" in done.err
    head, line, best, rows = done.out.splitlines()
    assert " ".join(head.split()) == "model betas R(z2) R(z1) R PSNR IS I acc z2 acc z1"
    cells = line.split()
    assert cells[:2] == ["c-q1", "0.1,3"]
    assert cells[6:] == ["-"] * 4
    assert best.startswith("psnr_modes_db: best ")
    assert best.endswith(", c-q1")
    out = checkpoint.with_name("c-q1.evaluation.jsonl")
    assert rows == f"rows: {out}"
    row = json.loads(out.read_text())
    assert (row["test_images"], row["information_nats"]) == (20, None)
    assert float(cells[4]) == pytest.approx(row["total_rate_nats"], abs=0.01)
    assert float(cells[5]) == pytest.approx(row["psnr_modes_db"], abs=0.01)
    again = run("evaluate", checkpoint, "--json").json
    assert again["rows"] == [row]
    assert again["optima"]["psnr_modes_db"]["hull"] == ["c-q1"]


def test_bad_input_is_said_in_one_line(run, checkpoint, tmp_path):
    assert "neither a checkpoint" in run("evaluate", tmp_path / "none").error()
    assert "not the folder of a sweep" in run("evaluate", tmp_path).error()
    assert "unknown data set" in run("evaluate", checkpoint, "--data", "imagenet").error()
    card = checkpoint.with_suffix(".json")
    without = json.loads(card.read_text())
    del without["recipe"]["dataset"]
    card.write_text(json.dumps(without))
    assert "name it with --data" in run("evaluate", checkpoint).error()
    (tmp_path / "mnist").mkdir()
    arrays = {"test_images": np.zeros((20, 28, 28), np.uint8), "test_labels": np.zeros(20, int)}
    np.savez(tmp_path / "mnist" / "mnist.npz", **arrays)
    wrong = run("evaluate", checkpoint, "--data", "packed-mnist", "--root", tmp_path)
    assert wrong.code == 1
    assert "(1, 28, 28); model c takes (3, 32, 32)" in wrong.error()
    assert run("evaluate", checkpoint, "--probes", "some").code == 2
