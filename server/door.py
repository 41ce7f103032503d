"""Who is turned away at the door, before a byte of the message is read: everybody once the server
stops, and single calls while it is full.

gRPC would read a message first, and parse it. Under ten times the load that the machine bears, that
alone takes more than the machine has.
"""

import asyncio
import time
from typing import Any, Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from .admission import Admission, OverloadError
from .interception import abort_with, refusing
from .status import StoppingError, status_of

_QUIET_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.01


class Door(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """The door of one service; others are left alone: probes get answers to the end."""

    def __init__(self, service: ServiceDescriptor, admission: Admission) -> None:
        self._prefix = f"/{service.full_name}/"
        self._streams = {each.name for each in service.methods if each.server_streaming}
        self._admission = admission
        self._closed = False
        self._turned_away = 0.0

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Of gRPC: the handler of a call."""
        handler = await continuation(details)
        if handler is None or not details.method.startswith(self._prefix):
            return handler
        try:
            if self._closed:
                raise StoppingError("the server is stopping; call again, and another one answers")
            if details.method.removeprefix(self._prefix) not in self._streams:
                self._admission.check()
        except (StoppingError, OverloadError) as error:
            self._turned_away = time.monotonic()
            status = status_of(error)
            return refusing(lambda context: abort_with(context, status))
        return handler

    async def close(self, seconds: float) -> None:
        """Turn all calls away from now on; returns when those inside have ended and no more come,
        or at the latest after so many seconds.

        Calls that come while gRPC itself stops are cancelled by it, without a word of why.
        """
        self._closed = True
        began = time.monotonic()
        latest = began + min(seconds, _MOST_SECONDS)
        while (now := time.monotonic()) < latest:
            since = max(began, self._turned_away)
            if self._admission.items == 0 and now - since >= _QUIET_SECONDS:
                return
            await asyncio.sleep(_LOOK_SECONDS)
