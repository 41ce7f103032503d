"""The messages of one stream, read one at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from ..admission.open_calls import Silence
from ..errors import SilentCallError

Arrived = TypeVar("Arrived")

_CANCELLATION_SECONDS: Final = 0.005
"""From the end of a cancelled call's requests until gRPC cancels its method: as a rule below a
millisecond, or some where other programs take the cores."""


class MessageReader(Generic[Arrived]):
    """Reads until the caller ends the stream, the server stops, or the caller is silent: it has
    taken all answers and sends nothing, or messages without work.

    Args:
        messages: of the stream.
        stopping: set when the server stops.
        silence: says when a caller has been silent for too long.
        owner: whose stream it is.
        arrived: what it makes of a message is what `next` returns; then the next one is read.
        has_work: whether a message asks for anything.
    """

    def __init__(
        self,
        messages: AsyncIterator[Any],
        stopping: asyncio.Event,
        silence: Silence,
        owner: str | None,
        arrived: Callable[[Any], Awaitable[Arrived]],
        has_work: Callable[[Any], bool] = lambda message: True,
    ) -> None:
        self._messages = messages
        self._stopping = stopping
        self._silence = silence
        self._owner = owner
        self._arrived = arrived
        self._has_work = has_work
        self._silent_too_long = asyncio.Event()
        self._over: Callable[[], object] | None = None
        self._unanswered: deque[bool] = deque()  # whether they have work
        self._closed = False

    async def next(self) -> Arrived | None:
        """The next message; None where there is none, or the server is stopping.

        Raises:
            SilentCallError: it does not come.
        """
        if self._stopping.is_set():
            return None
        if self._silent_too_long.is_set():
            raise self._error()
        events = self._stopping, self._silent_too_long
        following = asyncio.ensure_future(self._read())
        others = [asyncio.ensure_future(event.wait()) for event in events]
        self._note_silence()
        try:
            await asyncio.wait((following, *others), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                return following.result()
            if self._silent_too_long.is_set():
                raise self._error()
            return None
        finally:
            for other in others:
                other.cancel()
            if not following.done():
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following

    def answered(self) -> None:
        """Note that the caller has taken the answer of a message."""
        self._unanswered.popleft()
        self._note_silence()

    def close(self) -> None:
        """Say that no more is read: the stream is silent no more."""
        self._closed = True
        self._note_silence()

    def _error(self) -> SilentCallError:
        return self._silence.error("the stream's next message")

    async def _read(self) -> Arrived | None:
        message = await anext(self._messages, None)
        if message is None:
            self.close()
            # A method that ended meanwhile would pass for one that ended well. What is still to be
            # answered is computed in between.
            await asyncio.sleep(_CANCELLATION_SECONDS)
            return None
        self._unanswered.append(self._has_work(message))
        self._note_silence()  # a caller that waits for its token's quota is not silent
        return await self._arrived(message)

    def _note_silence(self) -> None:
        silent = not self._closed and not any(self._unanswered)
        if silent and self._over is None:
            self._over = self._silence.begin(self._owner, self._silent_too_long.set)
        elif not silent and self._over is not None:
            self._over()
            self._over = None
