"""Around every method of the service: request id, logs, metrics and traces."""

import asyncio
import logging
import time
from collections import Counter, deque
from typing import Any, Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from ..rpc.interceptors import AnsweringContext, wire_bytes, wrap
from ..rpc.messages import item_codes, items_of, message_code
from .call_context import (
    REQUEST_ID,
    CallContext,
    request_id_of,
    set_current_call,
)
from .logs import event
from .metrics import Metrics
from .tracing import Span, Tracing

_logger = logging.getLogger("hvae_codec.server.calls")

_WAY_SECONDS: Final = 0.02
_ROUNDING: Final = 0.02

_OK: Final = grpc.StatusCode.OK.name
_CODE_NAMES: Final = {int(code.value[0]): str(code.name) for code in grpc.StatusCode}


class WatchingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Sees every call of one service from its first byte to its status; other services are left
    alone: probes would drown the rest."""

    def __init__(
        self, service: ServiceDescriptor, metrics: Metrics, tracing: Tracing | None
    ) -> None:
        self._prefix = f"/{service.full_name}/"
        self._streams = {each.name for each in service.methods if each.server_streaming}
        self._metrics = metrics
        self._tracing = tracing

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Of gRPC: the handler of a call."""
        if not details.method.startswith(self._prefix):
            return await continuation(details)
        metadata = details.invocation_metadata
        call = CallContext(details.method.removeprefix(self._prefix), request_id_of(metadata))
        set_current_call(call)
        handler = await continuation(details)
        if handler is None:  # no such method, so no label of its own either
            return None
        span = self._tracing.begin(details.method, metadata) if self._tracing else None

        stream = call.method in self._streams
        return wrap(
            handler,
            lambda context: _Seen(call, context, self._metrics, span, stream),
            lambda size: self._metrics.sent(call.method, size),
        )


def _unless_late(context: Any, code: grpc.StatusCode, slack: float = 0.0) -> str:
    """The name of a code, or of DEADLINE_EXCEEDED where its caller has heard that already: at most
    `slack` seconds are left.
    """
    remaining = context.time_remaining()
    late = remaining is not None and remaining <= slack
    return str((grpc.StatusCode.DEADLINE_EXCEEDED if late else code).name)


def _name(code: Any) -> str:
    """The name of a status code, which gRPC gives as its number or as itself."""
    return _CODE_NAMES.get(code, "UNKNOWN") if isinstance(code, int) else str(code.name)


class _Seen:
    """Counts one call."""

    def __init__(
        self, call: CallContext, context: Any, metrics: Metrics, span: Span | None, stream: bool
    ) -> None:
        self.context = AnsweringContext(context, (REQUEST_ID, call.request_id))
        self._grpc = context
        # Asked now: once a cancelled call has ended, the process dies of this question (grpcio
        # 1.85.1), and a stream's generator may be closed after that.
        self._peer = context.peer()
        self._call = call
        self._metrics = metrics
        self._span = span
        self._stream = stream
        self._arrivals: deque[float] = deque()
        self._answered = 0
        self._failed = 0
        self._unary_code: str | None = None
        metrics.call_began(call.method)

    async def request(self, message: Any) -> None:
        # A unary call is measured from its first byte, a stream's message from its last.
        self._arrivals.append(time.perf_counter() if self._stream else self._call.began)
        self._call.items += items_of(message)
        self._metrics.received(self._call.method, wire_bytes())

    async def response(self, message: Any) -> None:
        self._answered += 1
        now = time.perf_counter()
        arrived = self._arrivals.popleft() if self._arrivals else self._call.began
        code = _CODE_NAMES.get(message_code(message), "UNKNOWN")
        if not self._stream:
            code = self._unary_code = _unless_late(self._grpc, grpc.StatusCode.OK)
        method = self._call.method
        self._metrics.request(method, code, now - arrived)
        good, failed = item_codes(message)
        if good:
            self._metrics.items(method, _OK, good)
        if failed:
            self._failed += len(failed)
            for number, count in Counter(failed).items():
                self._metrics.items(method, _CODE_NAMES.get(number, "UNKNOWN"), count)

    async def end(self, error: BaseException | None) -> None:
        call, metrics, code = self._call, self._metrics, self._code_of(error)
        now = time.perf_counter()
        metrics.call_ended(call.method)
        if self._stream:
            metrics.stream(call.method, code)
        if code != _OK:  # of those that got no answer, or the call itself where it sent none
            for arrived in self._arrivals or ([] if self._answered else [call.began]):
                metrics.request(call.method, code, now - arrived)
        if _logger.isEnabledFor(logging.INFO):
            event(
                _logger,
                logging.INFO,
                "call",
                request_id=call.request_id,
                method=call.method,
                code=code,
                seconds=round(now - call.began, 6),
                items=call.items,
                failed_items=self._failed or None,
                peer=self._peer,
                token=call.token,
            )
        if self._span is not None:
            self._span.end(code, {"hvae.items": call.items, "hvae.request_id": call.request_id})

    def _slack(self) -> float:
        """Seconds by which the caller's deadline may come before the one that it stated, which gRPC
        rounds up by as much as a hundredth; on the way the rest of it passes.
        """
        remaining = self._grpc.time_remaining() or 0.0
        return _WAY_SECONDS + _ROUNDING * (time.perf_counter() - self._call.began + remaining)

    def _code_of(self, error: BaseException | None) -> str:
        match error:
            case None:
                # That of a unary call is what was counted: it may be late a moment after.
                return self._unary_code or _unless_late(self._grpc, grpc.StatusCode.OK)
            case grpc.aio.AbortError():
                return _name(self._grpc.code())
            case asyncio.CancelledError() | GeneratorExit():
                return _unless_late(self._grpc, grpc.StatusCode.CANCELLED, self._slack())
            case _:
                _logger.error("%s failed", self._call.method, exc_info=error)
                return str(grpc.StatusCode.UNKNOWN.name)
