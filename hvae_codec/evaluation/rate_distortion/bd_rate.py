"""Curves of bytes over quality compared: at equal PSNR, and over the range that two have in common.

A curve is a list of rows with a measure of quality, by default `psnr_db`, and sizes in bytes or
bits per pixel. Rows that another beats in both are no part of it. Between its rows, log bytes are
interpolated over PSNR by PCHIP, as BD-rate does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import EvaluationError, MissingDependencyError

try:
    import bjontegaard
    from scipy.interpolate import PchipInterpolator
except ImportError as error:
    raise MissingDependencyError(
        "BD-rates need bjontegaard and SciPy: pip install 'hvae-codec[peers]'"
    ) from error

Row = Mapping[str, Any]
Curve = Sequence[Row]


MIN_OVERLAP = 0.5
"""Least share of the shorter curve's range of quality that a BD-rate is stated for."""

MIN_OVERLAP_DB = 1.0
"""Least common range of PSNR that a BD-rate is stated for, in dB."""


def frontier(
    rows: Curve, size: str, measure: str = "psnr_db"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The measure and the size, both rising, of the rows that no other beats.

    Lossless rows, whose PSNR is infinite, and rows without a measurement lie on no curve.
    """
    kept: list[tuple[float, float]] = []
    rows = [row for row in rows if row[measure] is not None and math.isfinite(row[measure])]
    for row in sorted(rows, key=lambda row: (-row[measure], row[size])):
        if not kept or row[size] < kept[-1][1]:
            kept.append((row[measure], row[size]))
    psnr, sizes = np.array(kept[::-1], dtype=np.float64).reshape(-1, 2).T
    return psnr, sizes


def bytes_at(rows: Curve, size: str, psnr_db: float) -> float | None:
    """Bytes that a codec needs for at least this PSNR; None where its rows do not reach it.

    Below its coarsest row it is charged that row, which is better than what was asked for.
    """
    psnr, sizes = frontier(rows, size)
    if len(psnr) == 0 or psnr_db > psnr[-1]:
        return None
    if psnr_db <= psnr[0]:
        return float(sizes[0])
    return float(np.exp(PchipInterpolator(psnr, np.log(sizes))(psnr_db)))


def bytes_within(rows: Curve, size: str, psnr_db: float) -> float | None:
    """As `bytes_at`; None also below the codec's coarsest row."""
    psnr, _ = frontier(rows, size)
    return bytes_at(rows, size, psnr_db) if len(psnr) and psnr[0] <= psnr_db else None


def bd_rate_percent(
    anchor: Curve, test: Curve, size: str, measure: str = "psnr_db"
) -> float | None:
    """Mean difference of the test's bytes from the anchor's, in percent, over the range of quality
    that both cover (Bjontegaard's delta, by PCHIP).

    None where they have less than MIN_OVERLAP of the shorter curve's range in common, or less than
    MIN_OVERLAP_DB of PSNR: a mean over so little says nothing of the curves.

    Raises:
        EvaluationError: a size is not above 0.
    """
    if any(not row[size] > 0 for rows in (anchor, test) for row in rows):
        raise EvaluationError(f"BD-rates are of sizes above 0: a row has {size} of 0 or less")
    (quality_a, sizes_a), (quality_t, sizes_t) = (
        frontier(rows, size, measure) for rows in (anchor, test)
    )
    if min(len(quality_a), len(quality_t)) < 2:
        return None
    common = min(quality_a[-1], quality_t[-1]) - max(quality_a[0], quality_t[0])
    least = float(MIN_OVERLAP * min(np.ptp(quality_a), np.ptp(quality_t)))
    if measure == "psnr_db":
        least = max(least, MIN_OVERLAP_DB)
    if common < least:
        return None
    return float(
        bjontegaard.bd_rate(
            sizes_a,
            quality_a,
            sizes_t,
            quality_t,
            method="pchip",
            require_matching_points=False,
            min_overlap=0.0,
        )
    )


class AtEqualPsnr(NamedTuple):
    """A codec's bytes beside the smallest peer's at one PSNR."""

    psnr_db: float
    ours_bytes: float
    peer: str
    peer_bytes: float
    ratio: float


def at_equal_psnr(
    ours: Curve, peers: Mapping[str, Curve], size: str, psnrs_db: Sequence[float]
) -> list[AtEqualPsnr]:
    """Our bytes against the smallest of the peers' at each PSNR that ours and a peer reach."""
    table = []
    for psnr in psnrs_db:
        own = bytes_at(ours, size, psnr)
        reached = {name: bytes_at(rows, size, psnr) for name, rows in peers.items()}
        sizes = {name: value for name, value in reached.items() if value is not None}
        if own is not None and sizes:
            best = min(sizes, key=sizes.__getitem__)
            table.append(AtEqualPsnr(psnr, own, best, sizes[best], own / sizes[best]))
    return table
