"""Many files through the networks at once, a bad one among them failing alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from hvae_codec.cli.common import describe, print_error
from hvae_codec.cli.jobs.files import Job, State, state_of
from hvae_codec.errors import HvaeCodecError

if TYPE_CHECKING:
    from tqdm import tqdm

MAX_FILES = 256
"""Most files in a batch."""

MAX_PIXELS = 16_000_000
"""Pixels from which a batch takes no more files; bounds memory to a few times the largest one."""

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
    OSError is reported on standard error, and the other files are still done. A progress bar shows
    files a second and the time left when there is more than one file and somebody to see it.
    """
    with progress(jobs, label) as bar:
        run = _Run(jobs, convert, finish, bar)
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


def progress(jobs: Sequence[Job], label: str) -> tqdm[NoReturn]:
    """A bar that shows files a second and the time left, hidden where nobody would miss it."""
    from tqdm import tqdm

    hidden = True if len(jobs) == 1 else None
    return tqdm(total=len(jobs), desc=label, unit=" files", disable=hidden)


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

    def __init__(
        self, jobs: Sequence[Job], finish: Callable[[Job, Result], Row], bar: tqdm[NoReturn]
    ) -> None:
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
            self._rows[index] = self._finish(self._jobs[index], result)
        except (HvaeCodecError, OSError) as error:
            self.fail(index, error)
        else:
            self._bar.update()

    def fail(self, index: int, error: Exception) -> None:
        """Report a file that could not be done."""
        source, message = str(self._jobs[index].source), describe(error)
        message = message if source in message else f"{source}: {message}"
        with self._bar.external_write_mode(file=sys.stderr):
            print_error(message)
        self._rows[index] = {"input": source, "error": message}
        self._bar.update()


class _Run(Rows[Result], Generic[Value, Result]):
    def __init__(
        self,
        jobs: Sequence[Job],
        convert: Callable[[Any, list[Value]], Iterable[Result]],
        finish: Callable[[Job, Result], Row],
        bar: tqdm[NoReturn],
    ) -> None:
        super().__init__(jobs, finish, bar)
        self._convert = convert
        self._waiting: dict[Hashable, list[tuple[int, Item[Value]]]] = {}

    def add(self, index: int, item: Item[Value]) -> None:
        """Let an item wait for others of its group; convert them when they are enough."""
        group = self._waiting.setdefault(item.group, [])
        group.append((index, item))
        if len(group) >= MAX_FILES or sum(other.pixels for _, other in group) >= MAX_PIXELS:
            self._flush(item.group)

    def flush_all(self) -> None:
        """Convert what is still waiting."""
        for group in list(self._waiting):
            self._flush(group)

    def _flush(self, group: Hashable) -> None:
        waiting = self._waiting.pop(group)
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
