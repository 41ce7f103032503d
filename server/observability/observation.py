"""Around every method of the service: request id, logs, metrics and traces."""

import asyncio
import logging
import time
from collections import Counter, deque
from typing import Any, Final, Self

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from ..rpc.messages import item_codes, items_of, message_code
from .call_context import (
    CallContext,
    answer_metadata,
    current_call,
    request_id_of,
    set_current_call,
)
from .logs import event
from .metrics import Metrics
from .tracing import Tracing

_logger = logging.getLogger("hvae_codec.server.calls")

_WAY_SECONDS: Final = 0.02
_ROUNDING: Final = 0.02

_OK: Final = grpc.StatusCode.OK.name
_CODE_NAMES: Final = {int(code.value[0]): str(code.name) for code in grpc.StatusCode}


class CallObserver:
    """Sees one call from when its method begins, as a context that the call leaves with its error.
    This one observes nothing.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Of a context."""

    def request(self, message: Any, size: int) -> None:
        """A request of so many bytes came."""

    def response(self, message: Any) -> None:
        """A response is about to be sent."""


class Observation:
    """Metrics, logs and traces of the calls of one service; other services are left alone: probes
    would drown the rest."""

    def __init__(
        self, service: ServiceDescriptor, metrics: Metrics, tracing: Tracing | None
    ) -> None:
        self._streams = {
            f"/{service.full_name}/{each.name}": bool(each.server_streaming)
            for each in service.methods
        }
        self._metrics = metrics
        self._tracing = tracing

    def begin(self, path: str, metadata: Any) -> bool:
        """Note that this task answers a call from now on, its first byte; `path` is
        "/package.Service/Name". Returns whether it is of the service.
        """
        stream = self._streams.get(path)
        if stream is None:
            return False
        name = path.rpartition("/")[2]
        span = self._tracing.begin(path, metadata) if self._tracing else None
        set_current_call(CallContext(name, request_id_of(metadata), stream, span=span))
        return True

    def observe(self, context: Any) -> CallObserver:
        """An observer of the call that this task answers; its answer has the request id."""
        context.set_trailing_metadata(answer_metadata())
        return _MethodObserver(current_call(), context, self._metrics)


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


class _MethodObserver(CallObserver):
    """Counts, logs and traces one call."""

    def __init__(self, call: CallContext, context: Any, metrics: Metrics) -> None:
        self._grpc = context
        # Asked now: once a cancelled call has ended, the process dies of this question (grpcio
        # 1.85.1), and a stream's generator may be closed after that.
        self._peer = context.peer()
        self._call = call
        self._metrics = metrics
        self._arrivals: deque[float] = deque()
        self._answered = 0
        self._failed = 0
        self._unary_code: str | None = None
        metrics.call_began(call.method)

    def request(self, message: Any, size: int) -> None:
        """Of CallObserver."""
        # A unary call is measured from its first byte, a stream's message from its last.
        self._arrivals.append(time.perf_counter() if self._call.stream else self._call.began)
        self._call.items += items_of(message)
        self._metrics.received(self._call.method).inc(size)

    def response(self, message: Any) -> None:
        """Of CallObserver."""
        self._answered += 1
        now = time.perf_counter()
        arrived = self._arrivals.popleft() if self._arrivals else self._call.began
        code = _CODE_NAMES.get(message_code(message), "UNKNOWN")
        if not self._call.stream:
            code = self._unary_code = _unless_late(self._grpc, grpc.StatusCode.OK)
        method = self._call.method
        self._metrics.request(method, code, now - arrived)
        good, failed = item_codes(message)
        if good:
            self._metrics.items(method, _OK).inc(good)
        if failed:
            self._failed += len(failed)
            for number, count in Counter(failed).items():
                self._metrics.items(method, _CODE_NAMES.get(number, "UNKNOWN")).inc(count)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        call, metrics, code = self._call, self._metrics, self._code_of(error)
        now = time.perf_counter()
        metrics.call_ended(call.method)
        if call.stream:
            metrics.streams(call.method, code).inc()
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
        if call.span is not None:
            call.span.end(code, {"hvae.items": call.items, "hvae.request_id": call.request_id})

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
