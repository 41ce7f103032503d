"""Does one model for all betas reach the losses of one model for each?

    python -m benchmarks.training.plane_losses SWEEP [--against SWEEP] [--json FILE]

SWEEP is the folder of `hvae-codec sweep --plane` after `hvae-codec evaluate`; what it is compared
with is a sweep of one model for each choice of betas, by default the committed one. The loss is
that of Eq. 8 on all test images, in nats, over that of an exact image.
"""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import Argument, Benchmark
from benchmarks.tables import Result, Table
from hvae_codec.errors import EvaluationError
from hvae_codec.models.likelihoods import LIKELIHOODS
from hvae_codec.models.zoo import get_spec
from hvae_codec.training.sweep.chunk import HISTORY_FILE
from hvae_codec.training.sweep.plan import chunk_directory

COMMITTED = Path(__file__).parents[1] / "results/sweeps/cifar10-ghvae"

Row = dict[str, Any]


def read_rows(folder: Path) -> dict[tuple[float, ...], Row]:
    """The rows of an evaluated sweep by their betas.

    Raises:
        EvaluationError: the folder has no rows.
    """
    path = folder / "evaluation.jsonl"
    if not path.exists():
        raise EvaluationError(f"{path} is not there: run hvae-codec evaluate {folder}")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {tuple(row["betas"]): row for row in rows}


def loss_nats(row: Row) -> float:
    """Distortion over that of an exact image, and rates times their betas."""
    spec = get_spec(row["spec"])
    least = LIKELIHOODS[spec.likelihood]().least_nats(math.prod(spec.image_shape))
    distortion = row["negative_elbo_nats"] - sum(row["rates_nats"]) - least
    return float(distortion + np.dot(row["betas"], row["rates_nats"]))


def compared(one: Row, each: Row) -> Row:
    """What the one model and the model of these betas alone have for losses, rates and accuracy."""
    losses = {"plane": loss_nats(one), "alone": loss_nats(each)}
    found = {
        "betas": one["betas"],
        **{f"{name}_loss_nats": round(value, 3) for name, value in losses.items()},
        "difference_percent": round(100.0 * (losses["plane"] / losses["alone"] - 1.0), 2),
    }
    for name, row in (("plane", one), ("alone", each)):
        found[f"{name}_rates_nats"] = [round(rate, 3) for rate in row["rates_nats"]]
        found[f"{name}_psnr_db"] = round(row["psnr_modes_db"], 3)
    return found


def core_seconds(folder: Path) -> float | None:
    """Processor time of the training of the one model; None where its history is not there."""
    path = chunk_directory(folder, 0) / HISTORY_FILE
    if not path.exists():
        return None
    history = next(iter(json.loads(path.read_text()).values()))
    return round(math.fsum(row["cpu_seconds"] for row in history), 1)


def measure(arguments: Namespace) -> Result:
    """A row for each choice of betas that both sweeps have."""
    plane, alone = read_rows(arguments.sweep), read_rows(arguments.against)
    rows = [compared(plane[betas], alone[betas]) for betas in plane if betas in alone]
    if not rows:
        raise EvaluationError(
            f"{arguments.sweep} and {arguments.against} have no choice of betas in common"
        )
    differences = [row["difference_percent"] for row in rows]
    epochs = [next(iter(one.values()))["epochs"] for one in (plane, alone)]
    return {
        "epochs": epochs[0],
        "epochs_alone": epochs[1],
        "models_alone": len(rows),
        "core_seconds": core_seconds(arguments.sweep),
        "mean_difference_percent": round(float(np.mean(differences)), 2),
        "worst_difference_percent": max(differences),
        "rows": rows,
    }


def rates(values: list[float]) -> str:
    """Rates in nats, top first."""
    return ", ".join(f"{value:.1f}" for value in values)


PLANE = Table(
    "plane",
    "rows",
    {
        "betas": lambda row: ", ".join(f"{beta:.3g}" for beta in row["betas"]),
        "rates": lambda row: rates(row["plane_rates_nats"]),
        "rates of its own model": lambda row: rates(row["alone_rates_nats"]),
        "PSNR dB": "{plane_psnr_db:.2f}",
        "its own": "{alone_psnr_db:.2f}",
        "loss, nats": "{plane_loss_nats:.1f}",
        "its own's": "{alone_loss_nats:.1f}",
        "difference": "{difference_percent:+.1f}%",
    },
    note="One model, {epochs} epochs; {models_alone} models of their own, {epochs_alone} epochs "
    "each. Mean difference of the loss {mean_difference_percent:+.1f}%, worst "
    "{worst_difference_percent:+.1f}%.",
    result="plane_losses",
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (PLANE,),
    (
        Argument("sweep", type=Path, metavar="SWEEP", help="folder of sweep --plane, evaluated"),
        Argument("--against", type=Path, default=COMMITTED, help="a sweep of a model each"),
    ),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
