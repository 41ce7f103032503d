"""Batches over calls: items that want the same done to them wait a moment for each other.

A call hands over all its items of a kind as one entry. Batches are made when there is room for one,
from as many entries as fit, by equal shares of the callers. Of a caller the oldest entry is first,
and what is left of a long one queues up behind the others.
If no batch is running, the next starts as soon as no new call arrives, however small it is: a
single caller never waits for the batch delay. While a batch runs, the next one fills up. A long
entry is shared out among executors that are idle.
An entry whose caller went away leaves the queue at once, and one whose deadline has passed is never
computed. (Packages that batch for asyncio know neither.)
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Final, Generic, TypeVar

from hvae_codec.utils.cancellation import Cancellation, cancelled_by

from ..errors import DeadlinePassedError
from ..observability.calls import current_call
from ..settings import BatchLimits
from .fairness import Shares

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Result = TypeVar("Result")

_QUIET_TURNS: Final = 64
"""Turns of the event loop without a new entry after which none is on its way: from when gRPC has
taken a call until it gets here, the loop turns about ten times; it takes one after the other."""


_LEAST_SHARE: Final = 1 << 16
"""Weight below which an entry is not shared out: it takes milliseconds."""


@dataclass(frozen=True)
class Batch(Generic[Key, Value]):
    """Items that are computed together: values that want the same, what each weighs, and of how
    many calls they are.
    """

    key: Key
    values: list[Value]
    weights: list[int]
    calls: int

    @property
    def weight(self) -> int:
        """Of all items."""
        return sum(self.weights)


@dataclass(eq=False)
class _Entry(Generic[Value, Result]):
    values: Sequence[Value]
    weights: Sequence[int]
    deadline: float | None
    since: float
    future: asyncio.Future[list[Result | Exception]]
    caller: str | None
    results: dict[int, Result | Exception] = field(default_factory=dict)
    begun: int = 0
    left: list[Callable[[], None]] = field(default_factory=list)
    """Called when its caller goes: batches under way with items of it."""

    @property
    def waiting(self) -> int:
        return len(self.values) - self.begun

    def finish(self, number: int, result: Result | Exception) -> None:
        self.results[number] = result
        if len(self.results) == len(self.values) and not self.future.done():
            self.future.set_result([self.results[n] for n in range(len(self.values))])

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def _cancellation(entries: set[_Entry[Value, Result]]) -> Cancellation:
    """Of a batch: it comes when the callers of all its entries are gone."""
    cancellation = Cancellation()

    def look() -> None:
        if all(entry.future.done() for entry in entries):
            cancellation.cancel()

    for entry in entries:
        entry.left.append(look)
    return cancellation


_Slice = tuple[_Entry[Value, Result], int]


class _Queue(Generic[Value, Result]):
    """Entries that want the same, oldest first, with their items and weight together."""

    def __init__(self, shares: Shares) -> None:
        self.entries: dict[_Entry[Value, Result], None] = {}
        self.items = 0
        self.weight = 0
        self._of_caller: dict[str | None, dict[_Entry[Value, Result], None]] = {}
        self._shares = shares

    def add(self, entry: _Entry[Value, Result]) -> None:
        self.entries[entry] = None
        self._of_caller.setdefault(entry.caller, {})[entry] = None
        self._shares.wait(entry.caller)
        self.items += entry.waiting
        self.weight += sum(entry.weights[entry.begun :])

    def remove(self, entry: _Entry[Value, Result]) -> None:
        if entry in self.entries:
            del self.entries[entry]
            own = self._of_caller[entry.caller]
            del own[entry]
            if not own:
                del self._of_caller[entry.caller]
            self._shares.leave(entry.caller)
            self.items -= entry.waiting
            self.weight -= sum(entry.weights[entry.begun :])

    @property
    def since(self) -> float:
        return next(iter(self.entries)).since

    @property
    def begun(self) -> bool:
        """Whether a part of the oldest entry is under way already."""
        return next(iter(self.entries)).begun > 0

    @property
    def had(self) -> float:
        """What the caller had that comes first."""
        return min(map(self._shares.of, self._of_caller))

    def share(self, idle: int) -> float:
        """Most weight of a batch where N executors are idle: any, unless they outnumber the
        entries.
        """
        if len(self.entries) >= idle:
            return math.inf
        return max(_LEAST_SHARE, math.ceil(self.weight / idle))

    def take(self, items: int, most: float, now: float) -> list[_Slice[Value, Result]]:
        """At most `items` items of at most `most` weight, but one at least, for a batch; entries
        whose deadline has passed are ended instead.
        """
        batch: list[_Slice[Value, Result]] = []
        weight = 0

        def full(item: int) -> bool:
            return len(batch) >= items or (bool(batch) and weight + item > most)

        # The number keeps callers from being compared.
        order = [
            (self._shares.of(caller), next(iter(own)).since, number, caller)
            for number, (caller, own) in enumerate(self._of_caller.items())
        ]
        heapify(order)
        while order:
            *_, number, caller = order[0]
            entry = next(iter(self._of_caller[caller]))
            if full(entry.weights[entry.begun]):
                return batch
            waiting, before = self._shares.waiting, weight
            self.remove(entry)
            if entry.deadline is not None and entry.deadline <= now:
                entry.fail(DeadlinePassedError("the deadline passed before this was computed"))
            else:
                while entry.waiting and not full(item := entry.weights[entry.begun]):
                    batch.append((entry, entry.begun))
                    weight += item
                    entry.begun += 1
                self._shares.add(caller, weight - before, waiting)
                if entry.waiting:
                    self.add(entry)  # behind the caller's others, which have waited long enough
                    return batch
            if own := self._of_caller.get(caller):
                heapreplace(order, (self._shares.of(caller), next(iter(own)).since, number, caller))
            else:
                heappop(order)
        return batch


class Batcher(Generic[Key, Value, Result]):
    """Runs `run(batch)` on batches; it gives a result, or an error, for each value."""

    def __init__(
        self,
        run: Callable[[Batch[Key, Value]], Awaitable[Sequence[Result | Exception]]],
        limits: BatchLimits,
        at_once: int,
        observe: Callable[[Key, int, float], None] = lambda key, items, seconds: None,
        parallel: int = 1,
        heavy: float = math.inf,
    ) -> None:
        """at_once: batches that are under way together. parallel: how many of them are computed at
        once. heavy: mean weight from which items wait for an executor that is idle, because others
        may come meanwhile whose turn it is. observe: is told the key, number of items and seconds
        of every batch.
        """
        self._run = run
        self._limits = limits
        self._observe = observe
        self._parallel = parallel
        self._heavy = heavy
        self._queues: dict[Key, _Queue[Value, Result]] = {}
        self._shares = Shares()
        self._entries = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(at_once)
        self._under_way: set[asyncio.Task[None]] = set()
        self._server: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return sum(queue.items for queue in self._queues.values())

    @property
    def under_way(self) -> int:
        """Batches that are being computed."""
        return len(self._under_way)

    async def submit(
        self,
        key: Key,
        values: Sequence[Value],
        weights: Sequence[int],
        deadline: float | None = None,
    ) -> list[Result | Exception]:
        """What `run` gives for the values, in their order.

        deadline: a time of the event loop's clock. Raises
        DeadlinePassedError where it passes before all of it was begun.
        """
        if not values:
            return []
        loop = asyncio.get_running_loop()
        if self._server is None:
            self._server = loop.create_task(self._serve())
        entry: _Entry[Value, Result] = _Entry(
            values, weights, deadline, loop.time(), loop.create_future(), current_call().owner
        )
        queue = self._queues.setdefault(key, _Queue(self._shares))
        queue.add(entry)
        self._entries += 1
        self._changed.set()
        try:
            return await entry.future
        finally:
            queue.remove(entry)
            for tell in entry.left:
                tell()

    async def close(self) -> None:
        """Stop; callers that still wait are cancelled."""
        tasks = [*self._under_way, *([self._server] if self._server else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for queue in self._queues.values():
            for entry in queue.entries:
                entry.future.cancel()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            batch: list[_Slice[Value, Result]] = []
            while not batch:
                key, queue = await self._ready()
                share = min(self._limits.weight, queue.share(self._idle))
                batch = queue.take(self._limits.items, share, loop.time())
            task = loop.create_task(self._compute(key, batch))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    @property
    def _idle(self) -> int:
        """Executors that compute nothing."""
        return self._parallel - len(self._under_way)

    def _ended(self, batch: asyncio.Task[None]) -> None:
        self._under_way.discard(batch)
        self._changed.set()

    async def _ready(self) -> tuple[Key, _Queue[Value, Result]]:
        """Wait until some queue has a full batch, or one that has waited long enough, or nothing is
        under way and no more entries come.
        """
        loop = asyncio.get_running_loop()
        limits = self._limits
        while True:
            self._changed.clear()
            for key in [key for key, queue in self._queues.items() if not queue.entries]:
                del self._queues[key]
            wait = None
            queues = {key: queue for key, queue in self._queues.items() if self._may_begin(queue)}
            if queues:
                now = loop.time()
                ready = [each for each in queues.items() if self._is_ready(each[1], now)]
                if len(ready) > 1:
                    return min(ready, key=lambda each: (each[1].had, each[1].since))
                if ready:
                    return ready[0]
                key, oldest = min(queues.items(), key=lambda each: each[1].since)
                wait = oldest.since + limits.delay_seconds - now
                if not self._under_way:
                    if await self._no_more_come():
                        return key, oldest
                    continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    def _may_begin(self, queue: _Queue[Value, Result]) -> bool:
        """Whether nobody whose turn it would be could come before an executor is idle."""
        return self._idle > 0 or queue.weight < self._heavy * queue.items

    def _is_ready(self, queue: _Queue[Value, Result], now: float) -> bool:
        """Whether its batch is full, or has waited long enough."""
        limits = self._limits
        return (
            queue.since + limits.delay_seconds <= now
            or (queue.begun and self._idle > 0)
            or queue.items >= limits.items
            or queue.weight >= limits.weight
        )

    async def _no_more_come(self) -> bool:
        """Whether no entry comes for a moment."""
        entries = self._entries
        for _ in range(_QUIET_TURNS):
            await asyncio.sleep(0)
        return entries == self._entries

    async def _compute(self, key: Key, slices: list[_Slice[Value, Result]]) -> None:
        batch = Batch(
            key,
            [entry.values[number] for entry, number in slices],
            [entry.weights[number] for entry, number in slices],
            len({entry for entry, _ in slices}),
        )
        started = time.perf_counter()
        results: Sequence[Result | Exception]
        cancellation = _cancellation({entry for entry, _ in slices})
        try:
            with cancelled_by(cancellation):
                results = await self._run(batch)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            cancellation.cancel()
            for entry, _ in slices:
                entry.future.cancel()
            raise
        except BaseException as error:  # where an extension in Rust panics, that is no Exception
            failed = error if isinstance(error, Exception) else RuntimeError(repr(error))
            results = [failed] * len(slices)
        finally:
            self._room.release()
        for (entry, number), result in zip(slices, results, strict=True):
            entry.finish(number, result)
        self._observe(key, len(slices), time.perf_counter() - started)
