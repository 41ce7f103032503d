"""Computing in a process that was forked from one that had computed.

The threads that torch computes with are not forked along, and the child would wait for them for
ever. With one thread it waits for none. Programs that choose start processes with "spawn" or
"forkserver", whose children have threads of their own.
"""

from __future__ import annotations

import os
import sys

_forked = False


def keep_to_one_thread() -> None:
    """Have torch compute with one thread, if this process was forked, whatever was set since."""
    if _forked and (torch := sys.modules.get("torch")) and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


def _in_child() -> None:
    global _forked
    _forked = True
    torch = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):  # another thread may have been importing it
        keep_to_one_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
