"""A channel of gRPC's asyncio side that may be made before there is an event loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from hvae_codec.errors import HvaeCodecError


class LoopChannel:
    """Opens the channel at the first call, in the event loop that runs then and for that one alone.

    gRPC would take another loop where none runs, and its calls would never end or fail obscurely.
    """

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel]) -> None:
        self._open_channel = open_channel
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # What generated stubs call, with what they give.
    def unary_unary(self, *given: Any, **named: Any) -> Callable[..., Any]:
        """As gRPC's own."""
        return self._method(lambda channel: channel.unary_unary(*given, **named))

    def stream_stream(self, *given: Any, **named: Any) -> Callable[..., Any]:
        """As gRPC's own."""
        return self._method(lambda channel: channel.stream_stream(*given, **named))

    async def close(self) -> None:
        """Close it, if it was opened; the loop in which it was may have ended."""
        if self._channel is None or self._loop is None or self._loop.is_closed():
            return
        await self._here().close(None)

    def _method(self, make: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
        made: list[Callable[..., Any]] = []

        def call(*given: Any, **named: Any) -> Any:
            channel = self._here()
            if not made:
                made.append(make(channel))
            return made[0](*given, **named)

        return call

    def _here(self) -> grpc.aio.Channel:
        """The channel in the running event loop. Raises HvaeCodecError where that is another."""
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._channel, self._loop = self._open_channel(), loop
        if self._loop is not loop:
            raise HvaeCodecError(
                "this AsyncClient has made calls in another event loop: make one for each loop, "
                "inside of what asyncio.run is given"
            )
        return self._channel
