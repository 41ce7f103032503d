"""Coding processes: entropy coding, and batches with their networks, away from the event loop.

constriction never releases the interpreter's lock, and networks want it again after every one of
their operations. In a process of its own a batch keeps one core busy and never waits.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from hvae_codec.codec.bitstream.files import FileCoder, Read, read_good
from hvae_codec.codec.bitstream.symbols import SymbolBatch

from ..errors import WorkerLostError
from .process_pool import BATCH_FUNCTIONS, Processes

__all__ = ["CodingProcesses", "WorkerLostError"]

Result = TypeVar("Result")

_known: dict[bytes, FileCoder] = {}


class _TablesNeeded(Exception):  # noqa: N818 - an answer, no error
    """This process does not know the model yet."""


class CodingProcesses:
    """`count` processes; with 0, a thread of this one, which codes alone.

    prepare: what each process does first, of a module that imports networks, which it then may
    `run`; None: they code alone, import no torch, and take 40 MiB.
    """

    def __init__(self, count: int, prepare: Callable[[], object] | None = None) -> None:
        self.count = count
        self._place: Processes | ThreadPoolExecutor
        if count == 0:
            self._place = ThreadPoolExecutor(1, thread_name_prefix="coding")
        elif prepare is None:
            self._place = Processes(count)
        else:
            self._place = Processes(count, prepare, shared=BATCH_FUNCTIONS)

    @property
    def replaced(self) -> int:
        """Processes that died."""
        return self._place.replaced if isinstance(self._place, Processes) else 0

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes in the system, at the moment."""
        return self._place.pids if isinstance(self._place, Processes) else []

    async def start(self) -> None:
        """Bring the processes up before the first request needs them. Raises WorkerLostError."""
        if isinstance(self._place, Processes):
            await self._place.start()

    def stop(self) -> None:
        """End the processes; what they do is dropped."""
        if isinstance(self._place, Processes):
            self._place.stop()
        else:
            self._place.shutdown(wait=True, cancel_futures=True)

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """What a function of a module gives in one of them, or raises. Raises WorkerLostError."""
        if isinstance(self._place, Processes):
            return await self._place.run(function, *args)
        return await asyncio.get_running_loop().run_in_executor(self._place, function, *args)

    async def write(self, coder: FileCoder, batch: SymbolBatch) -> list[bytes]:
        """`FileCoder.write`. Raises WorkerLostError."""
        return await self._taught(_write, coder, batch.narrowed())

    async def read(self, coder: FileCoder, files: Sequence[bytes], layers: int | None) -> Read:
        """`read_good`. Raises WorkerLostError."""
        return await self._taught(_read, coder, files, layers)

    async def _taught(
        self, function: Callable[..., Result], coder: FileCoder, *args: Any
    ) -> Result:
        try:
            return await self.run(function, coder.model_id, None, *args)
        except _TablesNeeded:
            return await self.run(function, coder.model_id, coder, *args)


def _coding(model_id: bytes, taught: FileCoder | None) -> FileCoder:
    if taught is not None:
        _known[model_id] = taught
    if model_id not in _known:
        raise _TablesNeeded
    return _known[model_id]


def _write(model_id: bytes, taught: FileCoder | None, batch: SymbolBatch) -> list[bytes]:
    return _coding(model_id, taught).write(batch)


def _read(
    model_id: bytes, taught: FileCoder | None, files: Sequence[bytes], layers: int | None
) -> Read:
    batches, errors = read_good(_coding(model_id, taught), files, layers)
    return [batch.narrowed() for batch in batches], errors
