"""Tiles: cutting and putting together are inverse, and seams are softened without harm."""

import tracemalloc

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hvae_codec.codec.tiled.tiling import coding_rmse_of, merge, split, tile_grid
from hvae_codec.data.sources.roots import default_root
from hvae_codec.errors import ImageError

PHOTOS = default_root() / "photos" / "kodak"


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "grid"), [((1, 1), (1, 1)), ((32, 32), (1, 1)), ((33, 32), (2, 1)), ((64, 97), (2, 4))]
)
def test_grid_covers_the_picture(size, grid):
    assert tile_grid(*size, (32, 32)) == grid


def test_tiles_come_row_by_row_with_the_edge_repeated():
    image = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7, 1)
    tiles = split(image, (4, 6))
    assert tiles.shape == (4, 4, 6, 1)
    assert tiles[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert tiles[1, 1, :, 0].tolist() == [13, 13, 13, 13, 13, 13]
    assert tiles[2, :, 2, 0].tolist() == [30, 30, 30, 30]
    assert set(tiles[3].ravel()) == {34}


@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]),
    st.integers(1, 12), st.integers(1, 12),
)  # fmt: skip
def test_round_trip_without_softening(height, width, channels, h, w):
    image = noise(height, width, channels, seed=height)
    tiles = split(image, (h, w))
    merged = merge(tiles, height, width, coding_rmse=0)
    np.testing.assert_array_equal(merged, image)
    assert merged.flags.c_contiguous
    assert merged.dtype == np.uint8


@given(st.integers(1, 32), st.integers(1, 32), st.sampled_from([1, 3]))
def test_one_tile_is_left_as_it_is(height, width, channels):
    image = noise(height, width, channels)
    merged = merge(split(image, (32, 32)), height, width, coding_rmse=40)
    np.testing.assert_array_equal(merged, image)


def flat(*levels, side=16, channels=1):
    return np.stack([np.full((side, side, channels), level, np.uint8) for level in levels])


@pytest.mark.parametrize("channels", [1, 3])
def test_step_between_flat_tiles_becomes_a_line(channels):
    """Halves of the step times 3/4 and 1/4 on each side: four equal steps of a fourth."""
    row = merge(flat(100, 116, channels=channels), 16, 32)[5, :, 0].tolist()
    assert row == [100] * 14 + [102, 106, 110, 114] + [116] * 14
    column = merge(flat(116, 100, channels=channels), 32, 16)[:, 5, -1].tolist()
    assert column == [116] * 14 + [114, 110, 106, 102] + [100] * 14


def test_step_that_is_too_large_for_a_coding_error_stays():
    tiles = flat(60, 121)
    np.testing.assert_array_equal(merge(tiles, 16, 32, coding_rmse=10), np.hstack(tiles))
    # 60 is the double of the limit 3 * 10; half way to it, at 45, half of the step is spread.
    assert merge(flat(60, 105), 16, 32, coding_rmse=10)[0, 14:18, 0].tolist() == [63, 68, 97, 102]


def test_a_coarse_codecs_step_is_spread_over_four_pixels():
    """Seven, five, three and one sixteenth of a step of 16 on each side."""
    row = merge(flat(100, 116), 16, 32, coding_rmse=coding_rmse_of(22.8))[5, :, 0].tolist()
    assert row == [100] * 12 + [101, 103, 105, 107, 109, 111, 113, 115] + [116] * 12
    assert (coding_rmse_of(23.9), coding_rmse_of(24.1)) == (16, 10)
    assert coding_rmse_of(float("inf")) == 10


def test_slopes_and_textures_are_not_steps():
    slope = np.repeat(np.arange(0, 192, 2, dtype=np.uint8)[:, None, None], 64, axis=1)
    for image in (slope, slope.transpose(1, 0, 2)):
        merged = merge(split(image, (32, 32)), *image.shape[:2], coding_rmse=15)
        np.testing.assert_array_equal(merged, image)
    # Stripes of 100 and 120: a jump of 20 against slopes of -20 is a step of 40, of which the
    # texture of 20 explains 14; of the other 26, three eighths come off at the seam.
    stripes = np.tile(np.array([100, 120], np.uint8), (64, 32))[..., None]
    merged = merge(split(stripes, (32, 32)), 64, 64, coding_rmse=15).astype(int)
    assert (merged - stripes)[7, 29:35, 0].tolist() == [0, -3, -10, 10, 3, 0]


