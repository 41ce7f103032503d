"""Running the chunks of a sweep on this machine, one after the other or some at a time."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import torch

from hvae_codec.data import ImageDataset, load_dataset
from hvae_codec.errors import SweepError
from hvae_codec.training.sweep.chunk import pending_chunks, run_chunk
from hvae_codec.training.sweep.plan import read_plan
from hvae_codec.utils.malloc import keep_freed_memory

Progress = Callable[[int], None]
"""Called with the images seen since the last call, counted once for every model."""

REPORT_SECONDS = 0.5
_LOOK_SECONDS = 0.1
_LISTENER_SECONDS = 2.0


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


def run_locally(work: SweepJob, workers: int, progress: Progress) -> list[str]:
    """Run all chunks that are not done, `workers` at a time; what diverged, a line a model.

    Raises:
        SweepError: a worker was killed; what the others finish in this epoch is kept.
    """
    numbers = pending_chunks(work.directory)
    if workers == 1 or len(numbers) <= 1:
        return [line for number in numbers for line in work.run(number, progress)]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    finished, ended = False, threading.Event()
    listener = threading.Thread(target=_listen, args=(queue, progress, ended), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, context, _begin_worker, (queue, os.getpid()))
    try:
        futures = [pool.submit(_run_in_worker, work, number) for number in numbers]
        lines = [line for future in as_completed(futures) for line in future.result()]
        finished = True
        return lines
    except BrokenProcessPool:
        raise SweepError(
            f"a worker was killed, perhaps for lack of memory; run again to go on with "
            f"{work.directory}"
        ) from None
    finally:
        if not finished:
            # Workers whose result nobody awaits any more end with their epoch unfinished.
            for process in list((pool._processes or {}).values()):
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        ended.set()
        # One that was ended in the middle of a report leaves the queue locked and half a report in
        # it: nothing can be put there any more, and reading the rest would take for ever.
        listener.join(_LISTENER_SECONDS)


_queue: Any = None


def _begin_worker(queue: Any, parent: int) -> None:
    global _queue
    _queue = queue
    keep_freed_memory()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has: nobody would stop it otherwise."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _run_in_worker(work: SweepJob, number: int) -> list[str]:
    return work.run(number, _queue.put)


def _listen(queue: Any, progress: Progress, ended: threading.Event) -> None:
    """Pass on what workers report, until all have ended and nothing is left."""
    while True:
        try:
            progress(queue.get(timeout=_LOOK_SECONDS))
        except Empty:
            if ended.is_set():
                return
