"""Comparisons of curves against ones whose answers are known: bytes = 10 * 2^(PSNR - 20)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rate_distortion.targets import against_each, binary_targets, lossy_targets
from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.rate_distortion.bd_rate import (
    at_equal_psnr,
    bd_rate_percent,
    bytes_at,
    frontier,
)


def exponential(factor=1.0, first=20.0, last=26.0, count=7):
    """Rows on factor * 10 * 2^(PSNR - 20) bytes, which PCHIP of log bytes meets exactly."""
    return [
        {
            "psnr_db": psnr,
            "file_bytes": factor * 10.0 * 2.0 ** (psnr - 20.0),
            "payload_bytes": factor * 5.0 * 2.0 ** (psnr - 20.0),
        }
        for psnr in np.linspace(first, last, count).tolist()
    ]


def test_rows_that_others_beat_are_no_part_of_a_curve():
    rows = [(10.0, 20.0), (30.0, 24.0), (31.0, 23.0), (40.0, 24.0), (50.0, 25.0)]
    psnr, sizes = frontier([{"b": size, "psnr_db": psnr} for size, psnr in rows], "b")
    assert psnr.tolist() == [20.0, 24.0, 25.0]
    assert sizes.tolist() == [10.0, 30.0, 50.0]


@given(st.floats(20.0, 26.0))
def test_bytes_between_rows_lie_on_the_curve(psnr):
    assert bytes_at(exponential(), "file_bytes", psnr) == pytest.approx(10.0 * 2 ** (psnr - 20.0))


def test_below_its_coarsest_row_a_codec_pays_for_it_and_above_the_finest_it_has_none():
    assert bytes_at(exponential(), "file_bytes", 12.0) == 10.0
    assert bytes_at(exponential(), "file_bytes", 26.01) is None
    assert bytes_at([], "file_bytes", 20.0) is None


@given(st.floats(0.1, 10.0), st.integers(2, 9))
def test_bd_rate_of_a_scaled_curve_is_its_scale(factor, count):
    rate = bd_rate_percent(exponential(), exponential(factor, count=count), "file_bytes")
    assert rate == pytest.approx(100.0 * (factor - 1.0), abs=1e-6)


def test_bd_rate_is_of_the_common_range_only():
    short = exponential(0.5, first=22.0, last=24.0, count=3)
    assert bd_rate_percent(exponential(), short, "payload_bytes") == pytest.approx(-50.0)


def test_without_a_common_range_there_is_no_bd_rate():
    assert bd_rate_percent(exponential(), exponential(first=27.0, last=30.0), "file_bytes") is None
    empty = [*exponential(), {**exponential()[0], "file_bytes": 0}]
    with pytest.raises(EvaluationError, match="sizes above 0"):
        bd_rate_percent(exponential(), empty, "file_bytes")
    assert bd_rate_percent(exponential(), exponential()[:1], "file_bytes") is None
    assert bd_rate_percent([], exponential(), "file_bytes") is None


def test_lossless_rows_and_rows_without_a_measurement_are_on_no_curve():
    others = [{**exponential()[0], "psnr_db": psnr} for psnr in (math.inf, math.nan, None)]
    assert len(frontier(exponential() + others, "file_bytes")[0]) == len(exponential())
    rate = bd_rate_percent(exponential() + others, exponential(0.5), "file_bytes")
    assert rate == pytest.approx(-50.0)


@pytest.mark.parametrize(
    ("first", "last", "stated"),
    [
        (25.9, 32.0, False),  # 0.1 dB in common
        (25.1, 25.9, False),  # all of a curve, but 0.8 dB
        (24.9, 25.9, True),
        (23.1, 29.0, False),  # 2.9 of 5.9 dB
        (22.9, 28.9, True),
    ],
)
def test_bd_rates_over_too_little_are_refused(first, last, stated):
    rate = bd_rate_percent(exponential(), exponential(0.5, first=first, last=last), "file_bytes")
    assert (rate is not None) == stated
    assert rate is None or rate == pytest.approx(-50.0, abs=1e-6)


def test_bd_rate_of_another_measure():
    """Curves whose quality is a tenth of the PSNR: the same bytes over another axis."""
    curves = [exponential(factor) for factor in (1.0, 0.8)]
    for rows in curves:
        for row in rows:
            row["score"] = row["psnr_db"] / 10.0
    assert bd_rate_percent(*curves, "file_bytes", "score") == pytest.approx(-20.0, abs=1e-6)


def test_published_points_are_whole_curves():
    from benchmarks.rate_distortion.__main__ import published_curves  # takes seconds to import

    curves = published_curves()
    assert list(curves) == [
        "VTM",
        "HM",
        "bmshj2018-hyperprior",
        "mbt2018-mean",
        "ELIC",
        "Cool-chic 5.0",
    ]
    for rows in curves.values():
        for key in ("bits_per_pixel", "psnr_db"):
            values = [row[key] for row in rows]
            assert values == sorted(values)
        assert 0.0 < rows[0]["bits_per_pixel"] < 0.13
    # Published by their authors: ELIC saves about 7 % of VTM's rate, the hyperprior spends more.
    rates = against_each({"0": curves["VTM"]}, curves, "bits_per_pixel")["0"]
    assert 4.0 < rates["ELIC"] < 12.0
    assert rates["bmshj2018-hyperprior"] < -20.0
    assert rates["VTM"] == pytest.approx(0.0, abs=0.5)


def test_the_smallest_peer_is_taken_at_each_psnr():
    peers = {"early": exponential(2.0, last=23.0), "late": exponential(4.0, first=22.0)}
    table = at_equal_psnr(exponential(), peers, "file_bytes", (21.0, 23.0, 24.0, 27.0))
    assert [(p.peer, round(p.ratio, 9)) for p in table] == [
        ("early", 0.5),
        ("early", 0.5),
        ("late", 0.25),
    ]
    # At 21 dB the late one would be charged its 160 bytes at 22 dB.
    assert table[0].peer_bytes == pytest.approx(40.0)


def our_rows(factor, overhead):
    extra = {"quality": 1, "information_bytes": 0.0}
    rows = [{**row, **extra} for row in exponential(factor)]
    for row in rows:
        row["information_bytes"] = row["payload_bytes"] / (1.0 + overhead)
    return rows


def test_targets_of_known_curves():
    ours = {"0": our_rows(0.4, 0.03), "1": our_rows(0.39, 0.01), "2": our_rows(0.3, 0.01)}
    targets = lossy_targets(ours, {"WebP": exponential(), "JPEG": exponential(0.75)})
    found = {t["what"]: (t["measured"], t["met"]) for t in targets}
    file, payload = "largest whole file / smallest peer's", "largest payload / WebP's"
    assert found[f"effort 0, {file}, 20 to 25 dB"] == (pytest.approx(0.4 / 0.75, abs=1e-4), False)
    assert found[f"effort 2, {file}, 20 to 25 dB"] == (pytest.approx(0.4, abs=1e-4), True)
    assert found[f"effort 0, {payload}, 22 to 25 dB"] == (pytest.approx(0.4, abs=1e-4), True)
    saving = "payload against effort 0 at equal PSNR, percent"
    assert found[f"effort 1, {saving}"] == (pytest.approx(-2.5, abs=1e-3), False)
    assert found[f"effort 2, {saving}"] == (pytest.approx(-25.0, abs=1e-3), True)
    assert found["quality level 1, effort 0, payload over information content"] == (0.03, False)
    assert found["quality level 1, effort 1, payload over information content"] == (0.01, True)


def test_a_target_without_its_peer_is_neither_met_nor_missed():
    targets = lossy_targets({"0": our_rows(0.4, 0.0)}, {"JPEG": exponential()})
    unknown = {t["what"] for t in targets if t["met"] is None}
    assert unknown == {
        "effort 0, largest payload / WebP's, 22 to 25 dB",
        "effort 1, payload against effort 0 at equal PSNR, percent",
        "effort 2, payload against effort 0 at equal PSNR, percent",
    }


def test_binary_targets_take_the_smallest_rung_that_is_near_enough():
    sizes = [(8.0, 0.05), (12.0, 0.02), (20.0, 0.01)]
    ours = [
        {
            "quality": 1,
            "file_bytes": size + 11.0,
            "payload_bytes": size,
            "information_bytes": size,
            "differing_samples": share,
        }
        for size, share in sizes
    ]
    peers = {
        "PNG": [{"file_bytes": 92.0, "payload_bytes": 40.0}],
        "G4": [{"file_bytes": 130.0, "payload_bytes": 10.0}],
    }
    file, payload = binary_targets({"0": ours}, peers)[:2]
    assert (file["measured"], file["met"]) == (0.25, True)
    assert (payload["measured"], payload["met"]) == (1.2, False)
