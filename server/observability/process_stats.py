"""What the processes of a server take of the machine, for who watches it.

The metrics that are usual for a process are the main one's alone, and batches are computed in
others.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class _Process(NamedTuple):
    """A process by its number and the time at which it began: numbers come again."""

    pid: int
    began: int


class ProcessStats:
    """Processor seconds and memory of this process and its coding processes, those that ended
    included. `look` in a thread now and then: for each process the kernel walks all its memory,
    some 10 ms. Where there is no /proc, there are no figures.
    """

    def __init__(self) -> None:
        self._seconds: dict[_Process, float] = {}
        self._figures: dict[str, float] = {}

    def look(self, coding: Sequence[int]) -> None:
        """Ask the kernel about this process, coding processes of these numbers, and the one that
        they were forked from.
        """
        memory = 0
        ours = {os.getpid(), *coding}
        for pid in coding:
            with suppress(OSError):  # it has ended
                ours |= _between(pid, os.getpid())
        for pid in ours:
            with suppress(OSError):
                fields = _fields(pid)
                seconds = (int(fields[11]) + int(fields[12])) / _TICKS
                self._seconds[_Process(pid, int(fields[19]))] = seconds
                memory += _memory_bytes(pid)
        found: dict[str, float] = {}
        if self._seconds:
            found["cpu_seconds_total"] = sum(self._seconds.values())
        if memory:  # which some systems hide
            found["memory_bytes"] = memory
        self._figures = found

    def figures(self) -> dict[str, float]:
        """As last looked up: processor seconds, and bytes of memory, shared pages counted once."""
        return self._figures


def _between(pid: int, ancestor: int) -> set[int]:
    """The process that this one is the child of and that is a child of the ancestor, if there is
    one.
    """
    parent = int(_fields(pid)[1])
    return {parent} if int(_fields(parent)[1]) == ancestor else set()


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the process's state on: a name before it may hold anything."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _memory_bytes(pid: int) -> int:
    """A page that n processes share counts as an n-th of one."""
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0
