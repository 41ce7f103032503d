"""Standing between gRPC and a method, in the same way for unary and streaming methods."""

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any, Final, NoReturn, Protocol

import grpc

_CANCELLATION_SECONDS: Final = 0.005
"""From the end of a cancelled call's requests until gRPC cancels its method: as a rule below a
millisecond, or some where other programs take the cores."""

_wire_bytes: ContextVar[int] = ContextVar("wire_bytes")


def wire_bytes() -> int:
    """Bytes of the request that this task was given last, as `set_wire_bytes` says; it does for
    every request of a handler that `wrap` made.

    A message that is asked for its size is serialised for that, images and all. Raises
    LookupError where there was no request.
    """
    return _wire_bytes.get()


def set_wire_bytes(size: int) -> None:
    """Say how many bytes the request has that this task is about to answer."""
    _wire_bytes.set(size)


class CallObserver(Protocol):
    """What sees one call go by. What its methods raise ends the call in the method's place."""

    @property
    def context(self) -> Any:
        """The context that the method is given."""

    async def request(self, message: Any) -> None:
        """A request came; the method has it when this returns."""

    async def response(self, message: Any) -> None:
        """A response is about to be sent."""

    async def end(self, error: BaseException | None) -> None:
        """The method ended, with an error unless it is None."""


def wrap(
    handler: Any,
    begin: Callable[[Any], CallObserver],
    sent: Callable[[int], None] = lambda size: None,
) -> Any:
    """A handler of the same kind, with a witness `begin(context)` around each call; `sent` is told
    the bytes of every response.

    Raises TypeError for a method that writes its stream through the context; one that is an
    asynchronous generator can be wrapped.
    """

    async def one_answer(requests: Any, context: Any, method: Any, stream: bool) -> Any:
        witness = begin(context)
        try:
            if stream:
                requests = _seen(requests, witness)
            else:
                await witness.request(requests)
            response = await method(requests, witness.context)
            await witness.response(response)
        except BaseException as error:
            await witness.end(error)
            raise
        await witness.end(None)
        return response

    async def many_answers(
        requests: Any, context: Any, method: Any, stream: bool
    ) -> AsyncIterator[Any]:
        witness = begin(context)
        answered = False
        try:
            if stream:
                requests = _seen(requests, witness)
            else:
                await witness.request(requests)
            async with aclosing(method(requests, witness.context)) as responses:
                async for response in responses:
                    answered = True
                    await witness.response(response)
                    yield response
            if not answered:
                await _cancelled_unless_open(context)
        except BaseException as error:
            await witness.end(error)
            raise
        await witness.end(None)

    # gRPC tells the kinds apart by what a function is, so each needs one of its own.
    async def unary_to_unary(request: Any, context: Any) -> Any:
        return await one_answer(request, context, handler.unary_unary, False)

    async def stream_to_unary(requests: Any, context: Any) -> Any:
        return await one_answer(requests, context, handler.stream_unary, True)

    async def unary_to_stream(request: Any, context: Any) -> AsyncIterator[Any]:
        async with aclosing(many_answers(request, context, handler.unary_stream, False)) as all_:  # type: ignore[type-var]
            async for response in all_:
                yield response

    async def stream_to_stream(requests: Any, context: Any) -> AsyncIterator[Any]:
        async with aclosing(many_answers(requests, context, handler.stream_stream, True)) as all_:  # type: ignore[type-var]
            async for response in all_:
                yield response

    if handler.response_streaming:
        method = handler.stream_stream or handler.unary_stream
        if not inspect.isasyncgenfunction(method):
            raise TypeError(f"{method} is not an asynchronous generator")
    kinds: dict[tuple[bool, bool], tuple[Any, Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, unary_to_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, unary_to_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, stream_to_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, stream_to_stream),
    }
    make, wrapped = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(
        wrapped,
        _measuring(handler.request_deserializer),
        _telling(handler.response_serializer, sent),
    )


def _measuring(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """The same, in whose task `wire_bytes` is known."""

    def parsed(data: bytes) -> Any:
        set_wire_bytes(len(data))
        return data if parse is None else parse(data)

    return parsed


def _telling(
    serialise: Callable[[Any], bytes] | None, tell: Callable[[int], None]
) -> Callable[[Any], bytes]:
    """The same, that tells how many bytes it makes."""

    def serialised(message: Any) -> bytes:
        data: bytes = message if serialise is None else serialise(message)
        tell(len(data))
        return data

    return serialised


async def _seen(requests: AsyncIterable[Any], witness: CallObserver) -> AsyncIterator[Any]:
    async for request in requests:
        await witness.request(request)
        yield request
    # A method that ended in between would pass for one that ended well. What is still to be
    # answered is computed meanwhile.
    await asyncio.sleep(_CANCELLATION_SECONDS)


@contextmanager
def _over_is_cancelled() -> Iterator[None]:
    """Make the error of sending to a call that is over CancelledError."""
    try:
        yield
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error


async def _cancelled_unless_open(context: Any) -> None:
    """Raise CancelledError where a call that nothing was sent to is over.

    Where the wait of `_seen` was too short for gRPC to cancel the method, to send something tells.
    """
    with _over_is_cancelled():
        await context.send_initial_metadata(())


def refusing(refuse: Callable[[Any], Any]) -> Any:
    """A handler that awaits `refuse(context)`, which aborts, and never reads a request."""

    async def method(requests: Any, context: Any) -> AsyncIterator[Any]:
        await refuse(context)
        yield  # never reached: the yield makes a generator of this function

    # As a stream: of a unary call gRPC would read and parse the request first.
    return grpc.stream_stream_rpc_method_handler(method)


async def abort_with(context: Any, status: grpc.Status) -> NoReturn:
    """End a call with a status and its details; raises what ends its method.

    One that is over already, as at its deadline, counts as cancelled: nobody hears the status.
    """
    with _over_is_cancelled():
        await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("a call goes on after its abort")


class AnsweringContext:
    """The context of a call, whose trailing metadata always have `extra` in them."""

    def __init__(self, context: Any, extra: tuple[str, str]) -> None:
        self._context = context
        self._extra = extra
        context.set_trailing_metadata((extra,))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_trailing_metadata(self, metadata: Any) -> None:
        """As gRPC's own."""
        self._context.set_trailing_metadata((*metadata, self._extra))

    async def abort(self, code: grpc.StatusCode, details: str = "", metadata: Any = ()) -> None:
        """As gRPC's own."""
        await self._context.abort(code, details, (*metadata, self._extra))
