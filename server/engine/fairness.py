"""Fair queuing of callers: by the work that each got in batches, and by turns of slow work."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from ..observability.calls import current_call

_REMEMBERED: Final = 4_096
"""Most callers, or callers and calls, whose work or last turn is known."""

_Waiting = deque[tuple[asyncio.Future[None], int]]
"""Those of one call that wait, and the weight of each."""


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


class Room:
    """Weights that fit together: a `most`, and `beside` more for light ones, of at most `beside`.

    One that is larger is let in when nothing else is there.
    """

    def __init__(self, most: float = math.inf, beside: int = 0) -> None:
        self._most = most
        self._beside = beside
        self._heavy = self._light = 0

    def fits(self, weight: int, *, behind: bool) -> bool:
        """Whether a weight fits; `behind`: one that came before it does not."""
        if weight > self._beside:
            taken = self._heavy + max(0, self._light - self._beside)
            return not behind and (taken == 0 or taken + weight <= self._most)
        # What waits for room gets it in the end: light ones behind it take none of its part.
        over = max(0, self._light + weight - self._beside)
        return over == 0 or (not behind and self._heavy + over <= self._most)

    def add(self, weight: int) -> None:
        """Take room; a negative weight gives it back."""
        if abs(weight) > self._beside:
            self._heavy += weight
        else:
            self._light += weight


class Turns:
    """Lets `at_once` tasks run at once; those that wait take turns, by caller and then by call.

    Args:
        at_once: tasks that run at once.
        of_caller: most of them of one caller; None: all.
        room: what weighs them; None: nothing does.
    """

    def __init__(
        self, at_once: int, of_caller: int | None = None, room: Room | None = None
    ) -> None:
        self._at_once = at_once
        self._of_caller = of_caller or at_once
        self._room = room or Room()
        self._under_way: Counter[str | None] = Counter()
        self._count = 0
        self._callers: dict[str | None, dict[int, _Waiting]] = {}
        # Of callers, and of each with its calls, the latest last. One that asks again a moment
        # after its turn would else come before those that had theirs later.
        self._last_turns: dict[Hashable, float] = {}
        self._turn_number = 0

    @property
    def waiting(self) -> int:
        """Those that wait."""
        queues = (queue for calls in self._callers.values() for queue in calls.values())
        return sum(not future.done() for queue in queues for future, _ in queue)

    @property
    def wanted(self) -> bool:
        """Whether any wait; any thread may ask."""
        return bool(self._callers)

    @property
    def under_way(self) -> int:
        """Those that have their turn."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether the next one has to wait."""
        return self._count >= self._at_once or bool(self._callers)

    @asynccontextmanager
    async def turn(self, weight: int = 0) -> AsyncIterator[None]:
        """One of those that go on, for the call that this task answers."""
        await self.take(weight)
        try:
            yield
        finally:
            self.give_back(weight)

    async def take(self, weight: int = 0) -> None:
        """Wait for a turn of the call that this task answers."""
        call = current_call()
        if not self.full and self._may_go(call.owner, weight, behind=False):
            self._enter(call.owner, weight)
            self._note_turn(call.owner, call.number)
        else:
            await self._wait(weight)

    def give_back(self, weight: int = 0) -> None:
        """End a turn of the call that this task answers."""
        self._leave(current_call().owner, weight)

    async def each(
        self,
        values: Sequence[Any],
        work: Callable[[Any], Awaitable[Any]],
        weights: Sequence[int] | None = None,
    ) -> list[Any]:
        """What `work` gives for each value, each in a turn of its own, in the values' order.

        weights: of the values; None: they have none.
        """
        results: list[Any] = [None] * len(values)
        numbers = iter(range(len(values)))

        async def some() -> None:
            for number in numbers:
                async with self.turn(weights[number] if weights else 0):
                    results[number] = await work(values[number])

        tasks = [asyncio.create_task(some()) for _ in range(min(self._of_caller, len(values)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return results

    def _enter(self, caller: str | None, weight: int) -> None:
        self._count += 1
        self._under_way[caller] += 1
        self._room.add(weight)

    def _leave(self, caller: str | None, weight: int) -> None:
        self._count -= 1
        self._under_way[caller] -= 1
        if not self._under_way[caller]:
            del self._under_way[caller]
        self._room.add(-weight)
        self._go_on()

    def _may_go(self, caller: str | None, weight: int, *, behind: bool) -> bool:
        has_room = self._under_way[caller] < self._of_caller
        return has_room and self._room.fits(weight, behind=behind)

    async def _wait(self, weight: int) -> None:
        call = current_call()
        future = asyncio.get_running_loop().create_future()
        for key in (call.owner, (call.owner, call.number)):
            # A new one comes before the latest only: else new ones would keep others waiting.
            self._last_turns.setdefault(key, self._turn_number - 0.5)
        queue = self._callers.setdefault(call.owner, {}).setdefault(call.number, deque())
        queue.append((future, weight))
        self._go_on()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # the turn came too late
                self._leave(call.owner, weight)
            else:
                self._go_on()  # it may have been in the way of others
            raise

    def _go_on(self) -> None:
        while self._callers and self._count < self._at_once and self._next():
            pass

    def _next(self) -> bool:
        """Let one go on: of the callers, and then of its calls, the one whose last turn was longest
        ago, of those that may. Returns whether there was one.
        """
        behind = False
        for caller in sorted(self._callers, key=self._last_turn):
            calls = self._callers[caller]
            call = min(calls, key=lambda each: self._last_turn((caller, each)))
            future, weight = calls[call][0]
            gone = future.done()  # its caller went away
            if gone or self._may_go(caller, weight, behind=behind):
                self._remove_first(caller, call)
                if not gone:
                    self._enter(caller, weight)
                    self._note_turn(caller, call)
                    future.set_result(None)
                return True
            behind = behind or self._under_way[caller] < self._of_caller
        return False

    def _remove_first(self, caller: str | None, call: int) -> None:
        calls = self._callers[caller]
        calls[call].popleft()
        if not calls[call]:
            del calls[call]
        if not calls:
            del self._callers[caller]

    def _last_turn(self, key: Hashable) -> float:
        return self._last_turns.get(key, 0)

    def _note_turn(self, caller: str | None, call: int) -> None:
        self._turn_number += 1
        for key in (caller, (caller, call)):
            self._last_turns.pop(key, None)
            self._last_turns[key] = self._turn_number
        while len(self._last_turns) > _REMEMBERED:
            del self._last_turns[next(iter(self._last_turns))]
