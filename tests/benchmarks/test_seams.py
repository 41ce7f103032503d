"""The measure of seams: on pictures whose seams are known."""

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from benchmarks.codec.tile_seams import changes, enlarged, measure_rung, ratio


def test_of_a_slope_the_change_is_the_same_everywhere():
    slope = np.add.outer(np.arange(96), np.arange(64)).astype(np.uint8)[..., None]
    found = changes(slope, (32, 32))
    assert ratio(found) == pytest.approx(1.0)
    # Two seams of 64 pixels and one of 96, with steps of 1.
    assert found[0].tolist() == [2 * 64 + 96, 2 * 64 + 96]


def test_of_steps_between_tiles_only_the_seams_change():
    tiles = np.repeat(np.repeat(np.array([[10, 16], [14, 30]], np.uint8), 32, 0), 32, 1)
    found = changes(tiles[..., None], (32, 32))
    assert found[0].tolist() == [32 * (6 + 16) + 32 * (4 + 14), 128]
    assert found[1, 0] == 0


def test_a_rung_and_its_picture(tmp_path):
    y, x = np.mgrid[:128, :160] / 20.0
    picture = (128 + 60 * np.stack([np.sin(x + y), np.cos(2 * x), np.sin(y)], 2)).astype(np.uint8)
    codec = hvae_codec.load("cifar10", quality=1)
    row = measure_rung(codec, [picture])
    assert row["ratio_original"] < row["ratio_soft"] < row["ratio_hard"]
    assert row["psnr_soft_db"] > row["psnr_hard_db"]
    assert row["invisible"] is False
    assert row["bits_per_pixel"] == pytest.approx(
        8 * len(codec.encode(picture)) / picture[..., 0].size
    )
    enlarged(picture, [codec], tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").size == (2 * 96 * 3, 2 * 96 * 3)
