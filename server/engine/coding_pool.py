"""Coding processes: entropy coding, and batches with their networks, away from the event loop.

constriction never releases the interpreter's lock, and networks want it again after every one of
their operations. In a process of its own a batch keeps one core busy and never waits.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hvae_codec.codec.bitstream.files import FileCoder, Read, read_good
from hvae_codec.codec.bitstream.symbols import SymbolBatch

from .process_pool import ProcessPool

Result = TypeVar("Result")

_known: dict[bytes, FileCoder] = {}


class _TablesNeeded(Exception):  # noqa: N818 - an answer, no error
    """This process does not know the model yet."""


class CodingPool(ProcessPool):
    """A pool whose processes code. With networks, they do whole batches (`batch_worker`); without,
    they import no torch, and take 40 MiB.
    """

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
