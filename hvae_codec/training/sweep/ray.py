"""Running the chunks of a sweep on a Ray cluster whose machines share the sweep's folder.

A chunk is one task. Where a worker or its machine dies, Ray runs the task again elsewhere, and the
chunk goes on after the last epoch that it had finished, since its state is in the shared folder.
"""

from __future__ import annotations

from typing import Any

from hvae_codec.errors import MissingDependencyError, SweepError
from hvae_codec.training.sweep.chunk import pending_chunks
from hvae_codec.training.sweep.local import Progress, SweepJob

RETRIES = 5
"""How many deaths of its worker a chunk survives."""

POLL_SECONDS = 1.0


class _Counter:
    """An actor that adds up what all workers have done."""

    def __init__(self) -> None:
        self._images = 0

    def add(self, images: int) -> None:
        self._images += images

    def take(self) -> int:
        taken, self._images = self._images, 0
        return taken


def run_on_ray(work: SweepJob, progress: Progress) -> list[str]:
    """Run all chunks that are not done on the cluster that RAY_ADDRESS names, or, without it, on
    one that is started here and ended afterwards; what diverged, a line a model.

    A task takes one GPU where `work.device` is CUDA, else `work.threads` CPUs (one if not given).

    Raises:
        MissingDependencyError: Ray is not installed.
        SweepError: a chunk's workers died more than RETRIES times.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "--engine ray needs Ray: pip install 'hvae-codec[ray]'"
        ) from error
    numbers = pending_chunks(work.directory)
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=None)
    try:
        return _run(ray, work, numbers, progress)
    except (ray.exceptions.RayTaskError, ray.exceptions.RayError) as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, ValueError | OSError):  # what running it here would have raised
            raise cause from error
        raise SweepError(
            f"Ray gave up: {str(error).splitlines()[0]}; run again to go on with {work.directory}"
        ) from error
    finally:
        if started:
            ray.shutdown()


def _run(ray: Any, work: SweepJob, numbers: list[int], progress: Progress) -> list[str]:
    on_gpu = work.device.startswith("cuda")
    resources = {"num_gpus": 1} if on_gpu else {"num_cpus": work.threads or 1}
    counter = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Counter).remote()
    run = ray.remote(max_retries=RETRIES, **resources)(_run_chunk)
    waiting = [run.remote(work, number, counter) for number in numbers]
    lines: list[str] = []
    try:
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=POLL_SECONDS)
            lines += [line for done in ready for line in ray.get(done)]
            progress(ray.get(counter.take.remote()))
    finally:
        for task in waiting:
            ray.cancel(task, force=True)
    return lines


def _run_chunk(work: SweepJob, number: int, counter: Any) -> list[str]:
    return work.run(number, counter.add.remote)
