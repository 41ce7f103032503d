"""Streams of other services than the codec's, such as health and reflection: a stop ends them.

They last as long as their callers like, and no work is lost with them.
"""

import asyncio
import inspect
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from ..errors import StoppingError
from ..rpc.status import abort_with


class SideCalls(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Ends the streams of all services but one, when it is told to."""

    def __init__(self, service: ServiceDescriptor) -> None:
        self._prefix = f"/{service.full_name}/"
        self._over = asyncio.Event()

    def end(self) -> None:
        """End their streams, and those that come, with UNAVAILABLE."""
        self._over.set()

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Of gRPC: the handler of a call."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(self._prefix):
            return handler
        if not handler.response_streaming:
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


async def _answer(method: Any, requests: Any, context: Any) -> None:
    """What a method does, whether it is a generator of its answers or writes them itself."""
    if not inspect.isasyncgenfunction(method):
        await method(requests, context)
        return
    async for response in method(requests, context):
        await context.write(response)
