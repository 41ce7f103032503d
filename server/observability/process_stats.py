"""Processor seconds and memory of all processes of a server.

The metrics that are usual for a process are those of the main one only, and batches are computed in
others.
"""

from collections.abc import Sequence
from contextlib import suppress

import psutil


class ProcessStats:
    """Processor seconds and memory of this process and its coding processes, those that ended
    included. `look` in a thread now and then: for each process the kernel walks all its memory,
    some 10 ms.
    """

    def __init__(self) -> None:
        self._seconds: dict[psutil.Process, float] = {}  # which differ where numbers come again
        self._figures: dict[str, float] = {}

    def look(self, coding: Sequence[int]) -> None:
        """Ask the kernel about this process, coding processes of these numbers, and the one that
        they were forked from.
        """
        memory = 0
        for process in _family(coding):
            with suppress(psutil.Error):  # it has ended
                times = process.cpu_times()
                self._seconds[process] = times.user + times.system
                # A page that n processes share counts as an n-th of one; only Linux knows that.
                memory += getattr(process.memory_full_info(), "pss", 0)
        self._figures = {"cpu_seconds_total": sum(self._seconds.values())}
        if memory:  # which some systems hide
            self._figures["memory_bytes"] = memory

    def figures(self) -> dict[str, float]:
        """As last looked up: processor seconds, and bytes of memory, shared pages counted once."""
        return self._figures


def _family(coding: Sequence[int]) -> set[psutil.Process]:
    """This process, coding processes, and the one that they were forked from."""
    here = psutil.Process()
    found = {here}
    for pid in coding:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found.add(process)
            parent = process.parent()
            if parent is not None and parent.ppid() == here.pid:
                found.add(parent)
    return found
