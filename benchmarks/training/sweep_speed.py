"""How much faster is a stack of M models than one model after the other?

    python -m benchmarks.training.sweep_speed [--device cuda] [--json FILE]

Both train in the same run, in processes of their own and in turns: `train` one model, `train_chunk`
M of them, by one recipe, on random images; timed from the end of the first epoch, so that what is
done once does not count. A figure is in model images a second: M models that see an image each
count M. The paper's grid is 441 models that see 50,000 images 500 times.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import environment, write_json
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
STEPS, EPOCHS, ROUNDS = {"cpu": 8, "cuda": 40}, 3, 2
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


def measure(device: str) -> list[dict[str, Any]]:
    """A row for each case and size of a stack."""
    rows = []
    for spec, batch, precision in CASES:
        taken: dict[int, list[float]] = {0: [], **{models: [] for models in STACKS[device]}}
        for _ in tqdm(range(ROUNDS), desc=f"{spec}, {batch}", leave=False, disable=None):
            for models, values in taken.items():
                only = [spec, str(batch), precision, str(models)]
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.training.sweep_speed",
                    "--device",
                    device,
                ]
                done = subprocess.run(
                    [*command, "--only", *only], stdout=subprocess.PIPE, text=True, check=True
                )
                values.append(float(done.stdout.split()[-1]))
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
            print(
                f"{spec:<14} batch {batch:>3} {precision} {models:>4} models "
                f"{speed:>10,.0f} model images/s, alone {alone:>9,.0f}: {row['ratio']:.2f}x, "
                f"the paper's grid in {row['papers_grid_hours']:,.0f} h"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs=4, help="spec, batch, precision, models: print one speed")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.only is not None:
        spec, batch, precision, models = arguments.only
        recipe = recipe_of(spec, int(batch), precision)
        if int(models) == 0:  # what is fastest for one model
            recipe = replace(recipe, channels_last=True)
        print(model_images_a_second(recipe, int(models), arguments.device))
        return
    rows = measure(arguments.device)
    if arguments.json is not None:
        result = {"environment": environment(), "device": arguments.device, "rows": rows}
        write_json(arguments.json, {**result, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
