"""Calls whose caller is silent: it opened them, and their next message does not come.

Such a call costs the server a place among those that may be open. So it ends after a while, and
soon where others are refused for want of a place.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..errors import SilentCallError

_LOOK_SECONDS: Final = 1.0

PATIENCE_SECONDS: Final = 5.0
"""How long a call may be silent while others are refused."""


@dataclass(eq=False)
class _Silent:
    owner: str | None
    since: float
    end: Callable[[], object]
    reading: bool


class Silence:
    """The calls that are silent at the moment, the longest silent first.

    Args:
        seconds: how long a call may be silent.
        clock: seconds that only grow.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._calls: dict[_Silent, None] = {}

    def begin(
        self, owner: str | None, end: Callable[[], object], *, reading: bool = False
    ) -> Callable[[], object]:
        """A call of an owner is silent from now on; returns what says that it is no more.

        `end` ends the call; it is called once at most. `reading`: it is a call of one message,
        which is being read, not a stream.
        """
        call = _Silent(owner, self._clock(), end, reading)
        self._calls[call] = None
        return lambda: self._calls.pop(call, None)

    def make_room(self, owner: str | None = None, *, reading: bool = False) -> None:
        """End the longest silent call of a kind, of this owner alone unless that is None, if it was
        silent longer than patience lasts. `reading` as for `begin`.
        """
        latest = self._clock() - PATIENCE_SECONDS
        for call in list(self._calls):
            if call.since > latest:
                return
            if call.reading == reading and owner in (None, call.owner):
                self._end(call)
                return

    def look(self) -> None:
        """End the calls that have been silent for too long."""
        latest = self._clock() - self.seconds
        for call in list(self._calls):
            if call.since > latest:
                return
            self._end(call)

    async def watch(self) -> None:
        """`look` again and again, for ever."""
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self.seconds / 2))
            self.look()

    def error(self, since: str) -> SilentCallError:
        """The error of a call that was ended; `since` says what did not come."""
        return SilentCallError(
            f"{since} did not come in time: this server waits {self.seconds:g} s for it, or "
            f"{PATIENCE_SECONDS:g} s while others wait for a place; send it in a new call"
        )

    def _end(self, call: _Silent) -> None:
        del self._calls[call]
        call.end()
