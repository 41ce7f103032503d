"""Progress of long work on standard error: a bar on a terminal, in a log a line now and then."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable, Iterable, Sized
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from hvae_codec.errors import HvaeCodecError

if TYPE_CHECKING:
    Bar = tqdm[Any]
else:
    Bar = tqdm

SECONDS_VARIABLE = "HVAE_PROGRESS_SECONDS"
"""Environment variable: seconds between the lines in a log; 0 for none."""
DEFAULT_SECONDS = 30.0

_BAR_WITHOUT_ESTIMATE = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
_LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}, {remaining} left{postfix}"
_LINE_WITHOUT_ESTIMATE = "{desc}: {n_fmt} of {total_fmt}{unit}{postfix}"
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt}{unit}, {rate_fmt}{postfix}"


def progress(
    label: str,
    items: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    initial: int = 0,
    unit: str = "steps",
    scaled: bool = False,
    leave: bool = True,
    estimated: bool = True,
    shown: bool = True,
    in_log: bool = True,
) -> Bar:
    """What counts work, with the rate and the time left.

    Args:
        label: what is done.
        items: to iterate over; by default `update` counts.
        total: how many there are, by default of `items`; and `initial` of them were done before.
        unit: of what is counted, in the plural.
        scaled: whether numbers are shown as 12k and 3M.
        leave: whether a bar stays when the work is done.
        estimated: whether rate and time left follow from what was counted; where pieces of work
            differ too much, the caller's postfix says it.
        shown, in_log: whether there is a bar or a line at all; and whether in a log.

    Raises:
        HvaeCodecError: HVAE_PROGRESS_SECONDS is not a number of seconds.
    """
    common: dict[str, Any] = {"desc": label, "total": total, "initial": initial}
    common |= {"unit": f" {unit}", "unit_scale": scaled, "leave": leave}
    if not estimated:
        common["bar_format"] = _BAR_WITHOUT_ESTIMATE
    if sys.stderr is None or sys.stderr.closed:  # as of a process that was started without it
        return LogLines(items, seconds=0.0, file=io.StringIO(), **common)
    if sys.stderr.isatty():
        return tqdm(items, disable=not shown, file=sys.stderr, **common)
    seconds = _seconds() if shown and in_log else 0.0
    return LogLines(items, seconds=seconds, file=sys.stderr, **common)


class LogLines(Bar):
    """A line after each so many `seconds`, none of work that ends before."""

    def __init__(self, items: Iterable[Any] | None, *, seconds: float, **keywords: Any) -> None:
        total = _count(items) if keywords["total"] is None else keywords["total"]
        self.seconds = seconds
        form = _LINE_WITHOUT_TOTAL if total is None else _LINE
        if "bar_format" in keywords:
            form = _LINE_WITHOUT_ESTIMATE
        super().__init__(
            items,
            disable=seconds == 0,
            delay=seconds,
            mininterval=seconds,
            maxinterval=max(seconds, 10.0),
            **{**keywords, "bar_format": form},
        )

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """What writes a state to the log."""

        def write(line: str) -> None:
            if line:
                file.write(line + "\n")
                file.flush()

        return write

    def clear(self, nolock: bool = False) -> None:
        """Nothing: other lines need no room made for them."""

    def moveto(self, n: int) -> None:
        """Nothing: lines follow one another."""

    def refresh(self, nolock: bool = False, lock_args: Any = None) -> None:
        """Write a line; not where another line has been written in between."""
        if not nolock:
            super().refresh(nolock, lock_args)

    def close(self) -> None:
        """Count no more. A last line follows earlier ones alone."""
        if not self.disable:
            if self.last_print_t >= self.start_t + self.seconds and self.n > self.last_print_n:
                self.display()
            self.last_print_t = self.start_t  # as of what was never shown: nothing is cleared
        super().close()


def _count(items: object) -> int | None:
    return len(items) if isinstance(items, Sized) else None


def _seconds() -> float:
    text = os.environ.get(SECONDS_VARIABLE, "")
    if not text:
        return DEFAULT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise HvaeCodecError(f"{SECONDS_VARIABLE} is {text!r}; allowed: seconds, 0 for no lines")
    return seconds
