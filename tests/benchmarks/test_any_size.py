"""Ways in and out of a small picture, each in its process; they must agree."""

import numpy as np

from benchmarks.codec.memory import WAYS, measure, mosaic_rows


def test_a_mosaic_has_the_size_asked_for():
    strips = list(mosaic_rows(1100))
    assert sum(map(len, strips)) == 1100
    assert {strip.shape[1:] for strip in strips} == {(1100, 3)}
    assert np.concatenate(strips).std() > 20


def test_ways_are_measured():
    ways = ["encode('x.png')", "hvae-codec encode x.ppm --psnr", "decode_rows(blob)"]
    assert set(ways) <= set(WAYS)
    result = measure(700, ways)
    assert [row["way"] for row in result["ways"]] == ways
    assert all(0 <= row["added_peak_mib"] < 200 for row in result["ways"])
    assert 0 < result["file_bytes"] < 700 * 700 * 3 / 20
