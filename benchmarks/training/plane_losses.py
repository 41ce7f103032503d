"""Does one model for all betas reach the losses of one model for each?

    python -m benchmarks.training.plane_losses SWEEP [--against SWEEP] [--json FILE]

SWEEP is the folder of `hvae-codec sweep --plane` after `hvae-codec evaluate`; what it is compared
with is a sweep of one model for each choice of betas, by default the committed one. The loss is
that of Eq. 8 on all test images, in nats, over that of an exact image. Where both were evaluated
with classifiers on the means of the latents, their accuracies by the paper's protocol are compared.
"""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from functools import partial
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

CLASSIFIERS = {
    "z2_logistic_regression": "log. reg. on μ₂",
    "z2_rbf_svm": "RBF SVM on μ₂",
    "z1_logistic_regression": "log. reg. on μ₁",
    "z1_rbf_svm": "RBF SVM on μ₁",
}
"""Layer and classifier, and what a table calls them."""

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
    return {**found, **compared_accuracies(one, each)}


def compared_accuracies(one: Row, each: Row) -> Row:
    """Accuracies in percent; none where one of both was evaluated without classifiers."""
    if not (one.get("accuracy") and each.get("accuracy")):
        return {}
    return {
        f"{name}_accuracy_percent": {key: _percent(row, key) for key in CLASSIFIERS}
        for name, row in (("plane", one), ("alone", each))
    }


def _percent(row: Row, key: str) -> float:
    layer, _, classifier = key.partition("_")
    return round(100.0 * float(row["accuracy"]["paper"][layer][classifier]), 2)


def with_features(result: Result) -> list[Row]:
    """The rows that hold accuracies."""
    return [row for row in result["rows"] if "plane_accuracy_percent" in row]


def best_accuracies(rows: list[Row]) -> Row:
    """The best accuracy of each classifier over all choices of betas, and the mean difference."""
    found = {}
    for key in CLASSIFIERS:
        plane, alone = (
            np.array([row[f"{name}_accuracy_percent"][key] for row in rows])
            for name in ("plane", "alone")
        )
        found[key] = {
            "best_plane": float(plane.max()),
            "best_alone": float(alone.max()),
            "mean_difference_points": round(float((plane - alone).mean()), 2),
        }
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
    features = with_features({"rows": rows})
    return {
        "epochs": epochs[0],
        "epochs_alone": epochs[1],
        "models_alone": len(rows),
        "core_seconds": core_seconds(arguments.sweep),
        "mean_difference_percent": round(float(np.mean(differences)), 2),
        "worst_difference_percent": max(differences),
        **({"accuracies": best_accuracies(features)} if features else {}),
        "rows": rows,
    }


def rates(values: list[float]) -> str:
    """Rates in nats, top first."""
    return ", ".join(f"{value:.1f}" for value in values)


def betas_of(row: Row) -> str:
    """Betas, top first."""
    return ", ".join(f"{beta:.3g}" for beta in row["betas"])


def accuracies_of(row: Row, *, key: str) -> str:
    """Accuracies of both models, in percent."""
    plane, alone = row["plane_accuracy_percent"][key], row["alone_accuracy_percent"][key]
    return f"{plane:.1f} (its own {alone:.1f})"


def features_note(result: Result) -> str:
    """Best accuracies and mean differences."""
    told = [
        f"{title} {found['best_plane']:.1f} % (models of their own {found['best_alone']:.1f} %, "
        f"mean difference {found['mean_difference_points']:+.1f} points)"
        for title, found in zip(CLASSIFIERS.values(), result["accuracies"].values(), strict=True)
    ]
    count = len(with_features(result))
    return (
        f"Percent of test images that are right, the paper's protocol, {count} choices of betas. "
        f"Best: {'; '.join(told)}."
    )


PLANE = Table(
    "plane",
    "rows",
    {
        "betas": betas_of,
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
FEATURES = Table(
    "plane_features",
    with_features,
    {
        "betas": betas_of,
        **{title: partial(accuracies_of, key=key) for key, title in CLASSIFIERS.items()},
    },
    note=features_note,
    result="plane_losses",
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (PLANE, FEATURES),
    (
        Argument("sweep", type=Path, metavar="SWEEP", help="folder of sweep --plane, evaluated"),
        Argument("--against", type=Path, default=COMMITTED, help="a sweep of a model each"),
    ),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
