"""Answers that wait for their readers: they hold memory, so those that nobody reads end in time.

gRPC cannot end a call while it sends an answer of it. So a stream is told to end: it computes
nothing more, frees what it holds beside that answer, and says why once that is read. Where it still
is not, its connection is closed: nothing else frees the answer.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from ..errors import SilentCallError
from .open_calls import PATIENCE_SECONDS

_LOOK_SECONDS: Final = 1.0


@dataclass(eq=False)
class _Unread:
    held: Callable[[], int]
    end: Callable[[], object] | None
    peer: str
    since: float


class UnreadAnswers:
    """The calls whose answers are not read at the moment, the longest unread first.

    Args:
        seconds: how long an answer may wait for its reader.
        close: closes the connection of a peer.
        wanted: whether others wait for memory.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        seconds: float,
        close: Callable[[str], object] = lambda peer: None,
        wanted: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._close = close
        self._wanted = wanted
        self._clock = clock
        self._calls: dict[_Unread, None] = {}

    def begin(
        self, peer: str, held: Callable[[], int], end: Callable[[], object] | None = None
    ) -> Callable[[], object]:
        """An answer of a call waits for its reader from now on; returns what says that it is read.

        `held` gives the bytes that the call holds. `end` ends a stream as soon as that is possible;
        it is called once at most.
        """
        call = _Unread(held, end, peer, self._clock())
        self._calls[call] = None
        return lambda: self._calls.pop(call, None)

    @contextmanager
    def waiting(
        self, peer: str, held: Callable[[], int], end: Callable[[], object]
    ) -> Iterator[None]:
        """`begin` for a block, in which the answer is sent."""
        is_read = self.begin(peer, held, end)
        try:
            yield
        finally:
            is_read()

    def make_room(self) -> None:
        """End the stream that holds most, of those unread for longer than PATIENCE_SECONDS."""
        late = [call for call in self._since(PATIENCE_SECONDS) if call.end is not None]
        if late:
            _end(max(late, key=lambda call: call.held()))

    def look(self) -> None:
        """End the calls that have been unread for too long, first those that hold most, and close
        the connections of those that could not end.
        """
        for call in sorted(self._since(self._seconds), key=lambda call: -call.held()):
            _end(call)
        for peer in {call.peer for call in self._since(self._seconds + PATIENCE_SECONDS)}:
            self._close(peer)
        if self._wanted():
            self.make_room()

    def _since(self, seconds: float) -> list[_Unread]:
        """The calls that are unread for so long, the longest first."""
        latest = self._clock() - seconds
        return list(takewhile(lambda call: call.since <= latest, self._calls))

    async def watch(self) -> None:
        """`look` again and again, for ever."""
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self._seconds / 2))
            self.look()

    def error(self) -> SilentCallError:
        """The error of a call that was ended."""
        return SilentCallError(
            f"the answers of this call were not read in time: this server keeps one for "
            f"{self._seconds:g} s, or {PATIENCE_SECONDS:g} s while others are rejected for it; "
            "send what has no answer in a new call"
        )


def _end(call: _Unread) -> None:
    if call.end is not None:
        call.end()
        call.end = None
