"""`hvae-codec train-classifier`, end to end on a few digits."""

import json

import numpy as np
import pytest

from hvae_codec.data import load_dataset
from hvae_codec.evaluation.image_classifiers import load_classifier

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(tmp_path):
    """A data directory with a packed MNIST of 64 pictures: a bar whose place is its class."""
    labels = np.arange(64) % 4
    images = np.zeros((64, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 7 * label : 7 * label + 5] = 255
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    parts = {
        f"{split}_{kind}": value
        for split in ("train", "test")
        for kind, value in (("images", images), ("labels", labels.astype(np.uint8)))
    }
    np.savez(folder / "mnist.npz", **parts)
    return tmp_path / "data"


@pytest.fixture
def words(root, tmp_path):
    line = "train-classifier --arch cnn --data packed-mnist --epochs 3 --batch-size 16 --json"
    return [
        *line.split(),
        "--learning-rate",
        "0.05",
        "--root",
        root,
        "--threads",
        "1",
        "--out",
        tmp_path / "c" / "mnist.safetensors",
    ]


def test_it_leaves_a_classifier_whose_card_says_what_it_does(run, words, root, tmp_path):
    done = run(*words)
    assert done.code == 0, done.err
    assert [line.split(":")[0] for line in done.err.splitlines()] == [
        "epoch 1",
        "epoch 2",
        "epoch 3",
    ]
    path = tmp_path / "c" / "mnist.safetensors"
    classifier = load_classifier(path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert done.json == {"classifier": str(path), **card}
    test = load_dataset("packed-mnist", "test", root)
    x = classifier.likelihood.pixels(_tensor(test.images))
    right = classifier.log_probabilities(x).argmax(dim=1).numpy() == test.labels
    assert card["accuracy"] == right.mean() > 0.9
    assert (card["classes"], card["epochs"], card["stem"]) == (4, 3, 1)
    assert (card["recipe"]["crop_padding"], card["recipe"]["flips"]) == (0, False)
    again = run(*words)  # finished: it is measured again and nothing else
    assert (again.err, again.json) == ("", done.json)


def test_another_classifier_is_overwritten_only_by_replace(run, words, tmp_path):
    """Without its state as well, which is what binds a run to its settings and data."""
    path = tmp_path / "c" / "mnist.safetensors"
    first = run(*words).json
    path.with_suffix(".state.safetensors").unlink()
    before = path.read_bytes()
    other = run(*words, "--seed", "1")
    assert (other.code, other.out) == (1, "")
    assert f"{path} holds another classifier, {first['sha256'][:8]}" in other.err
    assert "epoch" not in other.err
    assert path.read_bytes() == before
    assert run(*words).json == first
    path.with_suffix(".state.safetensors").unlink()
    replaced = run(*words, "--seed", "1", "--replace")
    assert replaced.json["sha256"] == load_classifier(path).sha256 != first["sha256"]


def _tensor(images):
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["--arch", "densenet121"], 1, "the classifier densenet121 takes (3, 32, 32)"),
        (["--stem", "2"], 1, "stem 2; cnn can have 1"),
        (["--stem", "3"], 2, "invalid choice: 3"),
        (["--data", "packed-svhn"], 1, "data set packed-svhn not found"),
        (["--out", "mnist.pt"], 2, "must end in .safetensors"),
    ],
)
def test_what_cannot_be_trained(run, words, change, code, message):
    done = run(*words, *change)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
