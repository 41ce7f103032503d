"""How much memory a piece of work takes: what the system gave, and what Python asked for."""

from __future__ import annotations

import ctypes
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import memory_bytes

_CLEAR = Path("/proc/self/clear_refs")


class ResidentPeak:
    """Growth of the process's resident memory since `start`, at its highest."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def start(self) -> None:
        """Forget the highest value so far, and give back what the process keeps free."""
        if self._trim is not None:
            self._trim(0)
        _CLEAR.write_text("5")
        self._before = memory_bytes("VmRSS")

    def growth(self) -> int:
        """Bytes."""
        return max(0, memory_bytes("VmHWM") - self._before)


def traced_peak(work: Callable[[], object]) -> int:
    """Bytes that Python and NumPy held at most while `work` ran; slow."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def limit_address_space(headroom: int) -> None:
    """From here on the process may take so many bytes more, touched or not; else MemoryError."""
    most = memory_bytes("VmSize") + headroom
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
