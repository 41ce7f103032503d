"""How much the server holds at once.

Beyond its capacity the server rejects calls with a time to retry, and nothing grows.

A request is counted by the memory that it takes, in upper bounds: its message, its images decoded,
and its answer until the transport has taken that. What it takes beside its message is known once
the headers of its images and files are read, so it is counted in two steps.

Streams wait for the second step with their message in hand. So one of them goes on, beyond the
capacity, where otherwise none ever would.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from time import monotonic
from typing import Final, NoReturn, Self

from ..errors import OverloadError
from ..settings import Capacity

_LEAST_RETRY_SECONDS: Final = 0.05
_MOST_RETRY_SECONDS: Final = 5.0
_RECENT: Final = 0.1  # share of the latest in the running mean of how long calls are held
_FREE_AGAIN: Final = 1 / 8  # of the capacity, before calls are looked at again after a refusal
_OWNER_SHARE: Final = 2
"""The n-th part of the bytes that one owner may hold, lest answers that it never reads fill all."""

_SMALL_BYTES: Final = 1 << 18
"""Most memory of a small call, such as that of an image of 200x200 pixels."""

_SMALL_SHARE: Final = 16
"""The n-th part of the bytes is for small calls only, so that large answers that nobody reads do
not keep them out."""

_OWNERS: Final = 1_024
"""Owners that are remembered, before those that hold nothing are forgotten."""


class _Pool:
    """Items and bytes of one capacity, who holds them, and who waits for them."""

    def __init__(self, capacity: Capacity, for_small: int = 0) -> None:
        self.capacity = capacity
        self._for_small = for_small
        self.items = 0
        self.bytes = 0
        self.answer_bytes = 0  # of these, those of answers
        self.holders: set[Held] = set()
        self.passing = 0  # of these, those that passed others that wait
        self.refuses = False  # to let holders grow
        self._turn = asyncio.Lock()  # first come, first served
        self.changed = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether it has no holder and no waiter."""
        return not self.holders and not self._turn.locked()

    @property
    def is_waited_for(self) -> bool:
        """Whether streams wait for it."""
        return self._turn.locked() or self.refuses

    def try_take(self, held: "Held") -> bool:
        """Let a holder in where it fits and no other waits; returns whether it did."""
        # Streams that wait come first, or a flood of single calls would starve them.
        if self.is_waited_for or not self._fits(held):
            return False
        self._add(held)
        return True

    def try_pass(self, held: "Held") -> bool:
        """`try_take` for a small call, which passes those that wait; few may at once."""
        most = self._for_small // _SMALL_BYTES
        fits = self.items + held.items <= self.capacity.items and self._has(held.bytes)
        if held.bytes > _SMALL_BYTES or self.passing >= most or not fits:
            return False
        self.passing += 1
        self._add(held)
        return True

    async def take(self, held: "Held") -> None:
        """Wait until a holder fits, and let it in."""
        async with self._turn:
            while not self._fits(held):
                self.changed.clear()
                await self.changed.wait()
            self._add(held)

    def may_grow(self, held: "Held", size: int) -> bool:
        """Whether a holder may have `size` more bytes: they fit, or no other holder goes on before
        this one does, so that none of them ever would.
        """
        if self._has(size, held.bytes):
            return True
        return all(other is held or other.is_stuck for other in self.holders)

    def may_pass(self, held: "Held", size: int) -> bool:
        """Whether a small holder may have `size` more bytes before others that wait for them."""
        return held.bytes + size <= _SMALL_BYTES and self._has(size, held.bytes)

    def give_back(self, size: int, items: int = 0) -> None:
        """Free `size` bytes, and items, of a holder."""
        self.bytes -= size
        self.items -= items
        self.changed.set()

    def leave(self, held: "Held") -> None:
        """Free what a holder holds."""
        self.holders.discard(held)
        self.give_back(held.bytes, held.items)

    def _add(self, held: "Held") -> None:
        self.items += held.items
        self.bytes += held.bytes
        self.holders.add(held)

    def _fits(self, held: "Held") -> bool:
        if not self.holders:
            return True
        fits = not self.refuses and self.items + held.items <= self.capacity.items
        return fits and self._has(held.bytes)

    def _has(self, size: int, held: int = 0) -> bool:
        kept = 0 if held + size <= _SMALL_BYTES else self._for_small
        return self.bytes + size <= self.capacity.bytes - kept


