"""Calls of other services than the codec's, such as health and reflection.

Their streams last as long as their callers like, unless those send nothing where they should ask,
and no work is lost with them: a stop ends them, and so do other callers where all places are taken.
Their messages are short. gRPC takes any up to its limit, and knows no other limit for one service:
so few are read at once.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import grpc

from ..errors import InvalidRequestError, OverloadError, SilentCallError, StoppingError
from ..observability.calls import current_call
from ..rpc.interceptor import Reading
from ..rpc.status import abort_with
from .open_calls import PATIENCE_SECONDS, Silence, host_of

AT_ONCE: Final = 8
"""Messages of single questions that are read at once."""

MOST: Final = 128
"""Most streams of a service that are open at once, and most single questions."""

MOST_ASKING: Final = 8
"""Most streams whose callers send many messages; each may hold one that is not read to its end."""

_MOST_BYTES: Final = 4_096
"""Of a message."""

_BRIEF_SECONDS: Final = 0.5
"""How long a message may take while others wait."""

_TOKEN_SHARE: Final = 4
"""One token may have the n-th part of the open calls."""

_RETRY_SECONDS: Final = 1.0

_End = asyncio.Future[Exception]
"""What ends a stream: the error that it is given."""


class OpenStreams:
    """The open streams of one service. Where no more may be open, the caller with the most of them
    makes room for one with less than half as many, and so do connections of one caller.

    A caller is a token, or a host where there are no tokens.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
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
        if len(self._open) >= self.most:
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
    """Stands in for a server where services are added; reads their messages, and ends their calls
    when told to.

    Args:
        server: gRPC's.
        idle_seconds: how long a stream may be silent that is to send messages.
        close: closes the connection of a peer.
    """

    def __init__(
        self, server: grpc.aio.Server, idle_seconds: float, close: Callable[[str], object]
    ) -> None:
        self._server = server
        self._idle_seconds = idle_seconds
        self._close = close
        self._silence = Silence(PATIENCE_SECONDS)
        self._silence.patience = _BRIEF_SECONDS
        self._reading = Reading(self._silence, AT_ONCE)
        self._ends: set[_End] = set()
        self._over = False

    def end(self) -> None:
        """End their calls, and those that come, with UNAVAILABLE."""
        self._over = True
        for end in self._ends:
            if not end.done():
                end.set_result(StoppingError("the server is stopping"))

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Of gRPC's server."""
        self._server.add_generic_rpc_handlers([_Handlers(each, self._bounded) for each in handlers])

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Of gRPC's server, whose asyncio form has no use for it."""

    def _bounded(self, handler: Any, streams: OpenStreams) -> Any:
        """A handler whose messages are read here, and whose calls end in time."""

        async def answered(_: Any, context: Any) -> None:
            peer = context.peer()
            with self._ending(peer) as end:
                try:
                    await self._write_all(
                        streams, end, self._answers(handler, peer, context), context
                    )
                except (
                    InvalidRequestError,
                    OverloadError,
                    SilentCallError,
                    StoppingError,
                ) as error:
                    await abort_with(context, error)

        # As a stream: of other calls gRPC would read and parse the request first.
        return grpc.stream_stream_rpc_method_handler(
            answered, handler.request_deserializer, handler.response_serializer
        )

    @contextmanager
    def _ending(self, peer: str) -> Iterator[_End]:
        """What ends a call. One that does not read what it was sent cannot end: its connection is
        closed after a while.
        """
        loop = asyncio.get_running_loop()
        end: _End = loop.create_future()
        closing: list[asyncio.TimerHandle] = []

        def close_later(_: _End) -> None:
            closing.append(loop.call_later(PATIENCE_SECONDS, self._close, peer))

        end.add_done_callback(close_later)
        try:
            yield end
        finally:
            end.remove_done_callback(close_later)
            for each in closing:
                each.cancel()

    async def _write_all(
        self, streams: OpenStreams, end: _End, answers: AsyncGenerator[Any], context: Any
    ) -> None:
        """Write what a call is answered; raises the error that ends it."""
        token, peer = current_call().token, context.peer()
        most = None if token is None else streams.most // _TOKEN_SHARE
        streams.enter(token or host_of(peer) or peer, peer, end, most)
        self._ends.add(end)
        if self._over:
            self.end()
        try:
            while True:
                following = asyncio.ensure_future(anext(answers, None))
                try:
                    await asyncio.wait((following, end), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    following.cancel()
                if end.done():
                    raise end.result()
                if (answer := following.result()) is None:
                    return
                await context.write(answer)  # to its end: gRPC takes no status meanwhile
        finally:
            streams.leave(end)
            self._ends.discard(end)

    async def _answers(self, handler: Any, peer: str, context: Any) -> AsyncGenerator[Any]:
        """What a method answers to what is read of a call."""
        if handler.request_streaming:
            answers = handler.stream_stream(self._messages(context), context)
        elif handler.response_streaming:
            answers = handler.unary_stream(await self._message(context, peer), context)
        else:
            yield await handler.unary_unary(await self._message(context, peer), context)
            return
        async for answer in answers:
            yield answer

    async def _message(self, context: Any, peer: str) -> Any:
        """The message of a call. Raises InvalidRequestError and SilentCallError."""
        call = current_call()
        # Turns go by token or host, and then by connection.
        call.owner, call.number = call.token or host_of(peer) or peer, hash(peer)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                message = await self._reading.message(context, peer)
        except TimeoutError:
            raise self._silence.error("the call's message") from None
        if message is grpc.aio.EOF:  # type: ignore[attr-defined]
            raise InvalidRequestError("the call has no message")
        if (size := message.ByteSize()) > _MOST_BYTES:
            del message  # which the error's traceback would keep
            _refuse(size)
        return message

    async def _messages(self, context: Any) -> AsyncIterator[Any]:
        """The messages of a stream. Raises SilentCallError where the next one does not come."""
        silence = Silence(self._idle_seconds)
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await context.read()
            except TimeoutError:
                raise silence.error("the stream's next message") from None
            if message is grpc.aio.EOF:  # type: ignore[attr-defined]
                return
            if (size := message.ByteSize()) > _MOST_BYTES:
                del message
                _refuse(size)
            yield message


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Those of a service, each as `bounded` makes it."""

    def __init__(self, given: Any, bounded: Callable[[Any, OpenStreams], Any]) -> None:
        self._given = given
        self._bounded = bounded
        self._open: dict[bool, OpenStreams] = {}  # streams apart from single questions

    def service(self, handler_call_details: Any) -> Any:
        """Of gRPC: the handler of a call; None where the service has no such method."""
        handler = self._given.service(handler_call_details)
        if handler is None:
            return None
        most = MOST_ASKING if handler.request_streaming else MOST
        streams = self._open.setdefault(bool(handler.response_streaming), OpenStreams(most))
        return self._bounded(handler, streams)


def _refuse(size: int) -> NoReturn:
    """Refuse a message of this size. Raises InvalidRequestError."""
    raise InvalidRequestError(
        f"a message of {size:,} bytes; of this service they have at most {_MOST_BYTES:,}"
    )
