"""How many images a second does training take in, beside the usual way of writing it?

    python -m benchmarks.training.throughput [--budget SECONDS] [--json FILE]

The usual way, as in the paper's published code: a data set that makes a PIL image of each item
and a tensor of that, a `DataLoader` as it comes, fp32 networks in contiguous memory,
`torch.distributions`, Adam as it comes, and four numbers of the loss read at every step. All other
rows are `hvae_codec.training.train` itself, from the uint8 array to the state it saves after each
epoch, with freed memory kept as the command line does. All train on the same images of CIFAR-10
in minibatches of 256; the first epoch of each is not counted.
"""

from __future__ import annotations

import os
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
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from benchmarks.command import Argument, Benchmark
from benchmarks.common import apart, in_turns
from benchmarks.tables import Result, Table
from benchmarks.training.step import SPEC, plain_model, plain_nats
from hvae_codec.data import ImageDataset, load_dataset
from hvae_codec.training import Recipe, train
from hvae_codec.utils.malloc import keep_freed_memory

BATCH = 256
IMAGES = 20 * BATCH
USUAL = "usual way, fp32"
RECIPE = Recipe(spec=SPEC, dataset="cifar10", betas=(1.0, 1.0), batch_size=BATCH, epochs=10_000)
OURS = {
    "train, Gaussian, fp32": replace(RECIPE, posterior="gaussian"),
    "train, Gaussian, bf16": replace(RECIPE, posterior="gaussian", precision="bf16"),
    "train, uniform, fp32": replace(RECIPE, posterior="uniform"),
    "train, uniform, bf16": replace(RECIPE, posterior="uniform", precision="bf16"),
}


class PicturesOneByOne(Dataset[tuple[Tensor, int]]):
    """Items (fp32 [C, H, W], label), each by way of a PIL image, as torchvision's CIFAR10."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.images = images
        self.labels = labels.tolist()
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class _EnoughError(Exception):
    """The budget is used up."""


class Clock:
    """Counts the seconds of every epoch but the first, up to a budget."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.begin: float | None = None
        self.epochs = 0

    def epoch_ends(self, _row: object = None) -> None:
        now = time.perf_counter()
        if self.begin is None:
            self.begin = now
            return
        self.epochs += 1
        self.seconds = now - self.begin
        if self.seconds >= self.budget:
            raise _EnoughError


def train_the_usual_way(data: ImageDataset, clock: Clock) -> None:
    """Eq. 8 with all betas one, until the clock stops it."""
    assert data.labels is not None
    torch.manual_seed(0)
    loader = DataLoader(PicturesOneByOne(data.images, data.labels), batch_size=BATCH, shuffle=True)
    model = plain_model()
    optimiser = torch.optim.Adam(model.parameters(), lr=RECIPE.learning_rate)
    while True:
        sums = [0.0] * 4
        for x, _ in loader:
            optimiser.zero_grad()
            distortion, rates = plain_nats(model, x)
            parts = [distortion.mean(), *(rate.mean() for rate in rates)]
            loss = torch.stack(parts).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            for index, value in enumerate((loss, *parts)):
                sums[index] += value.item()
        clock.epoch_ends()


def images_a_second(name: str, budget: float) -> float:
    """Mean over the epochs that the budget allows, in this process."""
    whole = load_dataset("cifar10", "train")
    labels = None if whole.labels is None else whole.labels[:IMAGES]
    data = ImageDataset(whole.images[:IMAGES], labels, whole.name, whole.split)
    clock = Clock(budget)
    try:
        if name == USUAL:
            train_the_usual_way(data, clock)
        else:
            keep_freed_memory()
            with tempfile.TemporaryDirectory() as folder:
                train(OURS[name], data, Path(folder), report=clock.epoch_ends)
    except _EnoughError:
        pass
    return clock.epochs * IMAGES / clock.seconds


def measure(arguments: Namespace) -> Result:
    """Medians of the rounds; a speed-up is the median of what each round says."""
    load_dataset("cifar10", "train")  # where there is none, this says so
    budget = arguments.budget
    work = {name: partial(apart, images_a_second, name, budget) for name in (USUAL, *OURS)}
    rows = []
    found = in_turns(work, arguments.rounds)
    for name, values in found.items():
        speedups = [ours / usual for ours, usual in zip(values, found[USUAL], strict=True)]
        row: Result = {"training": name, "images_per_second": statistics.median(values)}
        rows.append(row | {"speedup": statistics.median(speedups), "rounds": values})
    settings = {"spec": SPEC, "batch_size": BATCH, "images": IMAGES}
    settings |= {"threads": torch.get_num_threads(), "budget_seconds": budget}
    settings |= {"load_average": os.getloadavg()[1]}  # on a busy machine, gains are less
    return settings | {"rows": rows}


THROUGHPUT = Table(
    "throughput",
    "rows",
    {
        "training one GHVAE on CIFAR-10": "{training}",
        "images/s": "{images_per_second:,.0f}",
        "speed": "{speedup:.2f}x",
    },
    more={"rounds": lambda row: " ".join(f"{rate:,.0f}" for rate in row["rounds"])},
    result="training_throughput",
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (THROUGHPUT,),
    (
        Argument("--budget", type=float, default=4.0, help="seconds for each measurement"),
        Argument("--rounds", type=int, default=7, help="measurements of each"),
    ),
    packages=("torchvision",),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
