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

_coders: dict[bytes, FileCoder] = {}
"""In a coding process: those that it was given, by model id."""


class _TablesMissing(Exception):  # noqa: N818 - an answer, no error
    """This process was not given the tables of the model yet."""


class CodingPool(ProcessPool):
    """A pool whose processes code. With networks, they do whole batches (`batch_worker`); without,
    they import no torch, and take 40 MiB.
    """

    async def write(self, coder: FileCoder, batch: SymbolBatch) -> list[bytes]:
        """`FileCoder.write`. Raises WorkerLostError."""
        return await self._run_with_tables(_write, coder, batch.narrowed())

    async def read(self, coder: FileCoder, files: Sequence[bytes], layers: int | None) -> Read:
        """`read_good`. Raises WorkerLostError."""
        return await self._run_with_tables(_read, coder, files, layers)

    async def _run_with_tables(
        self, function: Callable[..., Result], coder: FileCoder, *args: Any
    ) -> Result:
        """What a function gives in a process that has the tables of `coder`."""
        try:
            return await self.run(function, coder.model_id, None, *args)
        except _TablesMissing:
            return await self.run(function, coder.model_id, coder, *args)


def _coding(model_id: bytes, given: FileCoder | None) -> FileCoder:
    if given is not None:
        _coders[model_id] = given
    if model_id not in _coders:
        raise _TablesMissing
    return _coders[model_id]


def _write(model_id: bytes, given: FileCoder | None, batch: SymbolBatch) -> list[bytes]:
    return _coding(model_id, given).write(batch)


def _read(
    model_id: bytes, given: FileCoder | None, files: Sequence[bytes], layers: int | None
) -> Read:
    batches, errors = read_good(_coding(model_id, given), files, layers)
    return [batch.narrowed() for batch in batches], errors
