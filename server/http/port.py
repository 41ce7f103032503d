"""A port of HTTP in the event loop of the gRPC server: foreign hosts, certificates, idle callers.

The status page has one, and so has the service.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from operator import itemgetter
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ..auth.tls import Tls
from ..listening import is_loopback

_IDLE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0
_ENDING_SECONDS: Final = 1.0
_FIELDS: Final = 48
_FIELD_BYTES: Final = 8 * 1024
_HEAD_BYTES: Final = 16 * 1024
"""Most bytes of the head of a request that is looked at, as gRPC bounds its metadata."""

COMING_HEAD_BYTES: Final = _FIELDS * _FIELD_BYTES
"""Most bytes of a head that is still coming."""

_MOST_SHOWN: Final = 100

_BUFFER_BYTES: Final = 32 * 1024
"""Of a connection whose body is not read yet; aiohttp holds up to twice that."""


def _as_a_line(record: logging.LogRecord) -> bool:
    """What aiohttp logs of bytes that are no request: a line, in the place of a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        reason = " ".join(error.message.split())[:_MOST_SHOWN]
        record.exc_info, record.args = None, (*(record.args or ()), reason)
        record.msg = "malformed HTTP request from %s: %s"
        record.levelno, record.levelname = logging.INFO, "INFO"
    return _logger.isEnabledFor(record.levelno)


_logger = logging.getLogger(__name__)
_logger.addFilter(_as_a_line)


class HttpPort:
    """Serves an application.

    Args:
        app: with all its routes.
        refused: makes the answer to a request that `app` does not see.
        tls: serve https.
        connections: most connections without a request.
    """

    def __init__(
        self,
        app: web.Application,
        refused: Callable[[HTTPStatus, str], web.Response],
        tls: Tls | None,
        connections: int,
    ) -> None:
        self._app = app
        self._refused = refused
        self._tls = tls
        self._connections = connections
        self._runner: web.AppRunner | None = None
        self._busy: Counter[Any] = Counter()  # connections with requests
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
            if head > _HEAD_BYTES:
                text = f"headers of {head:,} bytes; allowed are {_HEAD_BYTES:,}"
                return self._refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
            self._busy[request.protocol] += 1
            try:
                response: web.StreamResponse = await handler(request)
            finally:
                self._busy -= Counter([request.protocol])
            return response

        self._app.middlewares.insert(0, guard)
        self._runner = web.AppRunner(
            self._app,
            logger=_logger,
            access_log=None,
            keepalive_timeout=_IDLE_SECONDS,
            handler_cancellation=True,  # of who closed the connection
            shutdown_timeout=_ENDING_SECONDS,
            read_bufsize=_BUFFER_BYTES,
            max_headers=_FIELDS,
            max_field_size=_FIELD_BYTES,
            auto_decompress=False,
        )
        await self._runner.setup()
        context = self._tls.http_context() if self._tls else None
        site = web.TCPSite(
            self._runner, host, port, ssl_context=context, reuse_port=reuse_port or None
        )
        await site.start()
        self._watching = asyncio.create_task(self._close_idle())
        port = self._runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if context else 'http'}://{shown}:{port}/"

    async def leave(self) -> None:
        """Take no more connections; those that are there stay."""
        for site in list(self._runner.sites) if self._runner is not None else ():
            await site.stop()

    async def stop(self) -> None:
        """Close the port and its connections; requests that are under way have a moment."""
        if self._watching is not None:
            self._watching.cancel()
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
        since: dict[Any, float] = {}
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            assert self._runner is not None
            server, now = self._runner.server, asyncio.get_running_loop().time()
            opened = server.connections if server is not None else []
            since = {each: since.get(each, now) for each in opened if each not in self._busy}
            most = max(0, len(since) - self._connections)
            for number, (each, began) in enumerate(sorted(since.items(), key=itemgetter(1))):
                if number < most or now - began > _IDLE_SECONDS:
                    each.force_close()


def _hostname(host: str) -> str:
    """The name or address of "NAME:PORT" or "[ADDRESS]:PORT"."""
    if host[:1] == "[":
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0].removesuffix(".")  # which ends a name that is complete
