"""Jobs in processes of this machine, or, one at a time, in this process."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection, parent_process
from multiprocessing.queues import SimpleQueue
from typing import Any

from hvae_codec.errors import ExecutorError
from hvae_codec.utils.executors.base import Executor, Item, Report, Result
from hvae_codec.utils.malloc import keep_freed_memory

MOST_REPORTS = 10_000
"""Reports read at a time: jobs that report without end do not keep results waiting."""


class LocalExecutor(Executor):
    """Up to `workers` jobs at a time, each in a process, which ends with the one that started it.

    `map_unordered` runs jobs in this process where there would be one at a time.
    """

    def __init__(self, workers: int) -> None:
        self.capacity = workers
        context = multiprocessing.get_context("spawn")
        # A report is written by the time that `put` returns: it precedes the result of its job.
        self._queue: SimpleQueue[Any] = context.SimpleQueue()
        self._pool = ProcessPoolExecutor(max(1, workers), context, _begin, (self._queue,))
        self._unwatched = False

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if error is not None:  # nobody awaits the results of jobs that still run
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(cancel_futures=True)
        self._queue.close()

    def map_unordered(
        self, job: Callable[[Item, Report], Result], items: Sequence[Item], progress: Report
    ) -> Iterator[Result]:
        """As `Executor.map_unordered`."""
        if min(self.capacity, len(items)) > 1:
            return super().map_unordered(job, items, progress)
        return (job(item, progress) for item in items)

    def _submit(self, job: Callable[..., Result], *arguments: Any) -> Future[Result]:
        self._unwatched = True
        try:
            return self._pool.submit(job, *arguments)
        except BrokenProcessPool as error:  # known before a result of the pool was asked for
            raise self._failure(error) from error

    @property
    def _report(self) -> Report:
        return _put

    def _reported(self) -> Iterator[Any]:
        if self._unwatched:
            # A pool sees the death of the process that `submit` started from the next call on.
            self._unwatched = False
            with suppress(BrokenProcessPool):  # the jobs' own results say so
                self._pool.submit(_nothing)
        for _ in range(MOST_REPORTS):
            if self._queue.empty():
                return
            yield self._queue.get()

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, BrokenProcessPool):
            return ExecutorError("a worker was killed, perhaps for lack of memory")
        return error


# What follows runs in the processes.

_queue: SimpleQueue[Any]


def _begin(queue: SimpleQueue[Any]) -> None:
    global _queue
    _queue = queue
    keep_freed_memory()
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when its parent has ended: nothing else would."""
    connection.wait([sentinel])
    os._exit(1)


def _nothing() -> None:
    return


def _put(value: Any) -> None:
    _queue.put(value)
