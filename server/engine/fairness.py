"""Fair queuing of callers: by the work that each got in batches, and by turns of slow work."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from ..observability.calls import current_call

_REMEMBERED: Final = 4_096
"""Most callers, or callers and calls, whose work or last turn is known."""

_Waiting = deque[asyncio.Future[None]]


class Shares:
    """The work that each caller got, as virtual time.

    An idle caller gains no claim: it starts again at the level of the others.
    """

    def __init__(self) -> None:
        self._had: dict[str | None, float] = {}
        self._level = 0.0
        self._waiting: Counter[str | None] = Counter()

    @property
    def waiting(self) -> int:
        """Number of callers with waiting entries."""
        return len(self._waiting)

    def wait(self, caller: str | None) -> None:
        """Count a waiting entry of a caller."""
        self._waiting[caller] += 1

    def leave(self, caller: str | None) -> None:
        """Count a waiting entry less."""
        self._waiting[caller] -= 1
        if not self._waiting[caller]:
            del self._waiting[caller]

    def of(self, caller: str | None) -> float:
        """Work of a caller; the least is served first."""
        return max(self._had.get(caller, 0.0), self._level)

    def add(self, caller: str | None, weight: float, waiting: int) -> None:
        """Give a caller work of a weight; `waiting` callers wait, this one included."""
        self._had[caller] = self.of(caller) + weight
        # What each was due; without it, new callers would always be served first.
        self._level += weight / waiting
        if len(self._had) > _REMEMBERED:
            self._had = {name: had for name, had in self._had.items() if had > self._level}


class Turns:
    """Lets `at_once` tasks run at once; those that wait take turns, by caller and then by call."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._under_way = 0
        self._callers: dict[str | None, dict[int, _Waiting]] = {}
        # Of callers, and of each with its calls, the latest last. One that asks again a moment
        # after its turn would else come before those that had theirs later.
        self._last_turns: dict[Hashable, float] = {}
        self._turn_number = 0

    @property
    def waiting(self) -> int:
        """Those that wait."""
        queues = (queue for calls in self._callers.values() for queue in calls.values())
        return sum(not future.done() for queue in queues for future in queue)

    @property
    def full(self) -> bool:
        """Whether the next one has to wait."""
        return self._under_way >= self._at_once or bool(self._callers)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One of those that go on, for the call that this task answers."""
        if not self.full:
            self._under_way += 1
            call = current_call()
            self._note_turn(call.owner, call.number)
        else:
            await self._wait()
        try:
            yield
        finally:
            self._under_way -= 1
            self._go_on()

    async def each(self, values: Sequence[Any], work: Callable[[Any], Awaitable[Any]]) -> list[Any]:
        """What `work` gives for each value, each in a turn of its own, in the values' order."""
        results: list[Any] = [None] * len(values)
        numbers = iter(range(len(values)))

        async def some() -> None:
            for number in numbers:
                async with self.turn():
                    results[number] = await work(values[number])

        tasks = [asyncio.create_task(some()) for _ in range(min(self._at_once, len(values)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return results

    async def _wait(self) -> None:
        call = current_call()
        future = asyncio.get_running_loop().create_future()
        for key in (call.owner, (call.owner, call.number)):
            # A new one comes before the latest only: else new ones would keep others waiting.
            self._last_turns.setdefault(key, self._turn_number - 0.5)
        queue = self._callers.setdefault(call.owner, {}).setdefault(call.number, deque())
        queue.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # the turn came too late
                self._under_way -= 1
                self._go_on()
            raise

    def _go_on(self) -> None:
        while self._callers and self._under_way < self._at_once:
            future = self._next()
            if not future.done():
                self._under_way += 1
                future.set_result(None)

    def _next(self) -> asyncio.Future[None]:
        """Of the callers, and then of its calls, the one whose last turn was longest ago."""
        caller = min(self._callers, key=self._last_turn)
        calls = self._callers[caller]
        call = min(calls, key=lambda each: self._last_turn((caller, each)))
        future = calls[call].popleft()
        if not calls[call]:
            del calls[call]
        if not calls:
            del self._callers[caller]
        if not future.done():  # or its caller went away
            self._note_turn(caller, call)
        return future

    def _last_turn(self, key: Hashable) -> float:
        return self._last_turns.get(key, 0)

    def _note_turn(self, caller: str | None, call: int) -> None:
        self._turn_number += 1
        for key in (caller, (caller, call)):
            self._last_turns.pop(key, None)
            self._last_turns[key] = self._turn_number
        while len(self._last_turns) > _REMEMBERED:
            del self._last_turns[next(iter(self._last_turns))]
