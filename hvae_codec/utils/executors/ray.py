"""Jobs as tasks of a Ray cluster. Ray is optional."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from typing import Any, Self

from hvae_codec.errors import ExecutorError, MissingDependencyError
from hvae_codec.utils.executors.base import Executor, Report, Result

UNLIMITED = -1
"""Of `retries`."""

LEAST_CAPACITY = 32
"""A cluster that grows on demand has few CPUs until jobs wait for them."""


class RayExecutor(Executor):
    """Tasks on the cluster that RAY_ADDRESS names, or, without it, on one that is started here and
    ended afterwards.

    Args:
        cpus, gpus: what a job takes.
        retries: lost workers that a job survives: Ray runs it again elsewhere.

    Raises:
        MissingDependencyError: Ray is not installed.
    """

    def __init__(self, *, cpus: int = 1, gpus: int = 0, retries: int = UNLIMITED) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "--engine ray needs Ray: pip install 'hvae-codec[ray]'"
            ) from error
        self._ray: Any = ray
        self._cpus = cpus
        self._run = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=retries)(_run)
        self._running: dict[Future[Any], Any] = {}
        self._started = False

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            # Workers of Ray give way to all other programs, and beside busy ones never get on; the
            # local engine does not. (Ray's name has small letters.)
            os.environ.setdefault("RAY_worker_niceness", "0")
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            self._ray.init(
                log_to_driver=False, include_dashboard=None, logging_level=logging.WARNING
            )
            self._started = True
        fitting = int(self._ray.cluster_resources().get("CPU", 1.0) // self._cpus)
        self.capacity = max(LEAST_CAPACITY, fitting)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        for reference in list(self._running.values()):
            self._ray.cancel(reference, force=True)
        if self._started:
            self._ray.shutdown()

    def _submit(self, job: Callable[..., Result], *arguments: Any) -> Future[Result]:
        reference = self._run.remote(job, *arguments)
        future: Future[Result] = reference.future()
        self._running[future] = reference
        future.add_done_callback(lambda done: self._running.pop(done, None))
        return future

    @cached_property
    def _reports(self) -> Any:
        actor = self._ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Reports)
        return actor.remote()

    @property
    def _report(self) -> Report:
        return _Reporter(self._reports)

    def _reported(self) -> list[Any]:
        taken: list[Any] = self._ray.get(self._reports.take.remote())
        return taken

    def _failure(self, error: Exception) -> Exception:
        if not isinstance(error, self._ray.exceptions.RayError):
            return error
        cause = getattr(error, "cause", None)
        if isinstance(cause, ValueError | OSError):  # what the job would have raised here
            return cause
        lines = str(error).strip().splitlines()
        of_job = isinstance(error, self._ray.exceptions.RayTaskError)  # ends with what was raised
        return ExecutorError(f"Ray gave up: {lines[-1 if of_job else 0]}")


class _Reports:
    """An actor that holds what jobs report until it is taken."""

    def __init__(self) -> None:
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        self._values.append(value)

    def take(self) -> list[Any]:
        taken, self._values = self._values, []
        return taken


# What follows runs on workers.


class _Reporter:
    def __init__(self, reports: Any) -> None:
        self._reports = reports

    def __call__(self, value: Any) -> None:
        self._reports.add.remote(value)


def _run(job: Callable[..., Result], *arguments: Any) -> Result:
    return job(*arguments)
