"""Who may call: bearer tokens at the door of every method, and what each token may have at once."""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final

import grpc
from grpc_health.v1 import health

from ..errors import TokenLimitError, UnauthenticatedError
from ..observability.call_context import current_call
from ..rpc.interceptors import abort_with, refusing, wrap
from ..rpc.messages import items_of
from ..rpc.status import status_of
from .tokens import Token, TokenFile

_OPEN_SERVICES: Final = (f"/{health.SERVICE_NAME}/",)
"""Methods that need no token: probes have none."""

_BUSY_SECONDS: Final = 0.5
"""When to come back where nothing says when calls in flight will end."""

_NO_TOKEN: Final = (
    "this server wants a token that it knows: send the metadata `authorization: Bearer TOKEN`"
)


class Usage:
    """What one token has in flight, and how many requests it may still begin.

    Requests are counted by a bucket that holds those of one second and fills at that rate.
    """

    def __init__(self) -> None:
        self._items = 0
        self._begun = 0.0  # requests in the bucket that are used up
        self._looked = time.monotonic()
        self._freed = asyncio.Event()

    def take(self, token: Token, items: int) -> None:
        """Begin a request of so many items.

        Raises:
            TokenLimitError: not now, or, with `retry_seconds` None, never.
        """
        wait = self._wait(token)
        if wait > 0:
            raise TokenLimitError(
                f"this token may begin {token.max_requests:,} requests a second", wait
            )
        most = token.max_items
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

    def _wait(self, token: Token) -> float:
        """Seconds until another request may begin."""
        if token.max_requests is None:
            return 0.0
        now = time.monotonic()
        self._begun = max(0.0, self._begun - (now - self._looked) * token.max_requests)
        self._looked = now
        return max(0.0, self._begun + 1 - token.max_requests) / token.max_requests

    async def take_in_turn(self, token: Token, items: int) -> None:
        """Begin a request as soon as it may; for streams, which are read no faster than that.

        Raises:
            TokenLimitError: it never may.
        """
        while True:
            try:
                return self.take(token, items)
            except TokenLimitError as error:
                if error.retry_seconds is None:
                    raise
                self._freed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(error.retry_seconds):
                        await self._freed.wait()

    def release(self, items: int) -> None:
        """End a request of so many items."""
        self._items -= items
        self._freed.set()


class Access:
    """Finds the token of a call, and keeps what each has in use, whatever else the file changes."""

    def __init__(self, file: TokenFile) -> None:
        self._file = file
        self._usage: dict[str, Usage] = {}

    def token_of(self, authorizations: list[str]) -> Token:
        """The token of a call with these values of `authorization`.

        Raises:
            UnauthenticatedError: there is none, more than one, or the server does not know it.
        """
        # A call without any is compared like the others.
        value = authorizations[0] if len(authorizations) == 1 else ""
        scheme, _, presented = value.partition(" ")
        token = self._file.tokens.find(presented.strip())
        if token is None or scheme.lower() != "bearer":
            raise UnauthenticatedError(_NO_TOKEN)
        return token

    def usage_of(self, token: Token) -> Usage:
        """What the token has in use."""
        return self._usage.setdefault(token.name, Usage())


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets calls through that have a token, as far as it reaches. Health needs none."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Of gRPC: the handler of a call."""
        if details.method.startswith(_OPEN_SERVICES):
            return await continuation(details)
        try:
            token = self._access.token_of(authorizations(details.invocation_metadata))
        except UnauthenticatedError as error:
            status = status_of(error)
            return refusing(lambda context: abort_with(context, status))
        call = current_call()
        call.token, call.most_streams = token.name, token.max_streams
        handler = await continuation(details)
        if handler is None:
            return None
        usage = self._access.usage_of(token)

        streaming = bool(handler.request_streaming)
        return wrap(handler, lambda context: _Admitted(context, token, usage, streaming))


class _Admitted:
    """A call whose requests are counted among what its token has in use."""

    def __init__(self, context: Any, token: Token, usage: Usage, streaming: bool) -> None:
        self.context = context
        self._token = token
        self._usage = usage
        self._streaming = streaming
        self._taken: deque[int] = deque()

    async def request(self, message: Any) -> None:
        items = items_of(message)
        if self._streaming:
            await self._usage.take_in_turn(self._token, items)
        else:
            self._usage.take(self._token, items)
        self._taken.append(items)

    async def response(self, message: Any) -> None:
        if self._taken:
            self._usage.release(self._taken.popleft())

    async def end(self, error: BaseException | None) -> None:
        self._usage.release(sum(self._taken))
        if isinstance(error, TokenLimitError):
            await abort_with(self.context, status_of(error))


def authorizations(metadata: Any) -> list[str]:
    """The values of `authorization` in the metadata of a call."""
    return [value for key, value in metadata if key == "authorization"]
