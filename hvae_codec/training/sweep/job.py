"""Running the chunks of a sweep with an executor: on this machine or on a Ray cluster.

The state of a chunk is in the sweep's folder, which workers share. Where a worker is lost and its
chunk is run again, the chunk resumes after the last epoch that was finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from hvae_codec.data import ImageDataset, load_dataset
from hvae_codec.errors import ExecutorError, SweepError
from hvae_codec.training.sweep.chunk import pending_chunks, run_chunk
from hvae_codec.training.sweep.plan import read_plan
from hvae_codec.utils.executors.base import Executor

Progress = Callable[[int], object]
"""Called with the images seen since the last call, counted once for every model."""

REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class SweepJob:
    """What any worker needs to know of a sweep; small, and the same for all its chunks."""

    directory: Path
    root: Path | None = None
    device: str = "cpu"
    threads: int | None = None

    def data(self) -> tuple[ImageDataset, ImageDataset]:
        """The training and the test images.

        Raises:
            DatasetError: they are not on this machine.
        """
        name = read_plan(self.directory).recipe.dataset
        return load_dataset(name, "train", self.root), load_dataset(name, "test", self.root)

    def run(self, number: int, progress: Progress) -> list[str]:
        """Run one chunk; what diverged, a line a model."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        advance = _Throttled(progress)
        training, test = self.data()
        lines = run_chunk(
            self.directory, number, training, test, device=self.device, advance=advance
        )
        advance.flush()
        return lines


class _Throttled:
    """Sums what is reported, and passes it on no more often than every REPORT_SECONDS."""

    def __init__(self, report: Progress) -> None:
        self._report, self._sum, self._last = report, 0, time.monotonic()

    def __call__(self, images: int) -> None:
        self._sum += images
        if time.monotonic() - self._last > REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._report(self._sum)
        self._sum, self._last = 0, time.monotonic()


def run_sweep(work: SweepJob, executor: Executor, progress: Progress) -> list[str]:
    """Run all chunks that are not done; what diverged, a line a model.

    Raises:
        SweepError: a worker was lost; the epochs that chunks have finished are kept.
    """
    try:
        lines = executor.map_unordered(work.run, pending_chunks(work.directory), progress)
        return [line for of_chunk in lines for line in of_chunk]
    except ExecutorError as error:
        raise SweepError(f"{error}; run again to go on with {work.directory}") from error
