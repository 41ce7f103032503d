"""Do runs that are asked for rates get them, and at what loss?

    python -m benchmarks.training.target_rates SWEEP TARGETS [--json FILE]

SWEEP is an evaluated sweep of fixed betas, TARGETS one of models with target rates, of the same
recipe and length. Each target is the rates of one model of SWEEP, the twin, so that a run which
needs no target is known to reach it: the one with the nearest rates, by the logarithm. A row says
what was asked, what the test images cost, and the PSNR beside the twin's. As the two have not
quite the same total rate, the twin's PSNR is moved to the target model's along the slope of
Section 5.3's hull of SWEEP there (dB a nat).
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import write_json
from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.metrics.convex_hull import upper_hull
from hvae_codec.reporting.results import ModelRow, Sweep, read_sweep

PSNR = "psnr_modes_db"


def hull_slope(rows: tuple[ModelRow, ...], rate_nats: float) -> float:
    """Slope, dB a nat, of the hull of PSNR over the total rate at `rate_nats`."""
    rates = [row.total_rate_nats for row in rows]
    values = [row.values[PSNR] for row in rows]
    corners = upper_hull(rates, values)
    pairs = list(itertools.pairwise(corners))
    inside = [pair for pair in pairs if rates[pair[0]] <= rate_nats]
    low, high = (inside or pairs)[-1 if inside else 0]
    return (values[high] - values[low]) / (rates[high] - rates[low])


def twin_of(rows: tuple[ModelRow, ...], target: tuple[float, ...]) -> ModelRow:
    """The model of fixed betas whose rates are nearest to a target, by the logarithm."""

    def distance(row: ModelRow) -> float:
        pairs = zip(row.rates_nats, target, strict=True)
        return sum(math.log(max(rate, 1e-9) / wanted) ** 2 for rate, wanted in pairs)

    return min(rows, key=distance)


def compare(fixed: Sweep, asked: Sweep) -> list[dict[str, Any]]:
    """A row a target.

    Raises:
        EvaluationError: the sweeps differ in more than betas, or one has no targets.
    """
    for key in ("spec", "posterior", "data"):
        if getattr(fixed, key) != getattr(asked, key):
            raise EvaluationError(f"the sweeps differ in {key}")
    if fixed.recipe.epochs != asked.recipe.epochs or not asked.by_rates or fixed.by_rates:
        raise EvaluationError("give a sweep of fixed betas and one of target rates, equally long")
    rows = []
    for row in asked.rows:
        targets = row.target_rates_nats or ()
        target = tuple(rate for rate in targets if rate is not None)
        if len(target) != len(row.rates_nats):
            raise EvaluationError(f"model {row.model} has no target for some layer")
        twin = twin_of(fixed.rows, target)
        slope = hull_slope(fixed.rows, twin.total_rate_nats)
        moved = slope * (row.total_rate_nats - twin.total_rate_nats)
        rows.append(
            {
                "target_nats": list(target),
                "test_nats": list(row.rates_nats),
                "off": [
                    rate / wanted - 1 for rate, wanted in zip(row.rates_nats, target, strict=True)
                ],
                "betas": list(row.betas),
                "psnr_db": row.values[PSNR],
                "twin_betas": list(twin.betas),
                "twin_nats": list(twin.rates_nats),
                "twin_psnr_db": twin.values[PSNR],
                "gain_db": row.values[PSNR] - twin.values[PSNR] - moved,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("fixed", type=Path, metavar="SWEEP")
    parser.add_argument("asked", type=Path, metavar="TARGETS")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    fixed, asked = read_sweep(arguments.fixed), read_sweep(arguments.asked)
    rows = compare(fixed, asked)
    for row in rows:
        both = zip(row["target_nats"], row["test_nats"], row["off"], strict=True)
        rates = "   ".join(f"{a:7.2f} -> {b:7.2f} ({off:+.1%})" for a, b, off in both)
        print(f"{rates}   {row['psnr_db']:.2f} dB, twin {row['gain_db']:+.2f} dB")
    print(f"greatest miss {max(np.abs([row['off'] for row in rows]).ravel()):.1%}")
    if arguments.json is not None:
        shared = {"data": fixed.data, "spec": fixed.spec, "epochs": fixed.recipe.epochs}
        write_json(arguments.json, {**shared, "rows": rows})


if __name__ == "__main__":
    main()
