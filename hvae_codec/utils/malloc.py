"""Keeping freed memory in the process, or giving it back.

Networks allocate the same tensors again at every step. glibc gives freed memory back to the system
at once, and the system clears every page of it before it is used again: some 10,000 page faults a
training step, a fifth of its time on a virtual machine.
"""

from __future__ import annotations

import ctypes
import os
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # mallopt's names for them, in glibc's malloc.h
_LARGEST_HEAP_BLOCK = 32 * 2**20  # the most that glibc allows
_KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB that it has freed, for its next allocations; whether it
    worked.

    Where the user has chosen already (`MALLOC_...` or `GLIBC_TUNABLES` in the environment) and
    where the C library is another one, nothing is changed.
    """
    chosen = "GLIBC_TUNABLES" in os.environ or any(n.startswith("MALLOC_") for n in os.environ)
    if chosen or sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(
        mallopt(_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    )


def give_back_freed_memory() -> bool:
    """Give what this process has freed, and glibc keeps, back to the system; whether any was.

    Worth it after a burst, not between steps: what comes next pays for its pages again.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return trim is not None and bool(trim(0))
