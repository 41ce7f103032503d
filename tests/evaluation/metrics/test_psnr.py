"""PSNR against its closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hvae_codec.evaluation import mean_psnr_db, psnr_db, psnr_each_db


@pytest.mark.parametrize(
    ("difference", "decibels"),
    # 20 log10(255 / d), by hand: 20 * 2.40654018 = 48.1308036 for d = 1, 6.0206 less for each 2.
    [(1, 48.1308036), (2, 42.1102037), (16, 24.0484040), (255, 0.0)],
)
def test_a_constant_difference(difference, decibels):
    dark = np.zeros((7, 5, 3), dtype=np.uint8)
    light = np.full_like(dark, difference)
    assert psnr_db(dark, light) == pytest.approx(decibels, abs=1e-6)
    assert psnr_db(light, dark) == pytest.approx(decibels, abs=1e-6)


def test_one_sample_of_many():
    """MSE d^2 / n: one sample of 300 off by 30 is 3, so 10 log10(65025 / 3) = 43.3596."""
    reference = np.full((10, 10, 3), 100, dtype=np.uint8)
    picture = reference.copy()
    picture[4, 5, 1] = 130
    assert psnr_db(reference, picture) == pytest.approx(43.35960, abs=1e-4)


def test_half_the_samples():
    """Half the samples off by d cost half the error: 10 log10(2) = 3.0103 dB more than all."""
    reference = np.zeros((4, 4, 1), dtype=np.uint8)
    picture = reference.copy()
    picture[:2] = 10
    assert psnr_db(reference, picture) == pytest.approx(28.1308036 + 3.0102999, abs=1e-6)


def test_equal_pictures_have_an_infinite_ratio_and_no_warning(recwarn):
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert psnr_db(picture, picture) == np.inf
    assert not recwarn.list


def test_pictures_of_a_batch_are_measured_apart():
    references = np.zeros((3, 4, 4, 3), dtype=np.uint8)
    pictures = np.stack([np.full((4, 4, 3), d, dtype=np.uint8) for d in (0, 1, 255)])
    expected = [np.inf, 48.1308036, 0.0]
    np.testing.assert_allclose(psnr_each_db(references, pictures), expected, atol=1e-6)


def test_one_exact_picture_hardly_moves_a_mean_and_never_lowers_it():
    """1,000 pictures of 3,072 samples at 24.57 dB; as one of them becomes better, then exact."""
    error = np.full(1000, 255**2 / 10**2.457)
    means = [mean_psnr_db(error, 3072)]
    for better in (10.0, 0.1, 1 / 3072, 0.0):
        error[7] = better
        means.append(mean_psnr_db(error, 3072))
    assert means == sorted(means)
    assert means[0] == pytest.approx(24.57, abs=1e-9)
    # Off by one in one sample: 10 log10(255^2 * 3072) = 83.0049 dB.
    assert means[-1] == means[-2] == pytest.approx((999 * 24.57 + 83.0049) / 1000, abs=1e-4)


def test_pictures_of_several_sizes_count_alike_in_a_mean():
    found = mean_psnr_db(np.array([0.0, 0.0]), np.array([1, 100]))
    assert found == pytest.approx((48.1308036 + 68.1308036) / 2, abs=1e-6)


@given(arrays(np.uint8, (2, 3, 5, 3)))
def test_any_pictures_against_floating_point(pair):
    mse = np.mean((pair[0].astype(np.float64) - pair[1]) ** 2)
    expected = np.inf if mse == 0 else 10 * np.log10(255.0**2 / mse)
    assert psnr_db(pair[0], pair[1]) == pytest.approx(expected)


@given(st.sampled_from([(4, 4, 1), (4, 5, 3), (3, 4, 3), (4, 4)]))
def test_shapes_must_agree(shape):
    with pytest.raises(ValueError, match="do not have the references' shape"):
        psnr_db(np.zeros((4, 4, 3), dtype=np.uint8), np.zeros(shape, dtype=np.uint8))
