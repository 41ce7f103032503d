"""What the calls of one token may have at once, and have."""

import asyncio
import time
from contextlib import suppress
from typing import Final

from ..errors import TokenLimitError
from ..observability.calls import Quota
from .tokens import Token

_BUSY_SECONDS: Final = 0.5
"""Delay after which to retry: nothing says when calls in flight will end."""


class TokenQuota(Quota):
    """What a token has in flight, and how many requests it may still begin.

    Requests are counted by a bucket that holds those of one second and fills at that rate.
    """

    def __init__(self, token: Token) -> None:
        self.token = token
        self._items = 0
        self._begun = 0.0  # requests in the bucket that are used up
        self._looked = time.monotonic()
        self._freed = asyncio.Event()

    @property
    def max_streams(self) -> int | None:  # type: ignore[override]
        """Of Quota."""
        return self.token.max_streams

    def take(self, items: int) -> None:
        """Of Quota.

        Raises:
            TokenLimitError: not now, or, with `retry_seconds` None, never.
        """
        wait = self._wait()
        if wait > 0:
            raise TokenLimitError(
                f"this token may begin {self.token.max_requests:,} requests a second", wait
            )
        most = self.token.max_items
        if most is not None and items > most:
            raise TokenLimitError(
                f"{items:,} items in one request, this token may have {most:,} in flight; "
                "send fewer at a time",
                None,
            )
        if most is not None and self._items + items > most:
            raise TokenLimitError(
                f"this token has {self._items:,} items in flight, it may have {most:,}",
                _BUSY_SECONDS,
            )
        self._items += items
        self._begun += 1

    def _wait(self) -> float:
        """Seconds until another request may begin."""
        most = self.token.max_requests
        if most is None:
            return 0.0
        now = time.monotonic()
        self._begun = max(0.0, self._begun - (now - self._looked) * most)
        self._looked = now
        return max(0.0, self._begun + 1 - most) / most

    async def take_in_turn(self, items: int) -> None:
        """Of Quota.

        Raises:
            TokenLimitError: it never may.
        """
        while True:
            try:
                return self.take(items)
            except TokenLimitError as error:
                if error.retry_seconds is None:
                    raise
                self._freed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(error.retry_seconds):
                        await self._freed.wait()

    def release(self, items: int) -> None:
        """Of Quota."""
        self._items -= items
        self._freed.set()
