"""Traces of calls for OpenTelemetry, where the extra [tracing] is installed and asked for.

The usual environment variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`,
`OTEL_TRACES_SAMPLER` and the like) hold; nothing of OpenTelemetry is imported where neither they
nor a flag ask for traces.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ..listening import is_loopback

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span as OtelSpan

SERVICE_NAME: Final = "hvae-codec"

_ENDPOINT_VARIABLES: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
_SERVER_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Codes that make a server's span an error; the others are the caller's affair."""


class TracingError(Exception):
    """Traces were asked for and cannot be sent."""


def is_wanted(endpoint: str | None) -> bool:
    """Whether the flag or the environment asks for traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if endpoint is not None:
        return True
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "otlp")
    return "otlp" in exporter and any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)


class Span:
    """The server's side of one call."""

    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def end(self, code: str, attributes: Mapping[str, Any]) -> None:
        """The call ended with the status of this name."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("rpc.response.status_code", code)
        self._span.set_attributes(dict(attributes))
        if code in _SERVER_FAULTS:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Tracing:
    """Makes a span of every call and hands it to `processor`."""

    def __init__(self, processor: SpanProcessor) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME as NAME
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider

        named = OTELResourceDetector().detect()
        resource = Resource.create({NAME: SERVICE_NAME}).merge(named)
        self._provider: TracerProvider = TracerProvider(
            resource=resource,
            shutdown_on_exit=False,  # `stop` does it, with a bound on the time
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(__name__)

    def begin(self, method: str, metadata: Any) -> Span:
        """The span of a call of `method` ("/package.Service/Name"), below the caller's where the
        metadata name one; it is the current span of this task from now on."""
        from opentelemetry import context, propagate
        from opentelemetry.trace import SpanKind, set_span_in_context

        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        above = propagate.extract(carrier, context.Context())
        name = method.removeprefix("/")
        span = self._tracer.start_span(
            name,
            above,
            SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": name},
        )
        # Never detached: gRPC makes a task for every call, and its context goes with it.
        context.attach(set_span_in_context(span, above))
        return Span(span)

    def stop(self) -> None:
        """Send what is left; blocks for some seconds if the collector does not answer."""
        self._provider.shutdown()


def start_tracing(endpoint: str | None) -> Tracing | None:
    """Tracing to the OTLP collector at `endpoint` (http:// for one without TLS), or to that of the
    environment; None where neither asks for it.

    Raises:
        TracingError: the extra is not installed.
    """
    if not is_wanted(endpoint):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        asked = "--otlp-endpoint" if endpoint else "OTEL_EXPORTER_OTLP_ENDPOINT"
        raise TracingError(
            f"{asked} asks for traces, which need more: pip install 'hvae-codec[tracing]', "
            "or set OTEL_SDK_DISABLED=true"
        ) from error
    # gRPC would ask a proxy of the environment for a collector on this machine, too.
    options: Any = (("grpc.enable_http_proxy", 0),) if _is_here(endpoint) else None
    exporter = OTLPSpanExporter(endpoint=endpoint, channel_options=options)
    return Tracing(BatchSpanProcessor(exporter))


def _is_here(endpoint: str | None) -> bool:
    """Whether the collector, of the flag or of the environment, is on this machine."""
    named = (endpoint, *map(os.environ.get, _ENDPOINT_VARIABLES))
    collector = next(filter(None, named), "")
    host = urlsplit(collector if "://" in collector else f"//{collector}").hostname
    return is_loopback(host or "")
