"""Standing between gRPC and a method: one shape for unary and streaming methods alike.

Whatever its kind, a call is an iterator of requests that becomes an iterator of responses; a unary
side has exactly one.
"""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]
Proceed = Callable[[AsyncIterable[Any], Any], AsyncIterator[Any]]
"""Requests and context to responses: the method itself."""

Around = Callable[[AsyncIterable[Any], Any, Proceed], AsyncIterator[Any]]
"""The same with the method as a further argument: what stands around it."""


def wrap(handler: Any, around: Around) -> Any:
    """A handler of the same kind that runs `around` with the method of `handler` inside.

    Raises TypeError for a method that writes its stream through the context; one that is an
    asynchronous generator can be wrapped.
    """
    proceed = _as_streams(handler)

    async def unary_to_unary(request: Any, context: Any) -> Any:
        [response] = [each async for each in around(_one(request), context, proceed)]
        return response

    async def unary_to_stream(request: Any, context: Any) -> AsyncIterator[Any]:
        async with aclosing(around(_one(request), context, proceed)) as responses:  # type: ignore[type-var]
            async for response in responses:
                yield response

    async def stream_to_unary(requests: Any, context: Any) -> Any:
        [response] = [each async for each in around(requests, context, proceed)]
        return response

    async def stream_to_stream(requests: Any, context: Any) -> AsyncIterator[Any]:
        async with aclosing(around(requests, context, proceed)) as responses:  # type: ignore[type-var]
            async for response in responses:
                yield response

    kinds: dict[tuple[bool, bool], tuple[Any, Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, unary_to_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, unary_to_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, stream_to_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, stream_to_stream),
    }
    make, method = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(method, handler.request_deserializer, handler.response_serializer)


def refusing(refuse: Callable[[Any], Any]) -> Any:
    """A handler that awaits `refuse(context)`, which aborts, and never reads a request."""

    async def method(requests: Any, context: Any) -> AsyncIterator[Any]:
        await refuse(context)
        yield  # never reached: the yield makes a generator of this function

    # As a stream: of a unary call gRPC would read and parse the request first.
    return grpc.stream_stream_rpc_method_handler(method)


async def _one(request: Any) -> AsyncIterator[Any]:
    yield request


def _as_streams(handler: Any) -> Proceed:
    """The method of `handler` as a function of iterators."""
    if handler.response_streaming:
        method = handler.stream_stream if handler.request_streaming else handler.unary_stream
        if not inspect.isasyncgenfunction(method):
            raise TypeError(f"{method} is not an asynchronous generator")
    else:
        method = handler.stream_unary if handler.request_streaming else handler.unary_unary

    async def proceed(requests: AsyncIterable[Any], context: Any) -> AsyncIterator[Any]:
        argument: Any = requests
        if not handler.request_streaming:
            argument = await anext(aiter(requests))
        if not handler.response_streaming:
            yield await method(argument, context)
            return
        async with aclosing(method(argument, context)) as responses:
            async for response in responses:
                yield response

    return proceed


class AnsweringContext:
    """The context of a call, whose trailing metadata always have `extra` in them."""

    def __init__(self, context: Any, extra: tuple[str, str]) -> None:
        self._context = context
        self._extra = extra
        self.set_trailing_metadata(())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_trailing_metadata(self, metadata: Any) -> None:
        """As gRPC's own."""
        self._context.set_trailing_metadata((*metadata, self._extra))

    async def abort(self, code: grpc.StatusCode, details: str = "", metadata: Any = ()) -> None:
        """As gRPC's own."""
        await self._context.abort(code, details, (*metadata, self._extra))
