"""The benchmarks of features and of anomalies, on a few pictures whose answers are known."""

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli

import hvae_codec
from benchmarks.features.anomaly import (
    BOTH,
    RATE,
    TYPICAL,
    compare,
    grey_middle,
    half_size,
    scores_of,
)
from benchmarks.features.anomaly import plot as plot_anomaly
from benchmarks.features.archive_features import measure, pack, plot

pytestmark = pytest.mark.usefixtures("one_thread")


def test_grey_pictures_and_small_ones():
    rgb = np.zeros((1, 32, 32, 3), np.uint8)
    rgb[0, 2, 2] = (255, 0, 0)
    rgb[0, 29, 29] = 255
    grey = grey_middle(rgb)
    assert grey.shape == (1, 28, 28, 1)
    assert (grey[0, 0, 0, 0], grey[0, 27, 27, 0], int(grey.sum())) == (76, 255, 331)
    digit = np.zeros((1, 28, 28, 1), np.uint8)
    digit[0, 4:6, 10:12] = 200
    small = half_size(digit)
    assert small.shape == digit.shape
    assert small[0, 7 + 2, 7 + 5, 0] == small.sum() == 200


def test_noise_is_dear_and_scores_are_what_they_say():
    codec = hvae_codec.load("mnist")
    rng = np.random.default_rng(0)
    lines = np.zeros((30, 28, 28, 1), np.uint8)
    for image, place in zip(lines, rng.integers(8, 20, 30), strict=True):
        image[5:23, place : place + 3] = 255
    noise = rng.integers(0, 256, lines.shape, dtype=np.uint8)
    result, scores, curves = compare(codec, lines[:15], lines[15:], {"noise": noise})
    assert result["sets"]["noise"]["auc"][RATE] == curves["noise"][RATE].auc == 1.0
    assert result["sets"]["noise"]["auc"][TYPICAL] == 1.0
    typical = np.median(codec.information_bits(lines[:15]).sum(1))
    assert result["typical_rate_bits"] == typical
    np.testing.assert_allclose(scores["noise"][TYPICAL], np.abs(scores["noise"][RATE] - typical))
    # What stands behind rate and distortion: the density of the pixels under the decoder's means.
    symbols = [torch.from_numpy(k).float() for k in codec.symbols(codec.encode_batch(lines[:3]))]
    with torch.inference_mode():
        latents = codec.model.dequantise([symbols[0], symbols[1].reshape(-1, 16, 4, 4)])
        logits = codec.model.decode(latents)
        pixels = torch.from_numpy(lines[:3] > 127).permute(0, 3, 1, 2).float()
        nats = -Bernoulli(logits=logits).log_prob(pixels).sum((1, 2, 3)).numpy()
    found = scores_of(codec, lines[:3])
    np.testing.assert_allclose(found[BOTH] - found[RATE], nats / np.log(2), rtol=1e-4)
    assert set(scores["MNIST"]) == {RATE, "rate of z2", "rate of z1", BOTH, TYPICAL}


def test_an_archive_is_classified_without_its_pictures(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 80, (60, 32, 32, 3), dtype=np.uint8)
    images[labels == 1] += 150
    path = tmp_path / "pictures.hvaa"
    pack(path, hvae_codec.load("cifar10", 1), images)
    rows = measure(path, images, labels, 40, 1)
    assert len(rows) == 11
    assert {row["columns"] for row in rows} == {32, 512, 544, 3072}
    assert min(row["accuracy"] for row in rows) > 0.9, "dark and light are easily told apart"
    plot(rows, "dark and light", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_the_figure_of_anomalies(tmp_path):
    codec = hvae_codec.load("mnist")
    images = np.random.default_rng(1).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    _, scores, curves = compare(codec, images, images, {"same": images})
    assert curves["same"][RATE].auc == 0.5
    plot_anomaly(scores, curves, tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 5000
