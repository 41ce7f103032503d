"""The begin of TLS, with a bound on its time and on how many connections are in it.

asyncio's own servers give a connection to its protocol only after the handshake.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

SECONDS: Final = 10.0
"""As gRPC's port has it."""

_CLOSING_SECONDS: Final = 1.0


class Handshakes:
    """Connections that are not encrypted yet; where they are too many, the oldest is closed.

    Args:
        context: with the certificates.
        most: connections in their handshake.
    """

    def __init__(self, context: ssl.SSLContext, most: int) -> None:
        self._context = context
        self._most = most
        self._open: dict[asyncio.Transport, asyncio.Task[None]] = {}

    def protocol(self, after: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """Of a new connection; `after` makes the protocol that it has once it is encrypted."""
        return _Handshake(self, after)

    def begin(self, transport: Any, handshake: "_Handshake") -> None:
        """A connection was accepted."""
        transport.pause_reading()  # until `start_tls` reads
        self._open[transport] = asyncio.create_task(self._run(transport, handshake))
        if len(self._open) > self._most:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.abort()

    async def _run(self, transport: asyncio.Transport, handshake: "_Handshake") -> None:
        try:
            with suppress(OSError):  # of TLS, or of the connection
                encrypted = await asyncio.get_running_loop().start_tls(
                    transport,
                    handshake,
                    self._context,
                    server_side=True,
                    ssl_handshake_timeout=SECONDS,
                    ssl_shutdown_timeout=_CLOSING_SECONDS,
                )
                if encrypted is not None:
                    handshake.finish(encrypted)
        finally:
            self._open.pop(transport, None)

    def close(self) -> None:
        """End all."""
        for transport in self._open:
            transport.abort()


class _Handshake(asyncio.Protocol):
    """Holds what comes at once after the handshake."""

    def __init__(self, all_of_them: Handshakes, after: Callable[[], asyncio.Protocol]) -> None:
        self._all = all_of_them
        self._make_next = after
        self._next: asyncio.Protocol | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._all.begin(transport, self)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        self._early.append(data)

    def finish(self, encrypted: Any) -> None:
        """The connection is encrypted."""
        self._next = self._make_next()
        encrypted.set_protocol(self._next)
        self._next.connection_made(encrypted)
        for data in self._early:
            self._next.data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio, which may say it of a connection that has its next protocol already."""
        if self._next is not None:
            self._next.connection_lost(error)
