"""Which calls are rejected before their message is read.

All calls are rejected once the server stops, unary calls under overload, and any call beyond the
number that may be open. gRPC would read and parse a message first: under ten times the load that
the machine bears, that alone takes more than the machine has.
"""

import asyncio
import math
import time
from typing import Final

from google.protobuf.descriptor import ServiceDescriptor

from ..errors import OverloadError, StoppingError
from ..observability.call_context import current_call
from ..settings import OpenLimits
from .capacity import Admission
from .open_calls import OpenCalls
from .silence import Silence

_QUIET_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.01


_OTHER_STREAMS: Final = OpenLimits(streams=128)
"""Of each of the other services, whose calls of one message are answered at once."""


class OverloadGuard:
    """Bounds the calls of one service, and of others only the streams: probes get answers to the
    end, whatever else is open.
    """

    def __init__(
        self, service: ServiceDescriptor, admission: Admission, open_calls: OpenCalls
    ) -> None:
        self._prefix = f"/{service.full_name}/"
        self._admission = admission
        self._open = open_calls
        self._others: dict[str, OpenCalls] = {}
        self._closed = False
        self._rejected = 0.0
        self._entered = 0.0

    def check(self, method: str, *, stream: bool) -> None:
        """Count the call of a method that this task answers.

        Raises:
            StoppingError: the server is stopping.
            OverloadError: as many calls are open as may be, or the capacity is taken.
        """
        try:
            if method.startswith(self._prefix):
                self._enter(stream)
            elif stream:
                self._enter_other(method)
        except (StoppingError, OverloadError):
            self._rejected = time.monotonic()
            raise

    def _enter(self, stream: bool) -> None:
        if self._closed:
            raise StoppingError("the server is stopping; call again, and another one answers")
        if not stream:
            self._admission.check()
        call = current_call()
        self._open.enter(call.token, call.quota.token.max_streams, stream=stream)
        self._entered = time.monotonic()

    def _enter_other(self, method: str) -> None:
        service = method.rpartition("/")[0]
        if service not in self._others:
            self._others[service] = OpenCalls(_OTHER_STREAMS, Silence(math.inf))
        self._others[service].enter(None, stream=True)

    async def empty(self, seconds: float) -> None:
        """Wait until no more calls come, or so many seconds at most; those that come are let in."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            if now - max(began, self._entered) >= _QUIET_SECONDS:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self, seconds: float) -> None:
        """Reject all calls from now on; returns when those inside have ended and no more come,
        or at the latest after so many seconds.

        Calls that come while gRPC itself stops are cancelled by it, without a word of why.
        """
        self._closed = True
        began = time.monotonic()
        latest = began + min(seconds, _MOST_SECONDS)
        while (now := time.monotonic()) < latest:
            since = max(began, self._rejected)
            if self._admission.items == 0 and now - since >= _QUIET_SECONDS:
                return
            await asyncio.sleep(_LOOK_SECONDS)
