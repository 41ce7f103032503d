"""Computing in a process that was forked from one that had computed.

The threads that torch computes with are not forked along, and the child would wait for them for
ever. With one thread it waits for none. Programs that choose start processes with "spawn" or
"forkserver", whose children have threads of their own.

A fork also waits until no thread is in the middle of a matrix product of NumPy's. Its BLAS ends its
threads at a fork; met in such a product, it waits for ever, in the parent or in the child.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_WAIT_SECONDS = 10.0
"""Longest wait of a fork: a signal handler may fork in a product of its own thread."""

_forked = False
_changed = threading.Condition()
_products = 0
"""Threads that are in a block of `no_fork`."""
_forks = 0
"""Threads that want to fork."""


def keep_to_one_thread() -> None:
    """Have torch compute with one thread, if this process was forked, whatever was set since."""
    if _forked and (torch := sys.modules.get("torch")) and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


@contextmanager
def no_fork() -> Iterator[None]:
    """Let no other thread fork this process meanwhile; waits for one that is doing so."""
    global _products
    with _changed:
        _changed.wait_for(lambda: _forks == 0, _WAIT_SECONDS)
        _products += 1
    try:
        yield
    finally:
        with _changed:
            _products -= 1
            _changed.notify_all()


def _before() -> None:
    global _forks
    with _changed:
        _forks += 1
        _changed.wait_for(lambda: _products == 0, _WAIT_SECONDS)


def _in_parent() -> None:
    global _forks
    with _changed:
        _forks -= 1
        _changed.notify_all()


def _in_child() -> None:
    global _changed, _forked, _forks, _products
    _changed = threading.Condition()  # another thread may have held the lock of the other one
    _forks = _products = 0
    _forked = True
    torch = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):  # another thread may have been importing it
        keep_to_one_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