def test_only_two_pixels_on_either_side_of_a_seam_change():
    image = (noise(100, 70, 3) // 16 + np.arange(70, dtype=np.uint8)[:, None]).astype(np.uint8)
    tiles = split(image, (32, 32))
    shifts = np.random.default_rng(1).integers(0, 20, (len(tiles), 1, 1, 1), dtype=np.uint8)
    plain = merge(tiles + shifts, 100, 70, coding_rmse=0)
    changed = (merge(tiles + shifts, 100, 70) != plain).any(axis=2)
    rows, columns = np.arange(100)[:, None] % 32, np.arange(70) % 32
    beside = np.isin(rows, (30, 31, 0, 1)) | np.isin(columns, (30, 31, 0, 1))
    beside &= (np.arange(100)[:, None] >= 30) | (np.arange(70) >= 30)
    assert changed.any()
    assert not (changed & ~beside).any()


def test_small_tiles_are_not_softened():
    tiles = flat(100, 110, side=7)
    np.testing.assert_array_equal(merge(tiles, 7, 14), np.hstack(tiles))


def coded(image, kept, quantum):
    """Every 32x32 tile alone through a coarse transform coder: low frequencies, rounded."""
    waves = scipy.fft.dctn(split(image, (32, 32)).astype(np.float32), axes=(1, 2), norm="ortho")
    low = np.add.outer(np.arange(32), np.arange(32)) < kept
    waves = np.round(waves / quantum) * quantum * low[:, :, None]
    tiles = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho")
    return np.clip(np.rint(tiles), 0, 255).astype(np.uint8)


def psnr(image, other):
    return 10 * np.log10(255**2 / np.mean((image.astype(float) - other) ** 2))


def steps(image):
    """Mean absolute difference of neighbours across seams, and in the middle of tiles."""
    across, inside = [], []
    for axis in (0, 1):
        change = np.abs(np.diff(image.astype(float), axis=axis)).mean(axis=(1 - axis, 2))
        place = np.arange(change.size) % 32
        across.append(change[place == 31])
        inside.append(change[(place >= 8) & (place < 23)])
    return np.concatenate(across).mean(), np.concatenate(inside).mean()


def assert_softening_helps(image, kept, quantum):
    tiles = coded(image, kept, quantum)
    hard = merge(tiles, *image.shape[:2], coding_rmse=0)
    soft = merge(tiles, *image.shape[:2])
    assert psnr(image, soft) > psnr(image, hard)
    (hard_seam, hard_inside), (soft_seam, soft_inside) = steps(hard), steps(soft)
    assert hard_seam > 1.5 * hard_inside
    assert soft_seam < hard_inside + 0.8 * (hard_seam - hard_inside)
    assert soft_inside == pytest.approx(hard_inside, rel=0.02)


CODERS = [(4, 60), (8, 40), (16, 30)]  # some 22, 24 and 27 dB on photographs


def test_softening_helps_on_a_synthetic_picture():
    """Fields of waves with a spectrum that falls as photographs' do, in three colours."""
    rng = np.random.default_rng(3)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(320)[None]) + 1 / 320
    field = np.fft.fft2(rng.normal(size=(256, 320, 3)), axes=(0, 1)) / frequency[:, :, None] ** 1.3
    field = np.fft.ifft2(field, axes=(0, 1)).real
    image = np.clip(128 + 50 * field / field.std(), 0, 255).astype(np.uint8)
    for coder in CODERS:
        assert_softening_helps(image, *coder)
        assert_softening_helps(image[..., :1], *coder)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photographs in {PHOTOS}")
@pytest.mark.parametrize("name", ["01", "05", "13", "23"])
def test_softening_helps_on_photographs(name):
    image = np.asarray(Image.open(PHOTOS / f"{name}.png").convert("RGB"))
    for coder in CODERS:
        assert_softening_helps(image, *coder)


def test_scratch_memory_does_not_grow_with_the_picture():
    tiles = noise(32 * 64, 32, 32, 3)
    tracemalloc.start()
    merge(tiles, 1024, 2048)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * tiles.nbytes + 40_000_000


def test_wrong_arguments_are_refused_saying_what_was_given():
    tiles = noise(4, 32, 32, 3)
    with pytest.raises(ImageError, match="4 tiles of 32x32 do not make an image of 65x64"):
        merge(tiles, 65, 64)
    with pytest.raises(ImageError, match="do not make an image of 0x64"):
        merge(tiles, 0, 64)
    with pytest.raises(ImageError, match=r"expected uint8 \[T, h, w, C\], got float64"):
        merge(tiles.astype(float), 64, 64)
    for image in (noise(4, 4), noise(0, 4, 3), noise(4, 4, 3).astype(np.int16)):
        with pytest.raises(ImageError, match=r"expected uint8 \[H, W, C\], got"):
            split(image, (32, 32))
