"""A port of HTTP in the event loop of the gRPC server: foreign hosts, certificates, idle callers.

The status page has one, and so has the service.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from operator import attrgetter
from typing import Any, Final

from aiohttp import web

from ..auth.tls import Tls
from ..listening import is_loopback
from .connection import HEAD_BYTES, Connection, Refuse
from .handshake import Handshakes

_IDLE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0
_ENDING_SECONDS: Final = 1.0
_BACKLOG: Final = 128


class HttpPort:
    """Serves an application.

    Args:
        app: with all its routes.
        refused: makes the answer to a request that `app` does not see.
        tls: serve https.
        connections: most connections without a request, and most whose TLS begins.
    """

    def __init__(
        self,
        app: web.Application,
        refused: Refuse,
        tls: Tls | None,
        connections: int,
    ) -> None:
        self._app = app
        self._refused = refused
        self._tls = tls
        self._connections = connections
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._handshakes: Handshakes | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> str:
        """Bind and serve; returns the URL. Raises OSError where that is not possible."""
        only_here = is_loopback(host)

        @web.middleware
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            # Reject foreign Host headers (DNS rebinding).
            if only_here and not is_loopback(_hostname(request.host)):
                return self._refused(HTTPStatus.MISDIRECTED_REQUEST, "not this host")
            head = sum(len(name) + len(value) for name, value in request.raw_headers)
            if head > HEAD_BYTES:
                text = f"headers of {head:,} bytes; allowed are {HEAD_BYTES:,}"
                return self._refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
            connection = _connection_of(request)
            connection.begin()
            try:
                response: web.StreamResponse = await handler(request)
            finally:
                connection.end()
            return response

        async def begin_answer(request: web.Request, response: web.StreamResponse) -> None:
            _connection_of(request).begin_answer(response)

        self._app.middlewares.insert(0, guard)
        self._app.on_response_prepare.append(begin_answer)
        self._runner = web.AppRunner(
            self._app,
            handler_cancellation=True,  # of who closed the connection
            shutdown_timeout=_ENDING_SECONDS,
        )
        await self._runner.setup()
        await self._listen(host, port, reuse_port=reuse_port)
        self._watching = asyncio.create_task(self._close_idle())
        assert self._listening is not None
        port = self._listening.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{shown}:{port}/"

    async def _listen(self, host: str, port: int, *, reuse_port: bool) -> None:
        assert self._runner is not None
        assert self._runner.server is not None
        make = partial(Connection, self._runner.server, self._refused, _IDLE_SECONDS)
        accept: Callable[[], asyncio.Protocol] = make
        if self._tls:
            self._handshakes = Handshakes(self._tls.http_context(), self._connections)
            accept = partial(self._handshakes.protocol, make)
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            accept, host, port, backlog=_BACKLOG, reuse_port=reuse_port or None
        )

    async def leave(self) -> None:
        """Take no more connections; those that are there stay."""
        if self._listening is not None:
            self._listening.close()

    async def stop(self) -> None:
        """Close the port and its connections; requests that are under way have a moment."""
        if self._watching is not None:
            self._watching.cancel()
        await self.leave()
        if self._handshakes is not None:
            self._handshakes.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def lacks_certificate(self, request: web.Request) -> bool:
        """Whether callers must show a certificate, and this one has none."""
        if self._tls is None or not self._tls.wants_client_certificate:
            return False
        return request.transport is None or not request.transport.get_extra_info("peercert")

    async def _close_idle(self) -> None:
        """Close connections that have no request for long, and the longest idle of too many: each
        takes a descriptor of the server, and a head of a request may never end.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            assert self._runner is not None
            server, now = self._runner.server, asyncio.get_running_loop().time()
            opened: list[Any] = server.connections if server is not None else []
            idle = sorted((one for one in opened if not one.busy), key=attrgetter("idle_since"))
            most = max(0, len(idle) - self._connections)
            for number, each in enumerate(idle):
                if number < most or now - each.idle_since > _IDLE_SECONDS:
                    each.force_close()


def _connection_of(request: web.Request) -> Connection:
    assert isinstance(request.protocol, Connection)
    return request.protocol


def _hostname(host: str) -> str:
    """The name or address of "NAME:PORT" or "[ADDRESS]:PORT"."""
    if host[:1] == "[":
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0].removesuffix(".")  # which ends a name that is complete
