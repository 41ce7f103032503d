"""Where a batch is computed: beside the event loop, or in it, and when the loop is right.

Beside it, in threads or in coding processes, cores work at once. In threads networks share the
interpreter's lock with the loop, and each waits for the other at every step; processes take the
cores from a loop that is busy with calls. For a few small images of many calls both take longer
than to compute them in between.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import torch

from hvae_codec.codec.bitstream.files import FileCoder, Read, read_good
from hvae_codec.codec.bitstream.symbols import SymbolBatch

from ..admission.cancelling import in_thread
from .coding_pool import CodingProcesses

Result = TypeVar("Result")

_CALL_SECONDS: Final = 0.00025
"""What the loop spends on a call beside its computing."""
_LEAST_CALLS: Final = 16
"""So many calls' worth may always be computed in the loop: beside calls, it takes as long there."""
_SLOWING: Final = 1.02
"""Growth of the estimate per batch; lets a one-off fast batch decay."""


class BatchExecutor(Protocol):
    """Runs networks and codes symbols."""

    clock: Callable[[], float]
    """Seconds of a thread of networks, as they would pass in the loop."""

    async def run(self, function: Callable[[], Result]) -> Result:
        """What a function of the networks gives."""

    async def write(self, coder: FileCoder, batches: Sequence[SymbolBatch]) -> list[list[bytes]]:
        """`FileCoder.write` of each batch."""

    async def read(self, coder: FileCoder, files: Sequence[bytes], layers: int | None) -> Read:
        """`read_good`."""


class ThreadExecutor:
    """Networks in threads that share so many cores evenly, coding in processes."""

    def __init__(self, name: str, threads: int, cores: int, coding: CodingProcesses) -> None:
        self._threads = ThreadPoolExecutor(
            threads,
            thread_name_prefix=name,
            initializer=_compute_on,
            initargs=(cores if threads == 1 else 1,),
        )
        self.clock = time.thread_time  # without the time in which others hold the interpreter
        self._coding = coding
        self.read = coding.read

    async def run(self, function: Callable[[], Result]) -> Result:
        """In a thread."""
        return await in_thread(self._threads, function)

    async def write(self, coder: FileCoder, batches: Sequence[SymbolBatch]) -> list[list[bytes]]:
        """All batches at once."""
        return await asyncio.gather(*(self._coding.write(coder, batch) for batch in batches))

    def stop(self) -> None:
        """Drop what has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class InlineExecutor:
    """Everything at once in the thread that asks for it, on one core: an event loop's, in which
    nothing else happens meanwhile, or a coding process's. No method waits for anything.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        _compute_on(1)

    async def run(self, function: Callable[[], Result]) -> Result:
        """Now."""
        return function()

    async def write(self, coder: FileCoder, batches: Sequence[SymbolBatch]) -> list[list[bytes]]:
        """Now."""
        return [coder.write(batch) for batch in batches]

    async def read(self, coder: FileCoder, files: Sequence[bytes], layers: int | None) -> Read:
        """Now."""
        return read_good(coder, files, layers)


class TimedExecutor:
    """A place, and the `seconds` that networks took there."""

    def __init__(self, place: BatchExecutor) -> None:
        self._place = place
        self.clock = place.clock
        self.write = place.write
        self.read = place.read
        self.seconds = 0.0

    async def run(self, function: Callable[[], Result]) -> Result:
        """What the place gives."""

        def timed() -> Result:
            began = self.clock()
            try:
                return function()
            finally:
                self.seconds += self.clock() - began

        return await self._place.run(timed)


class LatencyEstimator:
    """How long the networks take for work of a kind and size, from the fastest batches of late:
    what else a machine does makes others slower, wherever they are computed.
    """

    def __init__(self) -> None:
        # For each kind seconds per weight, by the number of bits of a batch's weight.
        self._seconds: defaultdict[Hashable, dict[int, float]] = defaultdict(dict)

    def saw(self, kind: Hashable, weight: int, seconds: float) -> None:
        """A batch of a kind and weight took so long; one of weight 0 says nothing."""
        if weight > 0:
            paces, size = self._seconds[kind], weight.bit_length()
            each = seconds / weight
            paces[size] = min(each, _SLOWING * paces.get(size, each))

    def fits_loop(self, kind: Hashable, weight: int, calls: int) -> bool:
        """Whether a batch of so many calls takes no more of the loop than the calls themselves;
        False for a kind not seen yet.
        """
        # A larger batch takes less for its weight, so the paces of smaller ones are bounds.
        paces, size = self._seconds[kind], weight.bit_length()
        each = min((pace for bits, pace in paces.items() if bits <= size), default=math.inf)
        return each * weight <= _CALL_SECONDS * max(calls, _LEAST_CALLS)


def _compute_on(cores: int) -> None:
    """Let torch use so many cores for what this thread computes."""
    torch.set_num_threads(cores)
    torch.get_num_threads()  # or the first computation would take over what another thread set
