"""What takes long by itself, one item at a time: large images, searches, many samples.

Few items are begun at once, of one caller two, by turns and as far as their images fit into memory.
Those that are begun share the networks by slices of time, so that a short one never waits for a
long one: that gives way at its next step, once its slice is over and another one waits. What is
coded in the coding processes needs no slice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any, Final, TypeVar

from hvae_codec.utils.cancellation import (
    Cancellation,
    CancelledWorkError,
    cancelled_by,
    cancelled_if,
    current_cancellation,
)

from ..errors import DeadlinePassedError
from ..settings import BESIDE_PIXELS
from .coding_pool import CodingPool
from .fairness import Room, Turns
from .operations import ThreadExecutor

_BEGUN: Final = 16
"""Items that are begun at once, each in a thread of its own while it is in the networks."""

_BEGUN_OF_CALLER: Final = 2
"""One in the networks, and one that is coded meanwhile."""

_SLICE_SECONDS: Final = 0.2

Result = TypeVar("Result")


class _Slice:
    """The slices of one function in a thread, which has the networks when it begins."""

    def __init__(self, turns: Turns, cancellation: Cancellation) -> None:
        self._turns = turns
        self._cancellation = cancellation
        self._loop = asyncio.get_running_loop()
        self._ends = time.monotonic() + _SLICE_SECONDS
        self.held = True

    def look(self) -> bool:
        """Give way to those that wait, if the slice is over; returns whether the work is cancelled.

        Raises CancelledWorkError where it is while others have the networks.
        """
        if time.monotonic() >= self._ends and not self._cancellation.cancelled:
            if self._turns.wanted:
                self._give_way()
            self._ends = time.monotonic() + _SLICE_SECONDS
        return self._cancellation.cancelled

    def _give_way(self) -> None:
        waiting = asyncio.run_coroutine_threadsafe(self._next_turn(), self._loop)

        def cancel() -> None:
            waiting.cancel()

        try:
            with self._cancellation.telling(cancel):
                waiting.result()
        except CancelledError as error:
            raise CancelledWorkError("no caller waits for this work any more") from error

    async def _next_turn(self) -> None:
        self.held = False
        self._turns.give_back()
        await self._turns.take()
        self.held = True


class SlicedExecutor(ThreadExecutor):
    """Networks in threads of which one computes at a time, on all `cores`; they take turns."""

    def __init__(self, cores: int, coding: CodingPool) -> None:
        super().__init__("slow", _BEGUN, cores, coding)
        self._turns = Turns(1)

    @property
    def waiting(self) -> int:
        """Functions that wait for the networks."""
        return self._turns.waiting

    async def run(self, function: Callable[[], Result]) -> Result:
        """In a thread, in slices of time."""
        await self._turns.take()
        own = _Slice(self._turns, current_cancellation())

        def sliced() -> Result:
            with cancelled_if(own.look):
                return function()

        try:
            return await super().run(sliced)
        finally:
            if own.held:
                self._turns.give_back()


class SlowLane:
    """Runs `compute(key, values)` on one item at a time; see the module.

    Args:
        compute: gives the results of the items, or their errors.
        pixels: most pixels of the items that are begun at once, unless there is only one.
        observe: is told the key, number of items and seconds of every item.
    """

    def __init__(
        self,
        compute: Callable[[Any, list[Any]], Awaitable[Sequence[Any]]],
        pixels: int,
        observe: Callable[[Any, int, float], None],
    ) -> None:
        self._compute = compute
        self._observe = observe
        self._turns = Turns(_BEGUN, _BEGUN_OF_CALLER, Room(pixels, BESIDE_PIXELS))
        self._under_way: set[asyncio.Task[Any]] = set()

    @property
    def waiting(self) -> int:
        """Items that are not begun."""
        return self._turns.waiting

    @property
    def under_way(self) -> int:
        """Items that are begun."""
        return len(self._under_way)

    async def run(
        self, key: Any, values: Sequence[Any], pixels: Sequence[int], deadline: float | None
    ) -> list[Any]:
        """The result or error of each value.

        Raises DeadlinePassedError where the deadline passes before one is begun.
        """

        async def begin(number: int) -> Any:
            if deadline is not None and deadline <= asyncio.get_running_loop().time():
                raise DeadlinePassedError("the deadline passed before this was computed")
            cancellation = Cancellation()
            task = asyncio.create_task(self._one(key, values[number], cancellation))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                cancellation.cancel()
                # What it holds is free once it has come to its next step.
                await asyncio.wait((task,))
                raise

        return await self._turns.each(range(len(values)), begin, pixels)

    async def close(self) -> None:
        """End all work; callers that still wait are cancelled."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, key: Any, value: Any, cancellation: Cancellation) -> Any:
        """The result or error of a value."""
        started = time.perf_counter()
        try:
            with cancelled_by(cancellation):
                (result,) = await self._compute(key, [value])
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            cancellation.cancel()
            raise
        except BaseException as error:  # where an extension in Rust panics, that is no Exception
            result = error if isinstance(error, Exception) else RuntimeError(repr(error))
        self._observe(key, 1, time.perf_counter() - started)
        return result
