"""The most memory that a server takes, whatever it is asked for: what its container must have.

The figures that are measured are those of `docs/CAPACITY.md`.
"""

from typing import Final, NamedTuple

from .admission import side_calls
from .http.connection import COMING_HEAD_BYTES
from .http.gateway import CONNECTIONS
from .rpc.interceptor import AT_ONCE
from .settings import BESIDE_PIXELS, Settings
from .status_page import page

_MIB: Final = 1024 * 1024

_STARTED: Final = 933 * _MIB
"""All processes after a load of small images, without what each coding process has of its own."""

_CODING_PROCESS: Final = 70 * _MIB

_NETWORK_PIXEL_BYTES: Final = 80
"""What the networks of `photo` take beside an image, measured with 31 megapixels: 73 bytes."""

_UNREAD_BYTES: Final = 64 * 1024
"""Of a call that is not read yet; the server's flow control."""

_JSON_COPIES: Final = 8
"""Of a message that becomes JSON or is made of it, one at a time; measured: 6.7."""

_TLS_BYTES: Final = 300 * 1024
"""Of a connection of HTTP over TLS, in asyncio and OpenSSL; measured: 292 KiB."""

_HANDSHAKE_BYTES: Final = 420 * 1024
"""Of one whose handshake has begun; measured: 412 KiB."""


class MemoryBound(NamedTuple):
    """Bytes, by what takes them."""

    started: int
    held: int
    being_read: int
    streams: int
    unread: int
    side_calls: int
    large_image: int
    batches: int
    http: int
    page: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def memory_bound(settings: Settings) -> MemoryBound:
    """The bound of a server on CPUs that runs with these settings.

    Returns:
        started: programs and models; held: what the admission counts; being_read: messages of
        calls before it counts them; streams: the next message of each; unread: what gRPC buffers of
        calls that wait; side_calls: messages of health and reflection, and what waits of their
        calls; large_image: networks of the slow lane; batches: networks of the fast lane; http: its
        connections, bodies of JSON, a third longer, and what is converted; page: the connections of
        the port of metrics.
    """
    limits, open_calls = settings.limits, settings.open_calls
    coding_processes = settings.engine.coding_processes
    return MemoryBound(
        started=_STARTED + coding_processes * _CODING_PROCESS,
        held=settings.capacity.bytes,
        being_read=AT_ONCE * limits.message_bytes,
        streams=open_calls.streams * limits.message_bytes,
        unread=open_calls.calls * _UNREAD_BYTES,
        side_calls=_of_side_calls(limits.message_bytes),
        large_image=_NETWORK_PIXEL_BYTES * (limits.pixels + BESIDE_PIXELS),
        batches=coding_processes * _NETWORK_PIXEL_BYTES * settings.engine.batches.weight,
        http=0 if settings.http_port is None else _of_http(settings),
        page=0 if settings.metrics_port is None else _of_connections(settings, page.CONNECTIONS),
    )


def _of_side_calls(message_bytes: int) -> int:
    """Messages that are being read, and what waits unread: of questions, and of two kinds of
    streams.
    """
    unread = (2 * side_calls.MOST + side_calls.MOST_ASKING) * _UNREAD_BYTES
    return (side_calls.AT_ONCE + side_calls.MOST_ASKING) * message_bytes + unread


def _of_http(settings: Settings) -> int:
    calls = settings.open_calls.calls * _TLS_BYTES if settings.tls else 0
    json = (AT_ONCE // 3 + _JSON_COPIES) * settings.limits.message_bytes
    return _of_connections(settings, CONNECTIONS) + calls + json


def _of_connections(settings: Settings, most: int) -> int:
    """So many without a request, and where there is TLS so many in their handshake."""
    each = COMING_HEAD_BYTES + (_TLS_BYTES + _HANDSHAKE_BYTES if settings.tls else 0)
    return most * each
