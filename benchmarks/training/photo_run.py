"""How far is a run of training, against steps and processor time? Its history as a curve.

    python -m benchmarks.training.photo_run RUN [--json benchmarks/results/photo_run.json]

RUN is the folder of `hvae-codec train --out`. The loss is the mean of distortion and rates over an
epoch's minibatches, at random qualities, in bits per pixel; the PSNR is that of their mean error.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks.command import Argument, Benchmark
from benchmarks.common import figure
from benchmarks.tables import Result, Table
from hvae_codec.models.zoo import any_spec
from hvae_codec.training.recipe import Recipe
from hvae_codec.training.run_state import load_history, load_recipe


def curve(recipe: Recipe, history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Steps, processor hours, loss in bits per pixel and PSNR in dB after each epoch."""
    height, width = any_spec(recipe.spec).image_shape[1:]
    bits = 1.0 / (math.log(2.0) * height * width)
    per_epoch = (recipe.crops or 0) // recipe.batch_size
    rows, seconds = [], 0.0
    for row in history:
        seconds += row["cpu_seconds"]
        loss = bits * (row["distortion_nats"] + sum(row["rates_nats"]))
        rows.append(
            {
                "steps": row["epoch"] * per_epoch,
                "core_hours": round(seconds / 3600.0, 4),
                "loss_bits_per_pixel": round(loss, 4),
                "bits_per_pixel": round(bits * sum(row["rates_nats"]), 4),
                "psnr_db": round(row["psnr_db"], 3),
            }
        )
    return rows


def measure(arguments: Namespace) -> Result:
    """The curve of a run, and its recipe."""
    recipe = load_recipe(arguments.run)
    return {"recipe": recipe.to_json(), "rows": curve(recipe, load_history(arguments.run))}


def draw(result: Result, path: Path) -> None:
    """The loss against steps and against core-hours."""
    rows = result["rows"]
    losses = [row["loss_bits_per_pixel"] for row in rows]
    with figure(path, 1, 2, figsize=(9, 4), sharey=True, dpi=100) as (_, axes):
        for axis, key in zip(axes, ("steps", "core_hours"), strict=True):
            axis.plot([row[key] for row in rows], losses, "o-")
            axis.set(xlabel=key.replace("_", "-"), xlim=(0, None))
            axis.grid(alpha=0.3)
        # The first epochs lie far above all others.
        top = losses[2] + 0.3 if len(losses) > 4 else losses[0]
        axes[0].set(ylabel="training loss (bits per pixel)", ylim=(min(losses) - 0.3, top))


CURVE = Table(
    "curve",
    "rows",
    {
        "steps": "{steps}",
        "core-hours": "{core_hours:.3f}",
        "loss": "{loss_bits_per_pixel:.3f}",
        "bits/px": "{bits_per_pixel:.3f}",
        "PSNR dB": "{psnr_db:.2f}",
    },
)
RUN = Argument("run", type=Path, help="folder of a run")
BENCHMARK = Benchmark(__doc__, measure, (CURVE,), (RUN,), draw=draw)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
