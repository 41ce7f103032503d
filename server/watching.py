"""Around every method of the service: request id, logs, metrics and traces."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from .calls_seen import REQUEST_ID, CallSeen, request_id_of, set_current_call
from .interception import AnsweringContext, Proceed, wrap
from .logs import event
from .messages import item_codes, items_of, message_code
from .metrics import Metrics
from .tracing import Span, Tracing

_logger = logging.getLogger("hvae_codec.server.calls")

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
        call = CallSeen(details.method.removeprefix(self._prefix), request_id_of(metadata))
        set_current_call(call)
        handler = await continuation(details)
        if handler is None:  # no such method, so no label of its own either
            return None
        span = self._tracing.begin(details.method, metadata) if self._tracing else None

        async def around(
            requests: AsyncIterable[Any], context: Any, proceed: Proceed
        ) -> AsyncIterator[Any]:
            seen = _Seen(call, self._metrics, span, call.method in self._streams)
            answering = AnsweringContext(context, (REQUEST_ID, call.request_id))
            seen.began()
            code = grpc.StatusCode.UNKNOWN.name
            try:
                async for response in proceed(seen.requests(requests), answering):
                    seen.answered(response)
                    yield response
                code = _OK
            except asyncio.CancelledError:
                code = _cancellation(context)
                raise
            except grpc.aio.AbortError:
                code = _name(context.code())
                raise
            except Exception:
                _logger.exception("%s failed", call.method)
                raise
            finally:
                seen.ended(code, context.peer())

        return wrap(handler, around)


def _cancellation(context: Any) -> str:
    """Why a call was given up: its deadline, or its caller."""
    remaining = context.time_remaining()
    over = remaining is not None and remaining <= 0
    return str((grpc.StatusCode.DEADLINE_EXCEEDED if over else grpc.StatusCode.CANCELLED).name)


def _name(code: Any) -> str:
    """The name of a status code, which gRPC gives as its number or as itself."""
    return _CODE_NAMES.get(code, "UNKNOWN") if isinstance(code, int) else str(code.name)


class _Seen:
    """Counts one call."""

    def __init__(self, call: CallSeen, metrics: Metrics, span: Span | None, stream: bool) -> None:
        self._call = call
        self._metrics = metrics
        self._span = span
        self._stream = stream
        self._arrivals: deque[float] = deque()
        self._answered = 0
        self._failed = 0

    def began(self) -> None:
        self._metrics.call_began(self._call.method)

    async def requests(self, requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
        """The requests, each counted on its way."""
        async for request in requests:
            # A unary call is measured from its first byte, a stream's message from its last.
            self._arrivals.append(time.perf_counter() if self._stream else self._call.began)
            self._call.items += items_of(request)
            self._metrics.received(self._call.method, request.ByteSize())
            yield request

    def answered(self, response: Any) -> None:
        self._answered += 1
        now = time.perf_counter()
        arrived = self._arrivals.popleft() if self._arrivals else self._call.began
        code = _CODE_NAMES.get(message_code(response), "UNKNOWN")
        method = self._call.method
        self._metrics.request(method, code, now - arrived)
        self._metrics.sent(method, response.ByteSize())
        good, failed = item_codes(response)
        if good:
            self._metrics.items(method, _OK, good)
        if failed:
            self._failed += len(failed)
            for number, count in Counter(failed).items():
                self._metrics.items(method, _CODE_NAMES.get(number, "UNKNOWN"), count)

    def ended(self, code: str, peer: str) -> None:
        call, metrics = self._call, self._metrics
        seconds = time.perf_counter() - call.began
        metrics.call_ended(call.method)
        if self._stream:
            metrics.stream(call.method, code)
        if code != _OK:  # of those that got no answer, or the call itself where it sent none
            waiting = self._arrivals or ([] if self._answered else [call.began])
            for arrived in waiting:
                metrics.request(call.method, code, time.perf_counter() - arrived)
        event(
            _logger,
            logging.INFO,
            "call",
            request_id=call.request_id,
            method=call.method,
            code=code,
            seconds=round(seconds, 6),
            items=call.items,
            failed_items=self._failed or None,
            peer=peer,
            token=call.token,
        )
        if self._span is not None:
            self._span.end(code, {"hvae.items": call.items, "hvae.request_id": call.request_id})
