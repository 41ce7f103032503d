"""When this package was imported: a file that is older is still what a caller opened."""

from __future__ import annotations

import os
import time
from typing import IO

_IMPORTED_NS = time.time_ns()
_CLOCK_STEP_NS = 1_000_000_000  # of a file system's clock, and how far it may be behind


def changed_since_import(file: IO[bytes]) -> bool:
    """Whether an open file may have been written, or put where it lies, since."""
    return os.fstat(file.fileno()).st_ctime_ns > _IMPORTED_NS - _CLOCK_STEP_NS
