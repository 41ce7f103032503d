"""How much faster is a stack of M models than one model after the other?

    python -m benchmarks.training.sweep_speed [--device cuda] [--json FILE]

Both train in the same run, in processes of their own and in turns: `train` one model, `train_chunk`
M of them, by one recipe, on random images; timed from the end of the first epoch, so that what is
done once does not count. A figure is in model images a second: M models that see an image each
count M. The paper's grid is 441 models that see 50,000 images 500 times.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.command import DEVICE, Argument, Benchmark
from benchmarks.common import apart, in_turns
from benchmarks.tables import Result, Table
from hvae_codec.data import ImageDataset
from hvae_codec.models import get_spec
from hvae_codec.training import Recipe, train
from hvae_codec.training.sweep.plan import SweepModel, SweepPlan
from hvae_codec.training.sweep.stacked_trainer import train_chunk
from hvae_codec.utils.malloc import keep_freed_memory

CASES = (
    ("ghvae-32x32x3", 32, "bf16"),
    ("ghvae-32x32x3", 256, "bf16"),
    ("ghvae-28x28x1", 32, "fp32"),
    ("ghvae-28x28x1", 256, "fp32"),
)
STACKS = {"cpu": (16,), "cuda": (16, 64, 147, 441)}
STEPS, EPOCHS = {"cpu": 8, "cuda": 40}, 3
PAPER_MODEL_IMAGES = 441 * 500 * 50_000


def recipe_of(spec: str, batch: int, precision: str) -> Recipe:
    """The recipe of a case; a stack in fp32 has contiguous memory, as is fastest there."""
    half = precision == "bf16"
    return Recipe(
        spec=spec,
        dataset="random",
        betas=(1.0, 1.0),
        posterior="gaussian",
        epochs=EPOCHS,
        batch_size=batch,
        precision="bf16" if half else "fp32",
        channels_last=half,
    )


def model_images_a_second(recipe: Recipe, models: int, device: str) -> float:
    """Of one process; `models` 0 is `train`, else a stack of so many."""
    keep_freed_memory()
    if models == 0:  # what is fastest for one model
        recipe = replace(recipe, channels_last=True)
    channels, height, width = get_spec(recipe.spec).image_shape
    count = STEPS[device] * recipe.batch_size
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    dataset = ImageDataset(images, None, "random", "train")
    ends: list[float] = []

    def note() -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        if models == 0:
            train(recipe, dataset, Path(folder), device=device, report=lambda row: note())
            return count * (EPOCHS - 1) / (ends[-1] - ends[0])
        plan = SweepPlan(recipe, (SweepModel(recipe.betas),) * models, models, "speed", {})
        seen = 0

        def advance(number: int) -> None:
            nonlocal seen
            seen += number
            if seen % (count * models) == 0 and seen:
                note()

        train_chunk(plan, range(models), dataset, Path(folder), device=device, advance=advance)
    return count * models * (EPOCHS - 1) / (ends[-1] - ends[0])


def measure(arguments: Namespace) -> Result:
    """A row for each case and size of a stack."""
    device = arguments.device
    rows = []
    for spec, batch, precision in CASES:
        recipe = recipe_of(spec, batch, precision)
        work = {
            models: partial(apart, model_images_a_second, recipe, models, device)
            for models in (0, *STACKS[device])
        }
        taken = in_turns(work, arguments.rounds, f"{spec}, batch {batch}")
        alone = statistics.median(taken.pop(0))
        for models, values in taken.items():
            speed = statistics.median(values)
            row = {
                "spec": spec,
                "batch": batch,
                "precision": precision,
                "models": models,
                "alone_images_a_second": alone,
                "model_images_a_second": speed,
                "ratio": speed / alone,
                "papers_grid_hours": PAPER_MODEL_IMAGES / speed / 3600,
            }
            rows.append(row)
    return {"device": device, "rows": rows, "threads": torch.get_num_threads()}


STACKS_TABLE = Table(
    "stacks",
    "rows",
    {
        "spec": "{spec}",
        "batch": "{batch}",
        "models a stack": "{models}",
        "model images/s": "{model_images_a_second:,.0f}",
        "one after the other": "{ratio:.2f}x",
    },
    more={"precision": "{precision}", "the paper's grid, hours": "{papers_grid_hours:,.0f}"},
    result="sweep_speed",
)
ROUNDS = Argument("--rounds", type=int, default=2, help="measurements of each")
BENCHMARK = Benchmark(__doc__, measure, (STACKS_TABLE,), (DEVICE, ROUNDS))

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
