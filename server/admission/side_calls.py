"""Streams of other services than the codec's, such as health and reflection.

They last as long as their callers like, unless those send nothing where they should ask, and no
work is lost with them: a stop ends them, and so do other callers where all places are taken.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import grpc

from ..errors import OverloadError, SilentCallError, StoppingError
from ..observability.calls import current_call
from ..rpc.status import abort_with
from .open_calls import Silence, host_of

_MOST: Final = 128
"""Most streams of each service."""

_TOKEN_SHARE: Final = 4
"""One token may have the n-th part of them."""

_RETRY_SECONDS: Final = 1.0

_End = asyncio.Future[Exception]
"""What ends a stream: the error that it is given."""


class OpenStreams:
    """The open streams of one service. Where no more may be open, the caller with the most of them
    makes room for one with less than half as many, and so do connections of one caller.

    A caller is a token, or a host where there are no tokens.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._open: dict[_End, tuple[str, str]] = {}  # caller and connection, the oldest first

    def enter(self, caller: str, peer: str, end: _End, most: int | None = None) -> None:
        """Count a stream of a caller, until `leave` or until `end` gets an error. `peer`: its
        connection; `most`: most streams of this caller.

        Raises OverloadError.
        """
        own = sum(caller == other for other, _ in self._open.values())
        if most is not None and own >= most:
            raise OverloadError(
                f"this token has {own:,} streams of this service open, as many as it may have; end "
                f"some, or try again in {_RETRY_SECONDS:g} s",
                _RETRY_SECONDS,
            )
        if len(self._open) >= self._most:
            self._make_room(caller, peer)
        self._open[end] = caller, peer

    def leave(self, end: _End) -> None:
        """Count a stream less; again, it does nothing."""
        self._open.pop(end, None)

    def _make_room(self, caller: str, peer: str) -> None:
        """End the oldest stream of who has the most; raises OverloadError where who gets another
        would have more than half as many.
        """
        callers = Counter(of for of, _ in self._open.values())
        of, most = callers.most_common(1)[0]
        if most < 2 * (callers[caller] + 1):
            of = caller
        peers = Counter(each for other, each in self._open.values() if other == of)
        if not peers or (of == caller and max(peers.values()) < 2 * (peers[peer] + 1)):
            raise OverloadError(
                f"{len(self._open):,} streams of this service are open, as many as this server has "
                f"at once; try again in {_RETRY_SECONDS:g} s",
                _RETRY_SECONDS,
            )
        greatest = of, peers.most_common(1)[0][0]
        end = next(end for end, each in self._open.items() if each == greatest)
        self.leave(end)
        if end.done():  # the server stops
            return
        end.set_result(
            OverloadError(
                f"this stream made room for another caller, since its own had {most:,} open; open "
                "it again",
                _RETRY_SECONDS,
            )
        )


class SideCalls:
    """Stands in for a server where services are added; ends their streams when told to.

    Args:
        server: gRPC's.
        idle_seconds: how long a stream may be silent that is to send messages.
    """

    def __init__(self, server: grpc.aio.Server, idle_seconds: float) -> None:
        self._server = server
        self._idle_seconds = idle_seconds
        self._ends: set[_End] = set()
        self._over = False

    def end(self) -> None:
        """End their streams, and those that come, with UNAVAILABLE."""
        self._over = True
        for end in self._ends:
            if not end.done():
                end.set_result(StoppingError("the server is stopping"))

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Of gRPC's server."""
        self._server.add_generic_rpc_handlers(
            [_Handlers(each, partial(self._ending, OpenStreams())) for each in handlers]
        )

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Of gRPC's server, whose asyncio form has no use for it."""

    def _ending(self, streams: OpenStreams, handler: Any) -> Any:
        """A handler whose streams end in time."""
        if handler is None or not handler.response_streaming:
            return handler
        method = handler.stream_stream or handler.unary_stream

        async def answered(requests: Any, context: Any) -> None:
            if handler.request_streaming:
                requests = self._in_time(requests)
            try:
                await self._until_over(
                    streams, partial(_answer, method, requests, context), context
                )
            except (OverloadError, SilentCallError, StoppingError) as error:
                await abort_with(context, error)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(answered, handler.request_deserializer, handler.response_serializer)

    async def _until_over(
        self, streams: OpenStreams, answer: Callable[[], Awaitable[None]], context: Any
    ) -> None:
        """Answer a stream; raises the error that ends it."""
        end: _End = asyncio.get_running_loop().create_future()
        token = current_call().token
        peer = context.peer()
        most = None if token is None else _MOST // _TOKEN_SHARE
        streams.enter(token or host_of(peer) or peer, peer, end, most)
        self._ends.add(end)
        if self._over:
            self.end()
        answering = asyncio.ensure_future(answer())
        try:
            await asyncio.wait((answering, end), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
                return
        finally:
            answering.cancel()
            streams.leave(end)
            self._ends.discard(end)
        await asyncio.wait((answering,))  # or it might still write after the status
        raise end.result()

    async def _in_time(self, requests: Any) -> AsyncIterator[Any]:
        """The messages of a stream. Raises SilentCallError where the next one does not come."""
        silence = Silence(self._idle_seconds)
        following = aiter(requests)
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    request = await anext(following, None)
            except TimeoutError:
                raise silence.error("the stream's next message") from None
            if request is None:
                return
            yield request


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Those of a service, each as `change` makes it."""

    def __init__(self, given: Any, change: Callable[[Any], Any]) -> None:
        self._given = given
        self._change = change

    def service(self, handler_call_details: Any) -> Any:
        """Of gRPC: the handler of a call; None where the service has no such method."""
        return self._change(self._given.service(handler_call_details))


async def _answer(method: Any, requests: Any, context: Any) -> None:
    """What a method does, whether it is a generator of its answers or writes them itself."""
    if not inspect.isasyncgenfunction(method):
        await method(requests, context)
        return
    async for response in method(requests, context):
        await context.write(response)
