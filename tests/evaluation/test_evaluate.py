"""Evaluations of sweeps: kills, reruns, parts added later, and folders that are none."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvae_codec.codec.checkpoint import save_checkpoint
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.errors import CheckpointError, DatasetError, EvaluationError
from hvae_codec.evaluation.evaluate import evaluate, find_models
from hvae_codec.evaluation.image_classifiers import ClassifierNetwork, save_classifier
from hvae_codec.evaluation.jsonl import RowFile, read_rows
from hvae_codec.evaluation.rows import Settings
from hvae_codec.evaluation.worker import EvaluationConfig
from hvae_codec.models import HierarchicalVAE, get_spec

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A packed MNIST of 300 noisy test images in three classes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    labels = np.arange(300, dtype=np.uint8) % 3
    images = rng.integers(0, 256, (300, 28, 28), dtype=np.uint8)
    images[np.arange(300), 8 * labels] = 255
    (root / "mnist").mkdir()
    arrays = {f"{split}_images": images for split in ("train", "test")}
    arrays |= {f"{split}_labels": labels for split in ("train", "test")}
    np.savez(root / "mnist" / "mnist.npz", **arrays)
    return root


@pytest.fixture
def sweep(tmp_path):
    """A finished sweep of models with random weights."""
    folder = tmp_path / "sweep"
    (folder / "models").mkdir(parents=True)
    recipe = {"dataset": "packed-mnist", "betas": [1.0, 0.5], "rates": None, "epochs": 2}
    plan = {"format": "hvae-codec sweep 1", "recipe": recipe, "models": []}
    (folder / "sweep.json").write_text(json.dumps(plan))
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    for index in range(MODELS):
        torch.manual_seed(index)
        model = HierarchicalVAE(get_spec("ghvae-28x28x1"), "gaussian").eval()
        card = {"name": "s", "quality": 1, "recipe": recipe}
        path = folder / "models" / f"{index:04d}.safetensors"
        save_checkpoint(path, model, fit_tables(model, images), card)
    # One that diverged, and one whose weights are written and whose card is not.
    (folder / "models" / "0007.diverged.json").write_text("{}")
    (folder / "models" / "0008.safetensors").write_bytes(b"unfinished")
    return folder


def run(sweep, root, *, workers=1, images=40, probes="fast", **changes):
    found = find_models(sweep)
    pictures = sweep / "pictures"
    settings = Settings("packed-mnist", images=images, samples=30)
    order = EvaluationConfig(settings, probes, root, **{"pictures": pictures, **changes})
    return evaluate(found, order, found.out, workers=workers)


def untimed(rows):
    return [{**row, "seconds": None} for row in rows]


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition):
    end = time.monotonic() + 250
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


KILLED = """
import os, signal, sys
from multiprocessing import active_children
from hvae_codec.cli import main
from hvae_codec.evaluation.jsonl import RowFile
append = RowFile.append
def killed(file, row):
    append(file, row)
    print(*(child.pid for child in active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
RowFile.append = killed
main(sys.argv[1:])
"""


def test_killed_and_run_again_it_gives_the_rows_of_an_uninterrupted_run(sweep, root, tmp_path):
    out = sweep / "evaluation.jsonl"
    words = ["evaluate", sweep, "--root", root, "--workers", "2", "--probes", "fast", "--out", out]
    command = [sys.executable, "-c", KILLED, *map(str, words)]
    victim = subprocess.run(command, stdout=subprocess.PIPE, timeout=250)
    assert victim.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in victim.stdout.split()]
    wait_for(lambda: not any(map(running, workers)))
    assert len(workers) >= 2, "both workers, which end with the process that started them"
    kept = read_rows(out)
    assert len(kept) == 1, "killed in the middle"
    with out.open("ab") as file:
        file.write(b'{"model": "0003", "sha')  # the row that the kill tore
    found = find_models(sweep)
    order = EvaluationConfig(Settings("packed-mnist"), "fast", root, pictures=sweep / "pictures")
    rows = evaluate(found, order, out)
    assert [row for row in rows if row in kept] == kept, "what was measured was kept"
    whole = evaluate(found, order, tmp_path / "whole.jsonl")
    assert untimed(rows) == untimed(whole) == untimed(read_rows(out))
    assert [row["model"] for row in rows] == [f"{index:04d}" for index in range(MODELS)]


def test_pictures_are_strips_of_eight(sweep, root):
    run(sweep, root, probes="none")
    names = sorted(path.name for path in (sweep / "pictures").iterdir())
    assert names == [*(f"{index:04d}.webp" for index in range(MODELS)), "originals.webp"]
    with Image.open(sweep / "pictures" / "0003.webp") as strip:
        assert strip.size == (8 * 28, 2 * 28)
    with Image.open(sweep / "pictures" / "originals.webp") as strip:
        pixels = np.asarray(strip)[..., 0]
    with np.load(root / "mnist" / "mnist.npz") as stored:
        expected = np.concatenate(list(stored["test_images"][:8] > 127), axis=1) * 255
    np.testing.assert_array_equal(pixels, expected)


def test_what_is_known_is_not_measured_again(sweep, root):
    first = run(sweep, root)
    assert run(sweep, root) == first
    assert run(sweep, root, probes="none") == first, "less is asked for than is there"
    more = run(sweep, root, probes="all")
    assert all(row["accuracy"]["paper"]["z2"]["knn"] is not None for row in more)
    for old, new in zip(first, more, strict=True):
        assert {**old, "accuracy": 0, "settings": 0, "seconds": 0} == {
            **new,
            "accuracy": 0,
            "settings": 0,
            "seconds": 0,
        }
    assert len((sweep / "evaluation.jsonl").read_bytes().splitlines()) == MODELS


def test_a_classifier_given_later_adds_the_inception_score_alone(sweep, root, tmp_path):
    first = run(sweep, root)
    torch.manual_seed(1)
    module = ClassifierNetwork("cnn", 1, 10)
    card = {"arch": "cnn", "stem": 1, "dataset": "MNIST", "classes": 10, "accuracy": 0.5}
    path = tmp_path / "c.safetensors"
    classifier = save_classifier(path, module, card)
    rows = run(sweep, root, classifier=path)
    for old, new in zip(first, rows, strict=True):
        assert new["inception_score"] == pytest.approx(new["diversity"] * new["sharpness"])
        expected = {"arch": "cnn", "accuracy": 0.5, "sha256": classifier.sha256}
        assert (new["samples"], new["classifier"]) == (30, expected)
        changed = {name for name in new if new[name] != old[name]}
        scores = {"inception_score", "diversity", "sharpness", "samples", "classifier", "seconds"}
        assert changed <= scores
    assert run(sweep, root) == rows, "without the classifier its scores stay"


def test_a_model_that_changed_is_measured_again(sweep, root):
    first = run(sweep, root)
    for suffix in (".safetensors", ".json"):
        os.replace(sweep / "models" / f"0003{suffix}", sweep / "models" / f"0001{suffix}")
    again = run(sweep, root)
    assert [row["model"] for row in again] == ["0000", "0001", "0002"]
    assert again[1]["sha256"] == first[3]["sha256"]
    assert untimed(again[2:]) == untimed(first[2:3])


def test_a_damaged_model_does_not_keep_the_others(sweep, root):
    damaged = sweep / "models" / "0002.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(EvaluationError, match=r"1 of 4 models .*: 0002; 0002: .*cannot be read"):
        run(sweep, root, probes="none")
    assert len(read_rows(sweep / "evaluation.jsonl")) == 3


def test_rows_of_other_settings_are_not_mixed(sweep, root):
    run(sweep, root, probes="none")
    with pytest.raises(EvaluationError, match=r"images 40 \(now 50\).*another --output"):
        run(sweep, root, probes="none", images=50)


def test_rows_that_are_none_are_named(sweep, root):
    run(sweep, root, probes="none")
    out = sweep / "evaluation.jsonl"
    lines = out.read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], b"\0" * 80 + b"\n", *lines[1:]])
    out.write_bytes(damaged)
    with pytest.raises(EvaluationError, match="line 2 is no row"):
        run(sweep, root, probes="none")
    assert out.read_bytes() == damaged
    with pytest.raises(EvaluationError, match=r"missing\.jsonl cannot be read"):
        read_rows(sweep / "missing.jsonl")


def test_two_evaluations_of_one_file_are_refused(sweep, root):
    with (
        RowFile(sweep / "evaluation.jsonl"),
        pytest.raises(EvaluationError, match="written by another process"),
    ):
        run(sweep, root, probes="none")


def test_folders_and_files_that_are_none(sweep, root, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, message in (
        (tmp_path / "nowhere", "neither a checkpoint nor the folder"),
        (empty, "not the folder of a sweep: sweep.json cannot be read"),
        (sweep / "sweep.json", "names end in .safetensors"),
    ):
        with pytest.raises(EvaluationError, match=message):
            find_models(path)
    with pytest.raises(CheckpointError, match=r"0008\.json"):
        find_models(sweep / "models" / "0008.safetensors")
    (empty / "sweep.json").write_text((sweep / "sweep.json").read_text())
    with pytest.raises(EvaluationError, match="no finished model yet"):
        find_models(empty)
    (empty / "sweep.json").write_text('{"format": "sweeps of another kind", "recipe": {}}')
    with pytest.raises(EvaluationError, match="does not describe a sweep"):
        find_models(empty)
    with pytest.raises(DatasetError, match="not found"):
        run(sweep, tmp_path / "nowhere")


@pytest.mark.parametrize("changed", ["test_images", "test_labels"])
def test_rows_of_other_data_of_the_same_name_are_not_gone_on_with(sweep, root, tmp_path, changed):
    name = Path("mnist", "mnist.npz")
    other = tmp_path / "data"
    (other / "mnist").mkdir(parents=True)
    arrays = dict(np.load(root / name))
    arrays[changed] = arrays[changed][::-1]
    np.savez(other / name, **arrays)
    rows = run(sweep, root, probes="none")
    assert len({row["fingerprint"] for row in rows}) == 1
    file = sweep / "evaluation.jsonl"
    before = file.read_bytes()
    with pytest.raises(EvaluationError, match="other images or labels of 'packed-mnist'"):
        run(sweep, other, probes="none")
    assert file.read_bytes() == before
    for row in rows:
        del row["fingerprint"]  # as of an earlier release
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(sweep, other, probes="none") == rows
