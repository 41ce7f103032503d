"""Reading the message of a call of one message: few at once, and no longer than it may take.

gRPC reads such a message before it asks anybody, as far as it comes; thousands that are sent
slowly would hold the server's memory, of which no capacity knows yet.
"""

import asyncio
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from ..engine.fairness import Turns
from ..errors import InvalidRequestError
from ..observability.call_context import current_call
from ..rpc.status import abort_with
from .silence import PATIENCE_SECONDS, Silence

AT_ONCE: Final = 64
"""Messages that are read at once; each may hold as much as a message may have."""

_OF_CALLER: Final = AT_ONCE // 2
"""Those of one token or connection, lest silence of one keeps the others waiting."""

_ROOM_SECONDS: Final = 0.5

_CALLERS: Final = 1_024
"""Callers that are remembered."""


class ReceivingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """The outermost of all: reads messages for the methods, and ends calls that send none.

    Calls of other services are not queued, and send their message at once.
    """

    def __init__(self, service: ServiceDescriptor, silence: Silence) -> None:
        self._prefix = f"/{service.full_name}/"
        self._silence = silence
        self._turns = Turns(AT_ONCE)
        self._making_room: asyncio.Task[None] | None = None
        self._callers: dict[str, asyncio.Semaphore] = {}

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Of gRPC: the handler of a call."""
        handler = await continuation(details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        read = self._read_in_turn if details.method.startswith(self._prefix) else self._read

        async def received(_: Any, context: Any) -> Any:
            message = await read(context)
            if message is grpc.aio.EOF:  # type: ignore[attr-defined]
                await abort_with(context, InvalidRequestError("the call has no message"))
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
        call = current_call()
        name = call.owner = call.token or context.peer()
        reading = self._callers.get(name)
        if reading is None:
            reading = self._begin(name)
        if reading.locked():
            self._silence.make_room(name, reading=True)
        async with reading:
            if self._making_room is None and self._turns.full:
                self._making_room = asyncio.create_task(self._make_room())
            async with self._turns.turn():
                return await self._read_unless_silent(context, name)

    async def _make_room(self) -> None:
        """End silent calls for those that wait, while any do: none is told to come back."""
        while (waiting := self._turns.waiting) > 0:
            for _ in range(min(waiting, AT_ONCE)):
                self._silence.make_room(reading=True)
            await asyncio.sleep(_ROOM_SECONDS)
        self._making_room = None

    def _begin(self, name: str) -> asyncio.Semaphore:
        """What bounds the messages of a caller that are read at once."""
        if len(self._callers) >= _CALLERS:
            # Those without waiters; calls that read meanwhile keep the semaphore that they have.
            busy = {name: one for name, one in self._callers.items() if one.locked()}
            self._callers = busy
        return self._callers.setdefault(name, asyncio.Semaphore(_OF_CALLER))

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
            await self._give_up(context)
        finally:
            over()

    async def _give_up(self, context: Any) -> NoReturn:
        await abort_with(context, self._silence.error("the call's message"))
