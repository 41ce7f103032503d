"""Models that figures mark: the grid, the baselines, the hull of Section 5.3, the three optima."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hvae_codec.evaluation.metrics.convex_hull import upper_hull
from hvae_codec.reporting.metrics import (
    INCEPTION,
    INFORMATION,
    NEGATIVE_ELBO,
    PSNR,
    RBF_SVM,
    Metric,
    measured,
)
from hvae_codec.reporting.results import ModelRow, Sweep

_EQUAL = 1e-3
"""Relative difference below which two betas are the same; cards round them."""


@dataclass(frozen=True)
class Optimum:
    """The best model of one application; `number` is its cross's in Figures 3 to 5."""

    number: int
    application: str
    metric: Metric
    row: ModelRow


APPLICATIONS = {
    "reconstruction": (PSNR,),
    "generation": (INCEPTION, NEGATIVE_ELBO),
    "representation": (RBF_SVM, INFORMATION),
}
"""What decides each application's optimum: the first that was measured."""


def hull_rows(sweep: Sweep, metric: Metric) -> tuple[ModelRow, ...]:
    """The models on the upper convex hull of the metric over the total rate, by rising rate."""
    rows = measured(sweep, metric)
    if not rows:
        return ()
    rates = [row.total_rate_nats for row in rows]
    values = [metric.score(row) for row in rows]
    return tuple(rows[index] for index in upper_hull(rates, values))


def best(sweep: Sweep, metric: Metric) -> ModelRow | None:
    """The model with the metric's best value; the first in the sweep's order of several."""
    return max(measured(sweep, metric), key=metric.score, default=None)


def optima(sweep: Sweep) -> tuple[Optimum, ...]:
    """The best model of each application of which a metric was measured."""
    found: list[Optimum] = []
    for application, metrics in APPLICATIONS.items():
        for metric in metrics:
            row = best(sweep, metric)
            if row is not None:
                found.append(Optimum(len(found) + 1, application, metric, row))
                break
    return tuple(found)


def vae(sweep: Sweep) -> tuple[ModelRow, bool] | None:
    """The model with betas nearest to 1, by the logarithm, and whether they are 1.

    None where betas were adapted to rates, or all have a beta of 0.
    """
    rows = [] if sweep.by_rates else [row for row in sweep.rows if min(row.betas) > 0]
    if not rows:
        return None

    def distance(row: ModelRow) -> float:
        return math.hypot(*map(math.log, row.betas))

    nearest = min(rows, key=distance)
    return nearest, all(_same(beta, 1.0) for beta in nearest.betas)


def beta_vaes(sweep: Sweep) -> tuple[ModelRow, ...]:
    """The models with one beta for all layers, by rising beta."""
    rows = () if sweep.by_rates else sweep.rows
    same = [row for row in rows if all(_same(beta, row.betas[0]) for beta in row.betas)]
    return tuple(sorted(same, key=lambda row: row.betas[0]))


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_EQUAL)


Cells = list[tuple[int, ...]]


def axes(rows: Sequence[ModelRow]) -> tuple[list[float], list[float]]:
    """The different values of beta_2 and of beta_1 among rows, rising."""
    return _distinct(row.betas[0] for row in rows), _distinct(row.betas[1] for row in rows)


def _distinct(values: Iterable[float]) -> list[float]:
    found: list[float] = []
    for value in sorted(values):
        if not found or not _same(value, found[-1]):
            found.append(value)
    return found


def is_grid(sweep: Sweep) -> bool:
    """Whether the betas are points of a grid, some of them possibly missing: at least two values of
    each, and over half of their pairs.
    """
    if sweep.by_rates:
        return False
    tops, bottoms = axes(sweep.rows)
    full = len(tops) * len(bottoms)
    return min(len(tops), len(bottoms)) >= 2 and 2 * len(sweep.rows) > full


def cells(sweep: Sweep, rows: Sequence[ModelRow]) -> Cells:
    """The grid's cells as indices into rows of those corners that there are, going around."""
    if not is_grid(sweep):
        return []
    at = _places(rows)
    tops, bottoms = (max(place[axis] for place in at) + 1 for axis in (0, 1))
    return [
        tuple(at[corner] for corner in around if corner in at)
        for t in range(tops - 1)
        for b in range(bottoms - 1)
        for around in [((t, b), (t, b + 1), (t + 1, b + 1), (t + 1, b))]
    ]


def edges(sweep: Sweep, rows: Sequence[ModelRow]) -> list[list[int]]:
    """Pairs of indices into rows whose models are neighbours along one beta of the grid."""
    if not is_grid(sweep):
        return []
    at = _places(rows)
    return [
        [index, at[neighbour]]
        for (t, b), index in at.items()
        for neighbour in ((t + 1, b), (t, b + 1))
        if neighbour in at
    ]


def _places(rows: Sequence[ModelRow]) -> dict[tuple[int, int], int]:
    """Place of each row in the grid, (beta_2, beta_1) -> index of the row."""
    tops, bottoms = axes(rows)
    return {(_place(tops, r.betas[0]), _place(bottoms, r.betas[1])): i for i, r in enumerate(rows)}


def _place(values: Sequence[float], value: float) -> int:
    return next(index for index, known in enumerate(values) if _same(known, value))
