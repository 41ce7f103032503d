"""The best models for a given total rate: the upper hull of a metric over it (Section 5.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def upper_hull(rates: Sequence[float], metrics: Sequence[float]) -> list[int]:
    """Indices of the corners of the upper convex hull of the points (rate, metric), rates rising.

    A point with a coordinate that is not finite is none. Of equal rates the greatest metric counts,
    of equal points the first; points on the line between two corners are no corners.
    """
    order = sorted(
        (i for i in range(len(rates)) if math.isfinite(rates[i]) and math.isfinite(metrics[i])),
        key=lambda i: (rates[i], -metrics[i], i),
    )
    corners: list[int] = []
    for index in order:
        if corners and rates[corners[-1]] == rates[index]:
            continue
        while len(corners) > 1 and not _turns_right(
            rates, metrics, corners[-2], corners[-1], index
        ):
            corners.pop()
        corners.append(index)
    return corners


def best(rates: Sequence[float], metrics: Sequence[float]) -> int | None:
    """Index of the greatest metric, of the lowest rate where several have it; None without any."""
    found = [i for i in range(len(rates)) if math.isfinite(rates[i]) and math.isfinite(metrics[i])]
    return min(found, key=lambda i: (-metrics[i], rates[i], i), default=None)


def value_at(row: Mapping[str, Any], path: str) -> float:
    """The number at a dotted path of an evaluation's row, NaN where there is none.

    For example "psnr_modes_db" or "accuracy.paper.z2.rbf_svm".
    """
    found: Any = row
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else math.nan


def optima(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each metric (a dotted path) that some row has: the model that is best, and the models on
    the hull over the total rate, as {"best": name, "value": ..., "hull": [names, rates rising]}.
    """
    rates = [value_at(row, "total_rate_nats") for row in rows]
    found = {}
    for metric in metrics:
        values = [value_at(row, metric) for row in rows]
        top = best(rates, values)
        if top is not None:
            hull = [rows[index]["model"] for index in upper_hull(rates, values)]
            found[metric] = {"best": rows[top]["model"], "value": values[top], "hull": hull}
    return found


def _turns_right(rates: Sequence[float], metrics: Sequence[float], a: int, b: int, c: int) -> bool:
    """Whether b lies above the line from a to c."""
    rise = (metrics[b] - metrics[a]) * (rates[c] - rates[a])
    return rise > (metrics[c] - metrics[a]) * (rates[b] - rates[a])
