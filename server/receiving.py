"""Reading the message of a call of one message: few at once, and no longer than it may take.

gRPC reads such a message before it asks anybody, as far as it comes; thousands that are sent
slowly would hold the server's memory, of which no capacity knows yet.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from .calls_seen import current_call
from .interception import abort_with
from .silence import PATIENCE_SECONDS, Silence
from .status import InvalidRequestError, status_of

AT_ONCE: Final = 64
"""Messages that are read at once; each may hold as much as a message may have."""

_OF_CALLER: Final = AT_ONCE // 2
"""Those of one token or connection, lest silence of one keeps the others waiting."""


class ReceivingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """The outermost of all: reads messages for the methods, and ends calls that send none.

    Calls of other services than this one wait for nobody, and send their message at once.
    """

    def __init__(self, service: ServiceDescriptor, silence: Silence) -> None:
        self._prefix = f"/{service.full_name}/"
        self._silence = silence
        self._all = asyncio.Semaphore(AT_ONCE)
        self._callers: dict[str, _Caller] = {}

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Of gRPC: the handler of a call."""
        handler = await continuation(details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        read = self._read_in_turn if details.method.startswith(self._prefix) else self._read

        async def received(_: Any, context: Any) -> Any:
            message = await read(context)
            if message is grpc.aio.EOF:  # type: ignore[attr-defined]
                await abort_with(context, status_of(InvalidRequestError("the call has no message")))
            return await handler.unary_unary(message, context)

        return grpc.stream_unary_rpc_method_handler(
            received, handler.request_deserializer, handler.response_serializer
        )

    async def _read(self, context: Any) -> Any:
        """The message of a call that sends it at once."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await context.read()
        except TimeoutError:
            await self._give_up(context)

    async def _read_in_turn(self, context: Any) -> Any:
        """The message of a call, read beside few others."""
        caller = current_call().token or context.peer()
        task = asyncio.current_task()
        assert task is not None
        ended = False

        def end() -> None:
            nonlocal ended
            ended = True
            task.cancel()

        async with self._turn(caller):
            over = self._silence.begin(caller, end)
            try:
                return await context.read()
            except asyncio.CancelledError:
                if not ended:
                    raise
                task.uncancel()
                await self._give_up(context)
            finally:
                over()

    async def _give_up(self, context: Any) -> NoReturn:
        await abort_with(context, status_of(self._silence.error("the call's message")))

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """One of the places of those that are read."""
        caller = self._callers.setdefault(name, _Caller())
        caller.calls += 1
        try:
            if caller.reading.locked():
                self._silence.make_room(name)
            async with caller.reading:
                if self._all.locked():
                    self._silence.make_room()
                async with self._all:
                    yield
        finally:
            caller.calls -= 1
            if caller.calls == 0:
                del self._callers[name]


class _Caller:
    """Who reads now, of one token or connection."""

    def __init__(self) -> None:
        self.calls = 0
        self.reading = asyncio.Semaphore(_OF_CALLER)
