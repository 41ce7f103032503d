"""One call, from its first byte to its end: who calls, its request id, log line, metrics and trace.

What the engine and the limits want to know of the call that they work for is in `current_call`.
"""

import asyncio
import logging
import random
import re
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Self

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from hvae_codec.v1 import codec_pb2

from .logs import event
from .metrics import Metrics
from .tracing import Span, Tracing

_logger = logging.getLogger("hvae_codec.server.calls")

REQUEST_ID: Final = "x-request-id"
"""Metadata key: the caller's name for a call, which logs repeat and the answer carries."""

_SANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")

_WAY_SECONDS: Final = 0.02
_ROUNDING: Final = 0.02

_OK: Final = grpc.StatusCode.OK.name
_CODE_NAMES: Final = {int(code.value[0]): str(code.name) for code in grpc.StatusCode}

_STREAM_RESPONSES: Final[frozenset[type[Any]]] = frozenset(
    {
        *(codec_pb2.StreamEncodeResponse, codec_pb2.StreamDecodeResponse),
        *(codec_pb2.StreamExtractFeaturesResponse, codec_pb2.StreamSampleResponse),
    }
)
"""Looked up by class: this runs for every call, and descriptors are slow to ask."""

_WITH_RESULTS: Final[frozenset[type[Any]]] = frozenset(
    {
        *(codec_pb2.EncodeResponse, codec_pb2.DecodeResponse),
        *(codec_pb2.ExtractFeaturesResponse, codec_pb2.SampleResponse),
    }
)

_numbers = count()


class Quota:
    """What the calls of one caller may have at once; without a token, anything."""

    max_streams: int | None = None
    """Most open streams; None: as any caller."""

    def take(self, items: int) -> None:
        """Begin a request of `items` items."""

    async def take_in_turn(self, items: int) -> None:
        """Begin a request as soon as it may; for streams, which are read no faster than that."""

    def release(self, items: int) -> None:
        """End a request of `items` items."""

    @contextmanager
    def taken(self, items: int) -> Iterator[None]:
        """`take` for a block."""
        self.take(items)
        try:
            yield
        finally:
            self.release(items)


_UNLIMITED: Final = Quota()


@dataclass
class CallContext:
    """One call. `method` is its name without the service's; `token` the token's name, if any, and
    `quota` the token's; `owner` the token's name or the connection, once its message is there. No
    two calls of a process have one `number`.
    """

    method: str = ""
    request_id: str = ""
    stream: bool = False
    token: str | None = None
    quota: Quota = _UNLIMITED
    owner: str | None = None
    span: Span | None = None
    items: int = 0
    began: float = field(default_factory=time.perf_counter)
    number: int = field(default_factory=lambda: next(_numbers))


_current: ContextVar[CallContext | None] = ContextVar("call", default=None)


def current_call() -> CallContext:
    """The call that this task answers; outside of calls an empty one."""
    return _current.get() or CallContext()


def set_current_call(call: CallContext) -> None:
    """Say that this task answers `call`. gRPC makes a task for every call."""
    _current.set(call)


def answer_metadata() -> tuple[tuple[str, str], ...]:
    """Trailing metadata of the call that this task answers, if it is of the codec's service."""
    request_id = current_call().request_id
    return ((REQUEST_ID, request_id),) if request_id else ()


def request_id_of(metadata: Any) -> str:
    """The caller's request id where it is one word of sane characters, else a new one."""
    given = [value for key, value in metadata if key == REQUEST_ID]
    if len(given) == 1 and isinstance(given[0], str) and _SANE.fullmatch(given[0]):
        return given[0]
    return f"{random.getrandbits(64):016x}"


class CallObserver:
    """Sees one call from when its method begins, as a context that the call leaves with its error.
    This one observes nothing.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Of a context."""

    def request(self, items: int, size: int) -> None:
        """A request of `items` items and `size` bytes arrived."""

    def response(self, message: Any) -> None:
        """A response is about to be sent."""


class Observation:
    """Metrics, logs and traces of the calls of one service; other services are not observed: probes
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
            set_current_call(CallContext())
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

    def request(self, items: int, size: int) -> None:
        """Of CallObserver."""
        # A unary call is measured from its first byte, a stream's message from its last.
        self._arrivals.append(time.perf_counter() if self._call.stream else self._call.began)
        self._call.items += items
        self._metrics.received(self._call.method).inc(size)

    def response(self, message: Any) -> None:
        """Of CallObserver."""
        self._answered += 1
        now = time.perf_counter()
        arrived = self._arrivals.popleft() if self._arrivals else self._call.began
        if type(message) in _STREAM_RESPONSES:
            code = _CODE_NAMES.get(message.status.code, "UNKNOWN")
            if code != _OK:
                self._note_failure(message.status)
            message = message.response
        else:
            code = self._unary_code = _unless_late(self._grpc, grpc.StatusCode.OK)
        method = self._call.method
        self._metrics.request(method, code, now - arrived)
        good, failed = _item_statuses(message)
        if good:
            self._metrics.items(method, _OK).inc(good)
        if failed:
            self._failed += len(failed)
            self._note_failure(failed[0])
            for number, count in Counter(each.code for each in failed).items():
                self._metrics.items(method, _CODE_NAMES.get(number, "UNKNOWN")).inc(count)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        call, metrics, code = self._call, self._metrics, self._code_of(error)
        now = time.perf_counter()
        metrics.call_ended(call.method)
        if call.stream:
            metrics.streams(call.method, code).inc()
        if code != _OK:  # of those that got no answer, or the call itself where it sent none
            aborted = isinstance(error, grpc.aio.AbortError)
            metrics.failures.note(call.method, code, str(self._grpc.details()) if aborted else "")
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

    def _note_failure(self, status: codec_pb2.Status) -> None:
        """An item, or a message of a stream, has this status."""
        name = _CODE_NAMES.get(status.code, "UNKNOWN")
        self._metrics.failures.note(self._call.method, name, status.message)

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


def _item_statuses(response: Any) -> tuple[int, list[codec_pb2.Status]]:
    """How many items of a response have a result, and the statuses of those that have none."""
    if type(response) in _WITH_RESULTS:
        failed = [each.status for each in response.results if each.HasField("status")]
        return len(response.results) - len(failed), failed
    return int(type(response) is codec_pb2.EvaluateResponse), []
