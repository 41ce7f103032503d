"""Who may have an image in work at the status page, and for how long without a byte of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from aiohttp import web

from ..admission.open_calls import Silence
from ..errors import OverloadError

_MOST: Final = 4
"""Images in work at once: their files, their computing, and their answers until they have left."""

_OF_CALLER: Final = 3
"""Those of one token, or host where there are no tokens, so that one leaves some to others."""

_SECONDS: Final = 30.0
"""Longest time for a file to come, and for an answer to leave."""

_RETRY_SECONDS: Final = 1.0


class Uploads:
    """The images that are in work. Where no more may be, the longest silent makes room: its caller
    neither sends the file nor reads the answer.
    """

    def __init__(self) -> None:
        self._silence = Silence(_SECONDS)
        self._of_caller: Counter[str | None] = Counter()

    @contextmanager
    def one(self, caller: str | None) -> Iterator[None]:
        """Count an image of a token or host. Raises OverloadError where no more may be in work."""
        own = self._of_caller[caller]
        if self._of_caller.total() >= _MOST or own >= _OF_CALLER:
            self._silence.make_room(caller if own >= _OF_CALLER else None, reading=True)
            most, whose = (own, "of this caller ") if own >= _OF_CALLER else (_MOST, "")
            raise OverloadError(
                f"{most} images {whose}are in work, the most at once; try again", _RETRY_SECONDS
            )
        self._of_caller[caller] += 1
        try:
            yield
        finally:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]

    async def read(self, request: web.Request, caller: str | None) -> bytes:
        """The file. Raises TimeoutError where it does not come in time."""
        async with self._in_time(caller):
            return await request.read()

    async def send(
        self, request: web.Request, caller: str | None, response: web.Response
    ) -> web.Response:
        """Send the answer, and close the connection where it is not read in time."""
        try:
            with suppress(ConnectionError):
                async with self._in_time(caller):
                    await response.prepare(request)
                    await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        return response

    @asynccontextmanager
    async def _in_time(self, caller: str | None) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_SECONDS) as limit:
            over: Callable[[], object] = self._silence.begin(
                caller, lambda: limit.reschedule(loop.time()), reading=True
            )
            try:
                yield
            finally:
                over()
