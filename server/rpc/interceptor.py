"""What happens to a call before its method runs: it is rejected, or its message is read.

Calls are rejected before their message is read. gRPC would read and parse a message first: under
ten times the load that the machine bears, reading alone takes more than the machine has.
Then the message of a unary call is read beside few others, and no longer than it may take. gRPC
reads such a message as far as it comes; thousands that are sent slowly would hold the server's
memory, of which no capacity knows yet.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any, Final

import grpc

from ..admission.open_calls import OpenCalls, OverloadGuard, Silence, host_of
from ..auth.access import Access
from ..engine.fairness import Turns
from ..errors import (
    InvalidRequestError,
    OverloadError,
    SilentCallError,
    StoppingError,
    UnauthenticatedError,
)
from ..observability.calls import Observation, current_call
from .status import abort_with

AT_ONCE: Final = 64
"""Messages that are read at once; each may hold as much as a message may have."""

_ROOM_SECONDS: Final = 0.5

_CALLERS: Final = 1_024
"""Callers that are remembered."""


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Begins every call; rejects those without a token, during shutdown and under overload."""

    def __init__(
        self,
        observation: Observation,
        access: Access | None,
        overload: OverloadGuard,
        silence: Silence,
        open_calls: OpenCalls,
    ) -> None:
        self._observation = observation
        self._access = access
        self._overload = overload
        self._reader = _UnaryReader(silence, open_calls)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Of gRPC: the handler of a call."""
        observed = self._observation.begin(details.method, details.invocation_metadata)
        try:
            if self._access is not None:
                self._access.check(details.method, details.invocation_metadata)
            handler = await continuation(details)
            if handler is None:
                return None
            self._overload.check(details.method, stream=bool(handler.response_streaming))
        except (UnauthenticatedError, StoppingError, OverloadError) as error:
            return self._rejecting(error, observed=observed)
        if handler.request_streaming or handler.response_streaming:
            return handler
        return self._reader.reading(handler)

    def _rejecting(self, error: Exception, *, observed: bool) -> Any:
        """A handler that never reads a request."""

        async def method(requests: Any, context: Any) -> AsyncIterator[Any]:
            with self._observation.observe(context) if observed else nullcontext():
                await abort_with(context, error)
            yield  # type: ignore[unreachable]  # which makes a generator of this function

        # As a stream: of a unary call gRPC would read and parse the request first.
        return grpc.stream_stream_rpc_method_handler(method)


class _UnaryReader:
    """Reads the messages of unary calls, and ends calls that send none."""

    def __init__(self, silence: Silence, open_calls: OpenCalls) -> None:
        self._open_calls = open_calls
        self._reading = Reading(silence, AT_ONCE)

    def reading(self, handler: Any) -> Any:
        """A handler that reads the message and calls the method of `handler`."""

        async def received(_: Any, context: Any) -> Any:
            call, peer = current_call(), context.peer()
            call.owner = call.token or peer
            try:
                self._open_calls.enter_host(host_of(peer), stream=False)
                message = await self._reading.message(context, call.owner)
            except (OverloadError, SilentCallError) as error:
                await abort_with(context, error)
            if message is grpc.aio.EOF:  # type: ignore[attr-defined]
                await abort_with(context, InvalidRequestError("the call has no message"))
            return await handler.unary_unary(message, context)

        return grpc.stream_unary_rpc_method_handler(
            received, handler.request_deserializer, handler.response_serializer
        )


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
