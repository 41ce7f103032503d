"""Training of classifiers: learning, resuming bit for bit, refusing what teaches nothing."""

import math

import numpy as np
import pytest
import torch

from hvae_codec.data import ImageDataset
from hvae_codec.errors import CheckpointError, DatasetError, DivergenceError, SpecError
from hvae_codec.training.classifier import (
    ClassifierRecipe,
    accuracy,
    augmented,
    train_classifier,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def squares(count=96, shape=(28, 28, 1), seed=3, labelled=True):
    """Pictures whose class is which quarter is lit, under noise."""
    generator = np.random.default_rng(seed)
    height, width, channels = shape
    labels = generator.integers(0, 4, count)
    images = generator.integers(0, 90, (count, height, width, channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        down, right = label // 2 * (height // 2), label % 2 * (width // 2)
        image[down : down + height // 2, right : right + width // 2] += 150
    return ImageDataset(images, labels if labelled else None, "quarters", "train")


def recipe(**changes):
    settings = {"arch": "cnn", "dataset": "quarters", "epochs": 3, "batch_size": 16}
    return ClassifierRecipe(**{**settings, **changes})


def test_it_learns_and_reports_each_epoch(tmp_path):
    rows = []
    run = recipe(learning_rate=0.05)
    module = train_classifier(run, squares(160), tmp_path / "s.safetensors", report=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["loss_nats"] < rows[0]["loss_nats"]
    assert accuracy(module, "cnn", squares(64, seed=9)) > 0.95
    assert module.classes == 4
    # Lit is a quarter: noise stays below 128, and 150 is above it.
    assert module.mean.item() == pytest.approx(0.25, abs=1e-6)
    assert module.deviation.item() == pytest.approx(math.sqrt(0.25 * 0.75), abs=1e-6)


class StopError(Exception):
    pass


def stop_after(epoch):
    def report(row):
        if row["epoch"] == epoch:
            raise StopError

    return report


@pytest.mark.parametrize(
    ("settings", "shape", "stops"),
    [
        ({}, (28, 28, 1), (1, 2)),
        (
            {"arch": "resnet18", "stem": 4, "crop_padding": 2, "flips": True, "epochs": 2},
            (32, 32, 3),
            (1,),
        ),
    ],
)
def test_interrupted_it_ends_with_the_same_weights(tmp_path, settings, shape, stops):
    run, data = recipe(**settings), squares(32, shape)
    whole = train_classifier(run, data, tmp_path / "whole.safetensors").state_dict()
    for stop in stops:
        state = tmp_path / f"{stop}.safetensors"
        with pytest.raises(StopError):
            train_classifier(run, data, state, report=stop_after(stop))
        rows = []
        resumed = train_classifier(run, data, state, report=rows.append).state_dict()
        assert [row["epoch"] for row in rows] == list(range(stop + 1, run.epochs + 1))
        assert whole.keys() == resumed.keys()
        for name, value in whole.items():
            assert torch.equal(value, resumed[name]), name


def test_seeds_give_runs_of_their_own(tmp_path):
    found = [
        train_classifier(recipe(epochs=1, seed=seed), squares(32), tmp_path / f"{seed}.safetensors")
        for seed in (0, 1)
    ]
    first, second = (module.network[-1].weight for module in found)
    assert not torch.equal(first, second)


def test_a_state_of_another_run_or_a_damaged_one_is_refused(tmp_path):
    state = tmp_path / "s.safetensors"
    train_classifier(recipe(epochs=1), squares(32), state)
    with pytest.raises(CheckpointError, match=r"learning_rate 0\.1 \(now 0\.2\)"):
        train_classifier(recipe(epochs=1, learning_rate=0.2), squares(32), state)
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        train_classifier(recipe(epochs=1), squares(32), state)


@pytest.mark.parametrize("changed", ["images", "labels"])
def test_a_state_of_other_data_is_refused(tmp_path, changed):
    """One pixel or label differs; the file stays as it is, and goes on with its own data."""
    state, data, run = tmp_path / "s.safetensors", squares(32), recipe(epochs=2)
    with pytest.raises(StopError):
        train_classifier(run, data, state, report=stop_after(1))
    arrays = {"images": data.images.copy(), "labels": data.labels.copy()}
    arrays[changed].reshape(-1)[5] ^= 1
    other, before = ImageDataset(**arrays, name="quarters", split="train"), state.read_bytes()
    with pytest.raises(CheckpointError, match=r"data 'quarters train' of content .* \(now"):
        train_classifier(run, other, state)
    assert state.read_bytes() == before
    train_classifier(run, data, state)


def test_divergence_names_the_step(tmp_path):
    run = recipe(arch="resnet18", stem=4, learning_rate=1e30, epochs=2)
    with pytest.raises(DivergenceError, match=r"diverged at step \d+: the loss is (nan|inf)"):
        train_classifier(run, squares(64, (32, 32, 3)), tmp_path / "s.safetensors")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (squares(32, (32, 32, 3)), r"\(3, 32, 32\); the classifier cnn takes \(1, 28, 28\)"),
        (squares(32, labelled=False), "quarters has no labels"),
        (squares(8), "8 images do not fill a minibatch of 16"),
    ],
)
def test_pictures_that_it_cannot_learn_from(tmp_path, data, message):
    with pytest.raises(DatasetError, match=message):
        train_classifier(recipe(), data, tmp_path / "s.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"batch_size": 1}, "batch_size 1"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"weight_decay": -1.0}, "weight_decay -1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing 1.0"),
        ({"precision": "fp16"}, "precision 'fp16'"),
    ],
)
def test_recipes_that_there_are_not(change, message):
    with pytest.raises(SpecError, match=message):
        recipe(**change)


def test_the_learning_rate_goes_up_once_and_down_to_zero():
    run = recipe(learning_rate=0.5)
    rates = [run.learning_rate_at(progress) for progress in (0.0, 0.1, 0.2, 0.6, 0.9999999)]
    assert rates == pytest.approx([0.0, 0.25, 0.5, 0.25, 0.0], abs=1e-6)


def test_augmented_pictures_are_moved_and_mirrored_ones():
    images = np.arange(1, 1 + 40 * 4 * 5 * 3, dtype=np.uint16).reshape(40, 4, 5, 3) % 251 + 1
    images = images.astype(np.uint8)
    found = augmented(images, 2, True, np.random.default_rng(0))
    assert (found.shape, found.dtype) == ((40, 3, 4, 5), np.uint8)
    seen = set()
    for image, moved in zip(images, found, strict=True):
        places = [
            (down, right, flip)
            for down in range(-2, 3)
            for right in range(-2, 3)
            for flip in (1, -1)
            if np.array_equal(by_hand(image, down, right)[:, ::flip], moved.transpose(1, 2, 0))
        ]
        assert len(places) == 1
        seen |= set(places)
    assert {place[2] for place in seen} == {1, -1}
    assert len(seen) > 20
    same = augmented(images, 0, False, np.random.default_rng(0))
    assert np.array_equal(same.transpose(0, 2, 3, 1), images)


def by_hand(image, down, right):
    """What stands `down` and `right` of each pixel; 0 outside."""
    result = np.zeros_like(image)
    height, width, _ = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y + down < height and 0 <= x + right < width:
                result[y, x] = image[y + down, x + right]
    return result
