"""How much the server holds at once.

Beyond its capacity the server rejects calls with a time to retry, and nothing grows.

A request is counted by the memory that it takes, in upper bounds: its message, its images decoded,
and its answer until the transport has taken that. What it takes beside its message is known once
the headers of its images and files are read, so it is counted in two steps.
"""

import asyncio
from collections.abc import Callable, Sequence
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

_MESSAGE_COPIES: Final = 2
"""gRPC keeps the bytes of a message that it has parsed until its call has ended."""

_ANSWER_COPIES: Final = 3
"""As a message, as the bytes that it is written to, and as those that the transport sends."""

_PIXEL_BYTES: Final = 3
_READER_PIXEL_BYTES: Final = 4
"""Of the image library, while it reads a file beside the array that it gives."""


def message_footprint(size: int) -> int:
    """Bytes of memory of a request whose message has `size` bytes on the wire."""
    return _MESSAGE_COPIES * size


def answer_footprint(size: int) -> int:
    """Bytes of memory of an answer whose message has at most `size` bytes."""
    return _ANSWER_COPIES * size


def sample_footprint(pixels: int) -> int:
    """Bytes of memory of images of `pixels` pixels together, decoded."""
    return _PIXEL_BYTES * pixels


def file_footprint(pixels: int) -> int:
    """Bytes of memory of image files of `pixels` pixels together that are being decoded."""
    return (_PIXEL_BYTES + _READER_PIXEL_BYTES) * pixels


class _Pool:
    """Items and bytes of one capacity, and who waits for them."""

    def __init__(self, capacity: Capacity, for_small: int = 0) -> None:
        self.capacity = capacity
        self._for_small = for_small
        self.items = 0
        self.bytes = 0
        self.answer_bytes = 0  # of these, those of answers
        self.holders = 0
        self.passing = 0  # of these, those that passed others that wait
        self._stalled = 0  # holders that wait to grow
        self._turn = asyncio.Lock()  # first come, first served
        self._growth = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether it has no holder and no waiter."""
        return self.holders == 0 and not self._turn.locked()

    @property
    def is_waited_for(self) -> bool:
        """Whether streams wait for it."""
        return self._turn.locked() or self._stalled > 0

    def try_take(self, items: int, size: int) -> bool:
        """Take items and bytes where they fit and no other waits; returns whether it did."""
        # Streams that wait come first, or a flood of single calls would starve them.
        if self.is_waited_for or not self._fits(items, size):
            return False
        self._add(items, size)
        return True

    def try_pass(self, items: int, size: int) -> bool:
        """`try_take` for a small call, which passes those that wait; few may at once."""
        most = self._for_small // _SMALL_BYTES
        fits = self.items + items <= self.capacity.items and self._has(size)
        if size > _SMALL_BYTES or self.passing >= most or not fits:
            return False
        self.passing += 1
        self._add(items, size)
        return True

    async def take(self, items: int, size: int) -> None:
        """Wait until items and bytes fit, and take them."""
        async with self._turn:
            while not self._fits(items, size):
                await self._change()
            self._add(items, size)

    def try_grow(self, held: int, size: int) -> bool:
        """Take `size` more bytes for a holder of `held` where they fit; returns whether it did."""
        if not self._has(size, held) and self.holders > self._stalled + 1:
            return False
        self.bytes += size
        return True

    async def grow(self, held: int, size: int) -> None:
        """Wait until `size` more bytes for a holder of `held` fit, and take them.

        Where all holders wait, the first goes on, or none of them ever would.
        """
        passes = held + size <= _SMALL_BYTES and self._has(size, held)
        if (passes or not self._growth.locked()) and self.try_grow(held, size):
            return
        self._stalled += 1
        self._changed.set()
        try:
            async with self._growth:
                while not self._has(size, held) and self.holders > self._stalled:
                    await self._change()
                self.bytes += size
        finally:
            self._stalled -= 1
            self._changed.set()

    def give_back(self, size: int, items: int = 0) -> None:
        """Free `size` bytes, and items, of a holder."""
        self.bytes -= size
        self.items -= items
        self._changed.set()

    def leave(self, items: int, size: int) -> None:
        """Free what a holder holds."""
        self.holders -= 1
        self.give_back(size, items)

    def _add(self, items: int, size: int) -> None:
        self.items += items
        self.bytes += size
        self.holders += 1

    def _fits(self, items: int, size: int) -> bool:
        if self.holders == 0:
            return True
        fits = self._stalled == 0 and self.items + items <= self.capacity.items
        return fits and self._has(size)

    def _has(self, size: int, held: int = 0) -> bool:
        kept = 0 if held + size <= _SMALL_BYTES else self._for_small
        return self.bytes + size <= self.capacity.bytes - kept

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Held:
    """What one request holds, until `release`."""

    def __init__(
        self,
        admission: "Admission",
        pools: Sequence[_Pool],
        items: int,
        size: int,
        *,
        waits: bool = False,
        passes: bool = False,
    ) -> None:
        """waits: for what more it needs. passes: it passed others that wait."""
        self._admission = admission
        self._pools = pools
        self._items = items
        self._message = self._size = size
        self._waits = waits
        self._passes = passes
        self._began = monotonic()
        self._answered = self._released = False

    async def more(self, size: int) -> None:
        """Hold `size` more bytes: streams wait until they fit.

        Raises:
            OverloadError: they do not fit now, of a call of one message.
        """
        if self._released:
            return
        grown: list[_Pool] = []
        try:
            for pool in self._pools:
                if self._waits:
                    await pool.grow(self._size, size)
                elif not pool.try_grow(self._size, size):
                    self._admission.reject(pool)
                grown.append(pool)
        except BaseException:
            for pool in grown:
                pool.give_back(size)
            raise
        self._size += size

    def answered(self, size: int) -> None:
        """Hold from now on the message and an answer of `size` bytes, and no items: the rest is
        freed.
        """
        if self._released or self._answered:
            return
        self._note_end()
        freed = self._size - (self._message + size)
        self._size -= freed
        for pool in self._pools:
            pool.give_back(freed, self._items)
            pool.answer_bytes += self._size
        self._items = 0

    def release(self) -> None:
        """Hold nothing any more; again, it does nothing."""
        if self._released:
            return
        self._released = True
        for pool in self._pools:
            if self._answered:
                pool.answer_bytes -= self._size
            pool.leave(self._items, self._size)
        if self._passes:
            self._pools[-1].passing -= 1
        self._note_end()

    @property
    def bytes(self) -> int:
        """Bytes that it holds."""
        return 0 if self._released else self._size

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
        return self._pool.holders == 0

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
        taken: list[_Pool] = []
        passes = False
        for pool in self._pools(owner):
            if not pool.try_take(items, size):
                passes = pool is self._pool and pool.try_pass(items, size)
                if not passes:
                    for other in taken:
                        other.leave(items, size)
                    self.reject(pool)
            taken.append(pool)
        return Held(self, taken, items, size, passes=passes)

    async def take_in_turn(self, items: int, size: int, owner: str | None = None) -> Held:
        """Wait until items and bytes fit, and hold them."""
        taken: list[_Pool] = []
        passes = False
        try:
            for pool in self._pools(owner):
                if pool is self._pool and not pool.try_take(items, size):
                    passes = pool.try_pass(items, size)
                    if not passes:
                        await pool.take(items, size)
                elif pool is not self._pool:
                    await pool.take(items, size)
                taken.append(pool)
        except BaseException:
            for pool in taken:
                pool.leave(items, size)
            raise
        return Held(self, taken, items, size, waits=True, passes=passes)

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
