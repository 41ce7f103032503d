"""Entropy coding in processes of its own, since constriction never releases the interpreter's lock.

A coding process imports no torch: it is small and up in a fraction of a second. The first time that
a process gets work of a model it asks for the model's tables, and keeps them.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, TypeVar

from hvae_codec.codec.entropy import EntropyCoding, Part, Read, read_good

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_TRIES: Final = 2

_known: dict[bytes, EntropyCoding] = {}


class WorkerLostError(Exception):
    """A coding process ended in the middle of this work, and another one that tried it again."""


class _TablesNeeded(Exception):  # noqa: N818 - an answer, no error
    """This process does not know the model yet."""


class CodingProcesses:
    """Writes and reads symbols in `count` spawned processes; with 0, in a thread of this one.

    A process that dies is replaced, and its work is tried once more.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.replaced = 0
        self._pool = self._new_pool()

    def _new_pool(self) -> Executor:
        if self.count == 0:
            return ThreadPoolExecutor(1, thread_name_prefix="coding")
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.count, context, initializer=_begin)

    async def start(self) -> None:
        """Bring the processes up before the first request needs them."""
        await asyncio.gather(*(self._run(_pid) for _ in range(max(1, self.count))))

    def stop(self) -> None:
        """End the processes; work that has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def write(self, entropy: EntropyCoding, part: Part) -> list[bytes]:
        """`EntropyCoding.write`. Raises WorkerLostError."""
        return await self._taught(_write, entropy, part.narrowed())

    async def read(
        self, entropy: EntropyCoding, files: Sequence[bytes], layers: int | None
    ) -> Read:
        """`read_good`. Raises WorkerLostError."""
        return await self._taught(_read, entropy, files, layers)

    async def _taught(
        self, function: Callable[..., Result], entropy: EntropyCoding, *args: Any
    ) -> Result:
        try:
            return await self._run(function, entropy.model_id, None, *args)
        except _TablesNeeded:
            return await self._run(function, entropy.model_id, entropy, *args)

    async def _run(self, function: Callable[..., Result], *args: Any) -> Result:
        for _ in range(_TRIES):
            pool = self._pool
            try:
                return await asyncio.wrap_future(pool.submit(function, *args))
            except BrokenProcessPool:
                self._replace(pool)
        raise WorkerLostError("a coding process ended twice over this work; try again")

    def _replace(self, broken: Executor) -> None:
        """A new pool for a broken one, which every piece of work that was in it reports."""
        if self._pool is not broken:
            return
        _logger.error("a coding process ended unexpectedly: starting new ones")
        self.replaced += 1
        self._pool = self._new_pool()
        broken.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """In a new process: end with the server, and leave Ctrl-C in its terminal to it.

    SIGTERM must end it: that is how a pool of which one process died ends the others, and it waits
    for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _pid() -> int:
    return os.getpid()


def _coding(model_id: bytes, taught: EntropyCoding | None) -> EntropyCoding:
    if taught is not None:
        _known[model_id] = taught
    if model_id not in _known:
        raise _TablesNeeded
    return _known[model_id]


def _write(model_id: bytes, taught: EntropyCoding | None, part: Part) -> list[bytes]:
    return _coding(model_id, taught).write(part)


def _read(
    model_id: bytes, taught: EntropyCoding | None, files: Sequence[bytes], layers: int | None
) -> Read:
    parts, errors = read_good(_coding(model_id, taught), files, layers)
    return [part.narrowed() for part in parts], errors
