"""One request of HTTP as a call of gRPC: what `CallInterceptor` and `CodecServicer` ask of one."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

import grpc
from aiohttp import web
from google.rpc import status_pb2
from multidict import CIMultiDictProxy

TIMEOUT: Final = "Grpc-Timeout"
"""Header: the caller's deadline as gRPC writes it, such as 500m or 30S."""

_DETAILS: Final = "grpc-status-details-bin"
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def metadata_of(headers: CIMultiDictProxy[str]) -> list[tuple[str, str]]:
    """The headers as gRPC's metadata: of a token, a request id and a trace."""
    return [(name.lower(), value) for name, value in headers.items()]


def timeout_of(headers: CIMultiDictProxy[str]) -> float | None:
    """Seconds until the caller's deadline; None where it states none.

    Raises ValueError for a header that is no timeout.
    """
    text = headers.get(TIMEOUT)
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{TIMEOUT} is a whole number of at most 8 digits and one of {', '.join(_UNIT_SECONDS)}"
            f", such as 500m or 30S; got {text[:20]!r}"
        )
    return int(found[1]) * _UNIT_SECONDS[found[2]]


def peer_of(request: web.Request) -> str:
    """The connection's other end, named as gRPC names it."""
    name = request.transport and request.transport.get_extra_info("peername")
    if not name:
        return "unknown"
    host, port = name[:2]
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


class HttpContext:
    """Stands in for gRPC's context of a call.

    Args:
        peer: the connection, as gRPC names it.
        seconds: time until the caller's deadline, or None.
        read: reads the request.
    """

    def __init__(
        self, peer: str, seconds: float | None, read: Callable[[], Awaitable[Any]]
    ) -> None:
        self._peer = peer
        self._ends = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self._read = read
        self._code = grpc.StatusCode.OK
        self._details = ""
        self.is_read = False
        self.status: status_pb2.Status | None = None
        self.headers: dict[str, str] = {}

    def peer(self) -> str:
        """Of gRPC."""
        return self._peer

    def time_remaining(self) -> float | None:
        """Of gRPC."""
        if self._ends is None:
            return None
        return max(0.0, self._ends - asyncio.get_running_loop().time())

    async def read(self) -> Any:
        """Of gRPC: the message of the call."""
        message = await self._read()
        self.is_read = True
        return message

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Of gRPC: the headers of the answer, and the details of a status."""
        for name, value in metadata:
            if name == _DETAILS:
                self.status = status_pb2.Status.FromString(value)
            else:
                self.headers[name.title()] = value

    def code(self) -> grpc.StatusCode:
        """Of gRPC: the status of a call that was aborted."""
        return self._code

    def details(self) -> str:
        """Of gRPC: what its status says."""
        return self._details

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> NoReturn:
        """Of gRPC: end the call. Raises AbortError."""
        self._code, self._details = code, details
        self.status = status_pb2.Status(code=code.value[0], message=details)
        self.set_trailing_metadata(trailing_metadata)
        raise grpc.aio.AbortError(details)
