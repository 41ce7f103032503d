"""Streams of other services than the codec's, such as health and reflection: a stop ends them.

They last as long as their callers like, and no work is lost with them.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from ..errors import StoppingError
from ..rpc.status import abort_with


class SideCalls:
    """Stands in for a server where services are added; ends their streams when told to."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self._over = asyncio.Event()

    def end(self) -> None:
        """End their streams, and those that come, with UNAVAILABLE."""
        self._over.set()

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Of gRPC's server."""
        self._server.add_generic_rpc_handlers([_Handlers(each, self._ending) for each in handlers])

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Of gRPC's server, whose asyncio form has no use for it."""

    def _ending(self, handler: Any) -> Any:
        """A handler whose streams end in time."""
        if handler is None or not handler.response_streaming:
            return handler
        method = handler.stream_stream or handler.unary_stream

        async def answered(requests: Any, context: Any) -> None:
            await self._until_over(method, requests, context)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(answered, handler.request_deserializer, handler.response_serializer)

    async def _until_over(self, method: Any, requests: Any, context: Any) -> None:
        answering = asyncio.ensure_future(_answer(method, requests, context))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((answering, over), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
                return
        finally:
            over.cancel()
            answering.cancel()
        await asyncio.wait((answering,))  # or it might still write after the status
        await abort_with(context, StoppingError("the server is stopping"))


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
