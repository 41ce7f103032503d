"""Figures of a point of a curve, of pictures of which some come back unchanged."""

import numpy as np
import pytest

from hvae_codec.evaluation.rate_distortion.points import Coded, point

PICTURE = np.full((20, 20, 3), 100, np.uint8)


def psnr(*decoded):
    coded = Coded([b"x"] * len(decoded), [1] * len(decoded), list(decoded), 0.0, 0.0)
    return point([PICTURE] * len(decoded), coded)["psnr_db"]


def test_the_psnr_is_the_mean_over_pictures_one_being_exact():
    # Off by 2 everywhere: 42.1102 dB. Unchanged: 48.1308 + 10 log10(1200) = 78.9226 dB.
    assert psnr(PICTURE + 2, PICTURE + 2) == pytest.approx(42.1102, abs=1e-4)
    assert psnr(PICTURE + 2, PICTURE) == pytest.approx((42.1102 + 78.9226) / 2, abs=1e-4)


def test_where_all_are_exact_there_is_none():
    assert psnr(PICTURE, PICTURE) is None
