"""How many calls may be open at once: in all, and of one caller, streams apart from other calls.

gRPC's own bound counts calls of all kinds and callers together, health included, and refuses
without saying when to come back.
"""

import asyncio
from typing import Final

from ..errors import OverloadError
from ..settings import OpenLimits
from .silence import Silence

_RETRY_SECONDS: Final = 1.0
"""When to come back: nothing says when calls that are open will end."""

_CALLER_SHARE: Final = 4
"""The n-th part of the places that one caller may have, where nothing else is said of it."""


class OpenCalls:
    """Counts open calls; one lasts until its task has ended, and so until its answer was taken."""

    def __init__(self, limits: OpenLimits, silence: Silence) -> None:
        self._most = {False: limits.calls, True: limits.streams}
        self._silence = silence
        self._open = {False: 0, True: 0}
        self._of_caller: dict[tuple[str, bool], int] = {}

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return self._open[True]

    def enter(self, caller: str | None, most: int | None = None, *, stream: bool) -> None:
        """Count the call that this task answers.

        Args:
            caller: who calls; None where the server does not tell callers apart.
            most: most streams of the caller; None: a quarter of all.

        Raises:
            OverloadError: as many are open as may be.
        """
        kind = "streams" if stream else "calls"
        if self._open[stream] >= self._most[stream]:
            self._silence.make_room(reading=not stream)
            raise OverloadError(
                f"{self._open[stream]:,} {kind} are open, as many as this server has at once; try "
                f"again in {_RETRY_SECONDS:g} s",
                _RETRY_SECONDS,
            )
        if caller is not None:
            share = max(1, self._most[stream] // _CALLER_SHARE)
            most = min(self._most[stream], most) if stream and most is not None else share
            own = self._of_caller.get((caller, stream), 0)
            if own >= most:
                self._silence.make_room(caller, reading=not stream)
                raise OverloadError(
                    f"this token has {own:,} {kind} open, as many as it may have; end some, or try "
                    f"again in {_RETRY_SECONDS:g} s",
                    _RETRY_SECONDS,
                )
            self._of_caller[caller, stream] = own + 1
        self._open[stream] += 1
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self._leave(caller, stream))

    def _leave(self, caller: str | None, stream: bool) -> None:
        self._open[stream] -= 1
        if caller is not None:
            left = self._of_caller.pop((caller, stream)) - 1
            if left:
                self._of_caller[caller, stream] = left
