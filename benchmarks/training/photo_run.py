"""How far is a run of training, against steps and processor time? Its history as a curve.

    python -m benchmarks.training.photo_run RUN [--json benchmarks/results/photo_run.json]

RUN is the folder of `hvae-codec train --out`. The loss is the mean of distortion and rates over an
epoch's minibatches, at random qualities, in bits per pixel; the PSNR is that of their mean error.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.common import environment, write_json
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


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """The loss against steps and against core-hours."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, constrained_layout=True)
    for axis, key in zip(axes, ("steps", "core_hours"), strict=True):
        axis.plot([row[key] for row in rows], [row["loss_bits_per_pixel"] for row in rows], "o-")
        axis.set(xlabel=key.replace("_", "-"), xlim=(0, None))
        axis.grid(alpha=0.3)
    losses = [row["loss_bits_per_pixel"] for row in rows]
    # The first epochs lie far above all others.
    axes[0].set(ylabel="training loss (bits per pixel)", ylim=(min(losses) - 0.3, losses[0]))
    if len(losses) > 4:
        axes[0].set_ylim(top=losses[2] + 0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Print the curve, and write JSON and a plot if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--json", type=Path, help="write the result here, a plot beside it")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.run)
    rows = curve(recipe, load_history(arguments.run))
    print(f"{'steps':>8} {'core-hours':>11} {'loss':>8} {'bits/px':>8} {'PSNR':>7}")
    for row in rows:
        print(
            f"{row['steps']:>8} {row['core_hours']:>11.3f} {row['loss_bits_per_pixel']:>8.3f} "
            f"{row['bits_per_pixel']:>8.3f} {row['psnr_db']:>7.2f}"
        )
    if arguments.json is not None:
        result = {"recipe": recipe.to_json(), "rows": rows, "environment": environment()}
        write_json(arguments.json, result)
        plot(rows, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
