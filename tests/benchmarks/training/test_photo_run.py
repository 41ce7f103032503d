"""The curve of a run against figures worked out by hand."""

import math

import pytest

from benchmarks.training.photo_run import curve
from hvae_codec.training import Recipe


def test_a_curve_counts_steps_hours_and_bits():
    recipe = Recipe(
        spec="lean6-128x128x3", dataset="photos:x", betas=(1.0,) * 6, batch_size=8, crops=2048
    )
    nats = 16_384 * math.log(2.0)  # one bit per pixel
    row = {"distortion_nats": -5 * nats, "rates_nats": [0.25 * nats] * 6, "psnr_db": 28.12345}
    history = [{**row, "epoch": epoch, "cpu_seconds": 900.0} for epoch in (1, 2)]
    rows = curve(recipe, history)
    assert [row["steps"] for row in rows] == [256, 512]
    assert [row["core_hours"] for row in rows] == [0.25, 0.5]
    assert rows[1]["loss_bits_per_pixel"] == pytest.approx(-3.5)
    assert rows[1]["bits_per_pixel"] == pytest.approx(1.5)
    assert rows[1]["psnr_db"] == pytest.approx(28.123)
