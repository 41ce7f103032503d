"""Cores that this process may use, and threads that leave a core to others while they wait."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_QUOTA_FILES: Final = (
    (_GROUPS / "cpu.max",),
    (_GROUPS / "cpu/cpu.cfs_quota_us", _GROUPS / "cpu/cpu.cfs_period_us"),
)
"""Of version 2 and of version 1, as a container sees its own group."""
_UNLIMITED: Final = ("max", "-1")


def available_cores() -> int:
    """Cores that the system lets this process use, at least 1.

    These are the cores of its affinity, or fewer where the quota of a container (a control group of
    Linux, of either version) gives it less time. A part of a core counts as one.
    """
    return max(1, math.ceil(min(_affinity(), _quota())))


def limit_threads() -> None:
    """Set for OpenMP and OpenBLAS, before torch and NumPy are imported, what the user has not set.

    Threads that wait must not spin: on shared cores they take the time of those that compute. Of
    a quota OpenMP knows nothing: on a large host a small container would start a thread per core.
    NumPy's products are small here: threads of OpenBLAS cost more than they give, and spin too.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if available_cores() < _affinity():
        os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))


def _affinity() -> int:
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _quota() -> float:
    """Cores' time per time of a container; inf without a limit."""
    for files in _QUOTA_FILES:
        with suppress(OSError, ValueError):
            quota, period = " ".join(map(Path.read_text, files)).split()
            return math.inf if quota in _UNLIMITED else int(quota) / int(period)
    return math.inf
