"""How much the server holds at once: beyond it a call is told to come back, and nothing grows."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final, NoReturn

_LEAST_RETRY_SECONDS: Final = 0.05
_MOST_RETRY_SECONDS: Final = 5.0
_RECENT: Final = 0.1  # share of the latest in the running mean of how long calls are held
_FREE_AGAIN: Final = 1 / 8  # of the capacity, before calls are looked at again after a refusal


class OverloadError(Exception):
    """The server holds as much as it may; the caller shall try again after `retry_seconds`."""

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


@dataclass(frozen=True)
class Capacity:
    """Most items, and bytes of their messages, that are in the server at once."""

    items: int = 16_384
    bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if min(self.items, self.bytes) < 1:
            raise ValueError(f"capacities must be positive, got {self}")


class Admission:
    """Counts what is in the server. A message that alone is over the capacity is let in when
    nothing else is there.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._turn = asyncio.Lock()  # first come, first served
        self._changed = asyncio.Event()
        self._seconds_held = _LEAST_RETRY_SECONDS
        self._full = False
        self.items = 0
        self.bytes = 0
        self.refused = 0

    def check(self) -> None:
        """Raise OverloadError from when a call was refused until an eighth of the capacity is free.

        For calls whose size is not known yet: most would be refused, once they had been read.
        """
        if self._full:
            most = self._capacity
            share = max(self.items / most.items, self.bytes / most.bytes)
            self._full = share > 1 - _FREE_AGAIN
        if self._full:
            self._refuse()

    @contextmanager
    def enter(self, items: int, size: int) -> Iterator[None]:
        """Hold so much until the end of the block. Raises OverloadError where it does not fit."""
        # Streams that wait come first, or a flood of single calls would starve them.
        if self._turn.locked() or not self._fits(items, size):
            self._full = True
            self._refuse()
        with self._held(items, size):
            yield

    @asynccontextmanager
    async def wait(self, items: int, size: int) -> AsyncIterator[None]:
        """Hold so much until the end of the block, from when it fits."""
        async with self._turn:
            while not self._fits(items, size):
                self._changed.clear()
                await self._changed.wait()
            held = self._held(items, size)
            held.__enter__()
        try:
            yield
        finally:
            held.__exit__(None, None, None)

    def _refuse(self) -> NoReturn:
        self.refused += 1
        retry = min(max(self._seconds_held, _LEAST_RETRY_SECONDS), _MOST_RETRY_SECONDS)
        raise OverloadError(
            f"the server has {self.items:,} items of {self.bytes:,} bytes to work on, of "
            f"{self._capacity.items:,} and {self._capacity.bytes:,} that it may hold; try "
            f"again in {retry:.2f} s",
            retry,
        )

    @contextmanager
    def _held(self, items: int, size: int) -> Iterator[None]:
        self.items += items
        self.bytes += size
        started = monotonic()
        try:
            yield
        finally:
            self.items -= items
            self.bytes -= size
            self._seconds_held += _RECENT * (monotonic() - started - self._seconds_held)
            self._changed.set()

    def _fits(self, items: int, size: int) -> bool:
        if self.items == 0:
            return True
        fits = self.items + items <= self._capacity.items
        return fits and self.bytes + size <= self._capacity.bytes
