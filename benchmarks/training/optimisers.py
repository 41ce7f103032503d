"""Which optimiser, at which learning rate, learns most of the paper's models in equal time?

    python -m benchmarks.training.optimisers [--data cifar10 ...] [--betas 0.1,0.1 ...]
        [--batch-size 32 ...] [--optimiser muon ...] [--learning-rate 2e-3 ...]
        [--posterior gaussian] [--core-seconds 60] [--seed 0] [--json FILE]

A run for each combination: the GHVAE of the data set, on one thread, for the steps that fill the
core-seconds by its own time per step, with the learning rate falling to zero along a half cosine.
Then the loss of Eq. 8 is measured on test images, in nats over that of an exact image. Rows are
written to the JSON file as they come, and rows that it already has are not measured again.
"""

from __future__ import annotations

import itertools
import math
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import torch

from benchmarks.command import Argument, Benchmark
from benchmarks.tables import Result, Table
from benchmarks.training.equal_time import (
    Training,
    rows_measured,
    seconds_per_step,
    trained_for,
)
from hvae_codec.data import ImageDataset, load_dataset
from hvae_codec.errors import DivergenceError
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.training import Recipe
from hvae_codec.training.optimisers.optimiser import OPTIMISERS

SPECS = {"cifar10": "ghvae-32x32x3", "mnist": "ghvae-28x28x1"}
TEST_IMAGES = 2000
STEP_KEYS = ("data", "posterior", "batch_size", "optimiser")
"""What the time of a step depends on: runs of one command that share these take as many steps."""

images_of = cache(load_dataset)
"""A data set and split, loaded once."""


def training_of(key: Mapping[str, Any], steps: int) -> Training:
    """The run of a row for so many steps, as whole epochs of equal length."""
    images: ImageDataset = images_of(key["data"], "train")
    epochs = math.ceil(steps * key["batch_size"] / len(images))
    recipe = Recipe(
        spec=SPECS[key["data"]],
        dataset=key["data"],
        betas=tuple(key["betas"]),
        posterior=key["posterior"],
        epochs=epochs,
        images=steps // epochs * key["batch_size"],
        batch_size=key["batch_size"],
        optimiser=key["optimiser"],
        learning_rate=key["learning_rate"],
        seed=key["seed"],
    )
    return recipe, images


@torch.inference_mode()
def loss_of(model: HierarchicalVAE, betas: list[float], images: ImageDataset) -> dict[str, Any]:
    """Loss over that of an exact image, and rates, in nats per image."""
    x = model.likelihood.pixels(torch.from_numpy(images.images[:TEST_IMAGES]).permute(0, 3, 1, 2))
    outcome = model(x, seed=5)
    rates = outcome.rates_nats.mean(0)
    distortion = outcome.distortion_nats.mean() - model.likelihood.least_nats(x[0].numel())
    loss = distortion + (rates * torch.tensor(betas)).sum()
    return {"loss_nats": round(loss.item(), 3), "rates_nats": [round(r, 3) for r in rates.tolist()]}


@cache
def step_seconds(*values: Any) -> float:
    """Core-seconds per step of all runs that have these values of STEP_KEYS."""
    setting = {"betas": [1.0, 1.0], "learning_rate": 1e-4, "seed": 0}
    setting |= zip(STEP_KEYS, values, strict=True)
    return seconds_per_step(partial(training_of, setting))


def run(key: Mapping[str, Any]) -> dict[str, Any]:
    """Train for the row's core-seconds, and measure; a run that diverges has no loss."""
    try:
        per_step = step_seconds(*(key[name] for name in STEP_KEYS))
        runs = partial(training_of, key)
        model, spent = trained_for(key["core_seconds"], per_step, runs)
    except DivergenceError as error:
        return {"steps": None, "cpu_seconds": None, "loss_nats": None, "diverged": str(error)}
    assert isinstance(model, HierarchicalVAE)
    return {**spent, **loss_of(model, key["betas"], images_of(key["data"], "test"))}


def measure(arguments: Namespace) -> Result:
    """Combinations that have no row yet."""
    names = ("data", "betas", "batch_size", "optimiser", "learning_rate")
    combinations = itertools.product(*(getattr(arguments, name) for name in names))
    shared = {name: getattr(arguments, name) for name in ("posterior", "core_seconds", "seed")}
    keys = [{**dict(zip(names, chosen, strict=True)), **shared} for chosen in combinations]
    return rows_measured(arguments.json, keys, run, {"test_images": TEST_IMAGES})


def pair(text: str) -> list[float]:
    """beta_2,beta_1, for `argparse`."""
    try:
        above, below = map(float, text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: need beta_2,beta_1, such as 0.1,0.1") from None
    return [above, below]


def of_optimisers(result: Result) -> list[Result]:
    """The rows of each optimiser in each setting as one, of the least loss first."""
    names = ("data", "posterior", "betas", "batch_size", "core_seconds", "seed", "optimiser")

    def of_row(row: Result) -> str:
        return str([row[name] for name in names])

    groups = []
    for _, some in itertools.groupby(sorted(result["rows"], key=of_row), of_row):
        runs = {run["learning_rate"]: run for run in some}
        losses = [run["loss_nats"] for run in runs.values() if run["loss_nats"] is not None]
        best = min(losses, default=math.inf)
        groups.append({**next(iter(runs.values())), "runs": runs, "best": best})
    return sorted(groups, key=lambda group: (str([group[n] for n in names[:-1]]), group["best"]))


def columns(result: Result) -> dict[str, Any]:
    """The setting, and the loss at each learning rate."""

    def cell(rate: float) -> Any:
        def of_group(group: Result) -> str:
            run = group["runs"].get(rate)
            if run is None:
                return ""
            if run["loss_nats"] is None:
                return "diverged"
            return f"{run['loss_nats']:.1f} in {run['steps']:,} steps"

        return of_group

    rates = sorted({row["learning_rate"] for row in result["rows"]})
    return {
        "data": "{data}",
        "betas": lambda group: ", ".join(f"{beta:g}" for beta in group["betas"]),
        "minibatch": "{batch_size}",
        "core-seconds": "{core_seconds:.0f}",
        "optimiser": "{optimiser}",
        **{f"loss at {rate:g}": cell(rate) for rate in rates},
    }


OPTIMISER_LOSSES = Table("optimisers", of_optimisers, columns)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (OPTIMISER_LOSSES,),
    (
        Argument("--data", nargs="+", choices=SPECS, default=list(SPECS)),
        Argument("--betas", nargs="+", type=pair, default=[[0.1, 0.1], [1.0, 1.0]]),
        Argument("--batch-size", nargs="+", type=int, default=[32, 128]),
        Argument("--optimiser", nargs="+", choices=OPTIMISERS, default=list(OPTIMISERS)),
        Argument("--learning-rate", nargs="+", type=float, default=[1e-3, 2e-3, 4e-3]),
        Argument("--posterior", choices=("gaussian", "uniform"), default="gaussian"),
        Argument("--core-seconds", type=float, default=60.0),
        Argument("--seed", type=int, default=0),
    ),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
