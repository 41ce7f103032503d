"""Jobs on workers: what a sweep, an evaluation and a packing need of an engine, and no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Report = Callable[[Any], object]
"""Called by a job with a value, such as a count of images."""

POLL_SECONDS = 0.5


class Executor(ABC):
    """Runs picklable jobs on workers; a context manager, which cancels what is left at its end.

    An error of a job is raised as it would be in this process. Where a worker is lost, as often as
    the executor allows, ExecutorError is raised.
    """

    capacity: int
    """Jobs that run at a time."""

    def map_unordered(
        self, job: Callable[[Item, Report], Result], items: Sequence[Item], progress: Report
    ) -> Iterator[Result]:
        """Results of `job(item, report)`, as they come; all items are submitted at once.

        Args:
            job: picklable; what it passes to `report` is passed to `progress` in this process.
            items: picklable.
            progress: called in this thread.

        Raises:
            ExecutorError: a worker was lost. Otherwise what a job raises.
        """
        waiting = {self._submit(job, item, self._report) for item in items}
        done: set[Future[Result]] = set()
        while waiting or done:
            for value in self._reported():
                progress(value)
            for future in done:
                yield self._result(future)
            done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)

    def map_ordered(self, job: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results of `job(item)` in the order of the items.

        Items are read as workers take them: per worker, two are submitted or wait as results.

        Raises:
            ExecutorError: a worker was lost. Otherwise what a job raises.
        """
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._submit(job, item))
            if len(waiting) >= 2 * self.capacity:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, kind: object, error: object, traceback: object) -> None: ...

    @abstractmethod
    def _submit(self, job: Callable[..., Result], *arguments: Any) -> Future[Result]: ...

    @property
    @abstractmethod
    def _report(self) -> Report:
        """Picklable; for jobs to call on workers."""

    @abstractmethod
    def _reported(self) -> Iterable[Any]:
        """What jobs have reported since the last call."""

    @abstractmethod
    def _failure(self, error: Exception) -> Exception:
        """What to raise for what a job's future raised: the job's own error or ExecutorError."""

    def _result(self, future: Future[Result]) -> Result:
        try:
            return future.result()
        except Exception as error:
            failure = self._failure(error)
            if failure is error:
                raise
            raise failure from error
