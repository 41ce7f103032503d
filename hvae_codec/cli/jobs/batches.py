"""Many files through the networks at once, a bad one among them failing alone."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hvae_codec.cli.common import describe, print_error
from hvae_codec.cli.jobs.files import Job, State, state_of
from hvae_codec.errors import HvaeCodecError

if TYPE_CHECKING:
    from hvae_codec.utils.progress import Bar

MAX_FILES = 256
"""Most files in a batch."""

MAX_PIXELS = 16_000_000
"""Pixels of images at work at a time; bounds memory to a few times the largest one."""

BATCH_PIXELS = 1 << 18
"""Pixels from which a batch takes no more files where batches are converted beside each other."""

Row = dict[str, Any]
"""What is reported of one file; has the key "error" if it failed."""

Value = TypeVar("Value")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Item(Generic[Value]):
    """The content of one file; items of one `group` can be converted together."""

    group: Hashable
    value: Value
    pixels: int


def run_in_batches(
    jobs: Sequence[Job],
    label: str,
    *,
    read: Callable[[Path], Item[Value]],
    convert: Callable[[Any, list[Value]], Iterable[Result]],
    finish: Callable[[Job, Result], Row],
) -> list[Row]:
    """Read every file, convert many at once, finish each; one row a file, in order.

    `convert` takes a group and the values of some of its items. What fails with a HvaeCodecError or
    OSError is reported on standard error, and the other files are still done.

    Batches are converted and finished beside each other, one on each core that torch may use, but
    for images of MAX_PIXELS or more, which take all cores one after the other.
    """
    with progress_of(jobs, label) as bar, _threads(len(jobs)) as pool:
        run = _Run(jobs, convert, finish, bar, pool)
        for index, job in enumerate(jobs):
            run.begin(index)
            try:
                item = read(job.source)
            except (HvaeCodecError, OSError) as error:
                run.fail(index, error)
            else:
                run.add(index, item)
        run.flush_all()
    return run.in_order()


@contextmanager
def _threads(files: int) -> Iterator[ThreadPoolExecutor | None]:
    """A thread for each core, computing on that core alone; None where one core or file is all."""
    if files < 2:
        yield None
        return
    import torch

    cores = torch.get_num_threads()
    if cores < 2:
        yield None
        return
    # The number that a thread sets holds for itself, and for threads that begin to compute later.
    pool = ThreadPoolExecutor(cores, "batches", torch.set_num_threads, (1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)


def progress_of(jobs: Sequence[Job], label: str) -> Bar:
    """Files a second and the time left, of more than one file."""
    from hvae_codec.utils.progress import progress

    return progress(label, total=len(jobs), unit="files", shown=len(jobs) > 1)


def failures(rows: Iterable[Row]) -> int:
    """How many of the files failed."""
    return sum("error" in row for row in rows)


def with_skipped(every: Sequence[Job], jobs: Sequence[Job], rows: Iterable[Row]) -> list[Row]:
    """A row for every job, in order: `rows` of `jobs`, and of the others that they were skipped."""
    done, found = set(jobs), iter(rows)
    return [next(found) if job in done else _skipped(job) for job in every]


def _skipped(job: Job) -> Row:
    return {"input": str(job.source), "output": str(job.target), "skipped": True}


class Rows(Generic[Result]):
    """What is reported of each file, in whatever order they come to their ends."""

    def __init__(self, jobs: Sequence[Job], finish: Callable[[Job, Result], Row], bar: Bar) -> None:
        self._lock = threading.Lock()
        self._rows: dict[int, Row] = {}
        self._states: dict[int, State | None] = {}
        self._jobs = jobs
        self._finish = finish
        self._bar = bar

    def in_order(self) -> list[Row]:
        """The rows of all files, in the files' order."""
        return [self._rows[index] for index in range(len(self._jobs))]

    def begin(self, index: int) -> None:
        """Note the state of a file that is about to be read."""
        self._states[index] = state_of(self._jobs[index].source)

    def finish(self, index: int, result: Result) -> None:
        """Finish a file; where that fails with a HvaeCodecError or OSError, the file failed.

        So does one that has changed since `begin`: a result of what it was before would be newer,
        and a resumed run would take it as done.
        """
        try:
            source = self._jobs[index].source
            if state_of(source) != self._states.pop(index):
                raise HvaeCodecError(f"{source} was changed while it was being read: run it again")
            row = self._finish(self._jobs[index], result)
        except (HvaeCodecError, OSError) as error:
            self.fail(index, error)
        else:
            self._end(index, row)

    def fail(self, index: int, error: Exception) -> None:
        """Report a file that could not be done."""
        source, message = str(self._jobs[index].source), describe(error)
        message = message if source in message else f"{source}: {message}"
        with self._bar.external_write_mode(file=sys.stderr):
            print_error(message)
        self._end(index, {"input": source, "error": message})

    def fail_others(self, error: Exception) -> None:
        """Report, once, that all files which have not come to an end failed."""
        message = describe(error)
        others = [index for index in range(len(self._jobs)) if index not in self._rows]
        with self._bar.external_write_mode(file=sys.stderr):
            print_error(f"{len(others)} of {len(self._jobs)} files were not done: {message}")
        for index in others:
            self._end(index, {"input": str(self._jobs[index].source), "error": message})

    def _end(self, index: int, row: Row) -> None:
        with self._lock:
            self._rows[index] = row
            self._bar.update()


