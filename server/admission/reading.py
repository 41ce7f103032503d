"""Messages that are read beside few others, and no longer than they may take."""

import asyncio
from typing import Any, Final

from ..engine.fairness import Turns
from .open_calls import Silence

_ROOM_SECONDS: Final = 0.5

_CALLERS: Final = 1_024
"""Callers that are remembered."""


class Reading:
    """Reads messages, and ends calls that send none while others wait.

    Args:
        silence: ends them.
        at_once: most messages that are read at once, half of them of one caller, so that one that
            is silent keeps no others waiting.
    """

    def __init__(self, silence: Silence, at_once: int) -> None:
        self._silence = silence
        self._at_once = at_once
        self._turns = Turns(at_once)
        self._making_room: asyncio.Task[None] | None = None
        self._callers: dict[str, asyncio.Semaphore] = {}

    async def message(self, context: Any, caller: str) -> Any:
        """The message of the call that this task answers, or EOF; `caller`: its token or
        connection.

        Raises:
            SilentCallError: it did not come in time.
        """
        reading = self._callers.get(caller)
        if reading is None:
            reading = self._begin(caller)
        if reading.locked():
            self._silence.make_room(caller, reading=True)
        async with reading:
            if self._making_room is None and self._turns.full:
                self._making_room = asyncio.create_task(self._make_room())
            async with self._turns.turn():
                return await self._read_unless_silent(context, caller)

    async def _make_room(self) -> None:
        """End silent calls for those that wait, while any do: none is rejected."""
        while (waiting := self._turns.waiting) > 0:
            for _ in range(min(waiting, self._at_once)):
                self._silence.make_room(reading=True)
            await asyncio.sleep(_ROOM_SECONDS)
        self._making_room = None

    def _begin(self, caller: str) -> asyncio.Semaphore:
        """What bounds the messages of a caller that are read at once."""
        if len(self._callers) >= _CALLERS:
            # Those without waiters; calls that read meanwhile keep the semaphore that they have.
            busy = {name: one for name, one in self._callers.items() if one.locked()}
            self._callers = busy
        return self._callers.setdefault(caller, asyncio.Semaphore(max(1, self._at_once // 2)))

    async def _read_unless_silent(self, context: Any, caller: str) -> Any:
        task = asyncio.current_task()
        assert task is not None
        ended = False

        def end() -> None:
            nonlocal ended
            ended = True
            task.cancel()

        over = self._silence.begin(caller, end, reading=True)
        try:
            return await context.read()
        except asyncio.CancelledError:
            if not ended:
                raise
            task.uncancel()
            raise self._silence.error("the call's message") from None
        finally:
            over()
