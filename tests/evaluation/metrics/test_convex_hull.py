"""Section 5.3's optimal models, against SciPy's convex hull."""

import math

import numpy as np
import scipy
from hypothesis import assume, given
from hypothesis import strategies as st

from hvae_codec.evaluation.metrics.convex_hull import best, optima, upper_hull, value_at

coordinates = st.tuples(st.integers(-40, 40), st.integers(-40, 40))


@given(st.lists(coordinates, min_size=3, max_size=30))
def test_corners_are_those_of_scipys_hull(points):
    """Two points far below turn the hull's upper side into all the rest of it."""
    array = np.array(sorted(set(points)), float)
    left, right = array[:, 0].min(), array[:, 0].max()
    assume(left < right)
    below = [[left, -1e4], [right, -1e4]]
    hull = scipy.spatial.ConvexHull(np.concatenate([array, below]))
    expected = {i for i in hull.vertices.tolist() if i < len(array)}
    found = upper_hull(array[:, 0].tolist(), array[:, 1].tolist())
    assert set(found) == expected
    assert np.all(np.diff(array[found, 0]) > 0)


def test_ties_and_points_that_are_none():
    nan = math.nan
    rates = [5.0, 1.0, 1.0, 3.0, 5.0, nan, 2.0, 3.0]
    metrics = [4.0, 0.0, 2.0, 3.0, 4.0, 9.0, nan, 1.0]
    # (1, 2), (3, 3), (5, 4) are on one line: the middle one is no corner.
    assert upper_hull(rates, metrics) == [2, 0]
    assert best(rates, metrics) == 0
    assert upper_hull([nan], [1.0]) == []
    assert best([1.0], [nan]) is None
    assert upper_hull([7.0], [1.0]) == [0]


def test_optima_of_rows():
    rows = [
        {"model": "a", "total_rate_nats": 1.0, "psnr": 10.0, "acc": {"z2": None}},
        {"model": "b", "total_rate_nats": 2.0, "psnr": 20.0, "acc": {"z2": 0.5}},
        {"model": "c", "total_rate_nats": 3.0, "psnr": 12.0, "acc": None},
    ]
    assert math.isnan(value_at(rows[2], "acc.z2"))
    found = optima(rows, ("psnr", "acc.z2", "inception_score"))
    assert found == {
        "psnr": {"best": "b", "value": 20.0, "hull": ["a", "b", "c"]},
        "acc.z2": {"best": "b", "value": 0.5, "hull": ["b"]},
    }