class _Run(Rows[Result], Generic[Value, Result]):
    def __init__(
        self,
        jobs: Sequence[Job],
        convert: Callable[[Any, list[Value]], Iterable[Result]],
        finish: Callable[[Job, Result], Row],
        bar: Bar,
        pool: ThreadPoolExecutor | None,
    ) -> None:
        super().__init__(jobs, finish, bar)
        self._convert = convert
        self._pool = pool
        self._batch_pixels = MAX_PIXELS if pool is None else BATCH_PIXELS
        self._waiting: dict[Hashable, list[tuple[int, Item[Value]]]] = {}
        self._running: deque[tuple[Future[None], int]] = deque()  # with the pixels of each

    def add(self, index: int, item: Item[Value]) -> None:
        """Let an item wait for others of its group; convert them when they are enough."""
        group = self._waiting.setdefault(item.group, [])
        group.append((index, item))
        if len(group) >= MAX_FILES or _pixels(group) >= self._batch_pixels:
            self._flush(item.group)

    def flush_all(self) -> None:
        """Convert what is still waiting."""
        for group in list(self._waiting):
            self._flush(group)
        self._await_all()

    def _flush(self, group: Hashable) -> None:
        waiting = self._waiting.pop(group)
        pixels = _pixels(waiting)
        if self._pool is None or pixels >= MAX_PIXELS:
            self._await_all()
            self._do(group, waiting)
            return
        while self._running and pixels + sum(taken for _, taken in self._running) > MAX_PIXELS:
            self._await_oldest()
        self._running.append((self._pool.submit(self._do, group, waiting), pixels))

    def _await_oldest(self) -> None:
        future, _ = self._running.popleft()
        future.result()

    def _await_all(self) -> None:
        while self._running:
            self._await_oldest()

    def _do(self, group: Hashable, waiting: list[tuple[int, Item[Value]]]) -> None:
        """Convert a batch and finish its files."""
        for (index, _), result in zip(waiting, self._converted(group, waiting), strict=True):
            if isinstance(result, HvaeCodecError):
                self.fail(index, result)
            else:
                self.finish(index, result)

    def _converted(
        self, group: Hashable, items: list[tuple[int, Item[Value]]]
    ) -> list[Result | HvaeCodecError]:
        """The result of every item, or its error: halving a batch that fails isolates those that
        are bad, in few conversions where few are.
        """
        try:
            return list(self._convert(group, [item.value for _, item in items]))
        except HvaeCodecError as error:
            if len(items) == 1:
                return [error]
        half = len(items) // 2
        return self._converted(group, items[:half]) + self._converted(group, items[half:])


def _pixels(items: Iterable[tuple[int, Item[Any]]]) -> int:
    return sum(item.pixels for _, item in items)