@dataclass(eq=False)
class _Growth:
    """A holder that waits for `size` more bytes."""

    held: "Held"
    size: int
    granted: asyncio.Future[None]


class Held:
    """What one request holds, until `release`."""

    def __init__(self, admission: "Admission", items: int, size: int, *, waits: bool) -> None:
        """waits: for what more it needs."""
        self._admission = admission
        self._waits = waits
        self._message = size
        self._began = monotonic()
        self._line: Iterable[Held] = ()
        self._answered = False
        self.items = items
        self.bytes = size
        self.pools: list[_Pool] = []
        self.passes = False  # it passed others that wait
        self.is_waiting = False  # for memory
        self.is_released = False

    @property
    def is_stuck(self) -> bool:
        """Whether it keeps what it holds until some holder that waits for memory gets it: itself,
        or one whose answer leaves before its own.
        """
        if self.is_waiting or not self._answered:
            return self.is_waiting
        return any(each.is_waiting for each in takewhile(lambda each: each is not self, self._line))

    def line_up(self, line: dict["Held", None]) -> None:
        """Come last in a line whose answers leave in this order, first first."""
        line[self] = None
        self._line = line

    async def more(self, size: int) -> None:
        """Hold `size` more bytes: streams wait until they fit.

        Raises:
            OverloadError: they do not fit now, of a call of one message.
        """
        if not self.is_released:
            await self._admission.grow(self, size, waits=self._waits)

    def grown(self, size: int) -> None:
        """Count `size` more bytes."""
        self.bytes += size
        for pool in self.pools:
            pool.bytes += size

    def answered(self, size: int) -> None:
        """Hold from now on the message and an answer of `size` bytes, and no items: the rest is
        freed.
        """
        if self.is_released or self._answered:
            return
        self._note_end()
        freed = self.bytes - (self._message + size)
        self.bytes -= freed
        for pool in self.pools:
            pool.give_back(freed, self.items)
            pool.answer_bytes += self.bytes
        self.items = 0
        self._admission.look()

    def release(self) -> None:
        """Hold nothing any more; again, it does nothing."""
        if self.is_released:
            return
        self.is_released = True
        for pool in self.pools:
            if self._answered:
                pool.answer_bytes -= self.bytes
            pool.leave(self)
        if self.passes:
            self.pools[-1].passing -= 1
        self.bytes = 0
        self._note_end()
        self._admission.look()

    def _note_end(self) -> None:
        # How long a caller takes to read its answer says nothing of when there is room again.
        if not self._answered:
            self._answered = True
            self._admission.note(monotonic() - self._began)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class Admission:
    """Counts what is in the server. A message larger than the capacity is let in when
    nothing else is there.

    Of the bytes, one `owner` may hold a half; None: all. A part is for small calls only. Where
    memory is refused, `make_room` is called first: it may free some for those that try again.
    """

    def __init__(self, capacity: Capacity) -> None:
        for_small = capacity.bytes // _SMALL_SHARE
        self._pool = _Pool(capacity, for_small if for_small > _SMALL_BYTES else 0)
        self.make_room: Callable[[], object] = lambda: None
        self._share = Capacity(capacity.items, max(1, capacity.bytes // _OWNER_SHARE))
        self._owners: dict[str, _Pool] = {}
        self._growing: dict[_Growth, None] = {}
        self._refusing: set[_Pool] = set()
        self._seconds_held = _LEAST_RETRY_SECONDS
        self._full = False
        self.rejected = 0

    @property
    def items(self) -> int:
        """Items that are held."""
        return self._pool.items

    @property
    def bytes(self) -> int:
        """Bytes that are held."""
        return self._pool.bytes

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held."""
        return not self._pool.holders

    @property
    def is_waited_for(self) -> bool:
        """Whether streams wait for room."""
        return self._pool.is_waited_for

    def check(self) -> None:
        """Raise OverloadError from when a call was refused until an eighth of the capacity is free,
        or taken by answers only: when those will be read, nobody knows.

        For calls whose size is not known yet: most would be refused, once they had been read.
        """
        if self._full:
            most = self._pool.capacity
            share = max(
                self.items / most.items, (self.bytes - self._pool.answer_bytes) / most.bytes
            )
            self._full = share > 1 - _FREE_AGAIN
        if self._full:
            self.reject(self._pool)

    def take(self, items: int, size: int, owner: str | None = None) -> Held:
        """Hold items and bytes. Raises OverloadError where they do not fit."""
        held = Held(self, items, size, waits=False)
        for pool in self._pools(owner):
            if not pool.try_take(held):
                held.passes = pool.try_pass(held)
                if not held.passes:
                    self._abandon(held)
                    self.reject(pool)
            held.pools.append(pool)
        return held

    async def take_in_turn(self, items: int, size: int, owner: str | None = None) -> Held:
        """Wait until items and bytes fit, and hold them."""
        held = Held(self, items, size, waits=True)
        held.is_waiting = True
        try:
            for pool in self._pools(owner):
                if not pool.try_take(held):
                    held.passes = pool.try_pass(held)
                    if not held.passes:
                        self.look()
                        await pool.take(held)
                held.pools.append(pool)
        except BaseException:
            self._abandon(held)
            raise
        held.is_waiting = False
        return held

    async def grow(self, held: Held, size: int, *, waits: bool) -> None:
        """Give a holder `size` more bytes; `waits`: once they fit.

        Raises OverloadError where they do not fit now, and it does not wait.
        """
        if not waits:
            for pool in held.pools:
                if not pool.may_grow(held, size):
                    self.reject(pool)
            held.grown(size)
            return
        growth = _Growth(held, size, asyncio.get_running_loop().create_future())
        held.is_waiting = True
        self._growing[growth] = None
        self.look()
        try:
            await growth.granted
        finally:
            held.is_waiting = False
            self._growing.pop(growth, None)
            self.look()

    def look(self) -> None:
        """Let holders that wait grow, first come, first served, as far as that fits."""
        if not self._growing and not self._refusing:
            return
        refusing: set[_Pool] = set()
        for growth in list(self._growing):
            held, size = growth.held, growth.size
            if held.is_released or growth.granted.done():
                continue
            refused = [
                pool
                for pool in held.pools
                if not pool.may_pass(held, size)
                and (pool in refusing or not pool.may_grow(held, size))
            ]
            refusing.update(refused)
            if not refused:
                held.grown(size)
                held.is_waiting = False
                growth.granted.set_result(None)
        for pool in self._refusing ^ refusing:
            pool.refuses = pool in refusing
            pool.changed.set()
        self._refusing = refusing

    def reject(self, pool: _Pool) -> NoReturn:
        """Raise OverloadError for what does not fit into a pool."""
        self.rejected += 1
        retry = min(max(self._seconds_held, _LEAST_RETRY_SECONDS), _MOST_RETRY_SECONDS)
        most = pool.capacity
        if pool is self._pool:
            self._full = True
            self.make_room()
            who = "the server has"
        else:
            who = "of this caller the server has"
        raise OverloadError(
            f"{who} {pool.items:,} items of {pool.bytes:,} bytes to work on, of "
            f"{most.items:,} and {most.bytes:,} that it may hold; try again in {retry:.2f} s",
            retry,
        )

    def note(self, seconds: float) -> None:
        """Note how long a request was held until its answer was there."""
        self._seconds_held += _RECENT * (seconds - self._seconds_held)

    def _abandon(self, held: Held) -> None:
        """Free what a holder has that was not let in by all pools."""
        for pool in held.pools:
            pool.leave(held)
        self.look()

    def _pools(self, owner: str | None) -> list[_Pool]:
        """Of the owner, if there is one, and of all."""
        if owner is None:
            return [self._pool]
        pool = self._owners.get(owner)
        if pool is None:
            if len(self._owners) >= _OWNERS:
                self._owners = {name: one for name, one in self._owners.items() if not one.is_idle}
            pool = self._owners[owner] = _Pool(self._share)
        return [pool, self._pool]
