"""Traces of a real server, received by a collector that speaks OTLP over gRPC."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)

from hvae_codec.server.observability.tracing import is_wanted, start_tracing
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.conftest import BEHIND_PROXY

SECONDS = 30
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self):
        self.requests = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{port}"
        self._server.start()

    def Export(self, request, context):  # noqa: N802
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self):
        self._server.stop(0)

    @property
    def resources(self):
        return [resource for request in self.requests for resource in request.resource_spans]

    def spans(self, method):
        """The spans of a method, as soon as there are any."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            found = [
                span
                for resource in self.resources
                for scope in resource.scope_spans
                for span in scope.spans
                if span.name == f"hvae_codec.v1.CodecService/{method}"
            ]
            if found:
                return found
            time.sleep(0.05)
        pytest.fail(f"no span of {method}")


@pytest.fixture(scope="module")
def collector():
    made = Collector()
    yield made
    made.stop()


def attributes(span):
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def test_calls_are_spans_below_their_callers_and_the_last_are_sent(start_server, collector):
    """From a server that waits a minute before it sends, unless it ends, and asks no proxy for what
    is on its machine.
    """
    environment = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_RESOURCE_ATTRIBUTES": "zone=test"}
    environment |= BEHIND_PROXY
    flags = ["--otlp-endpoint", collector.url, "--preload", "mnist"]
    server = start_server(*flags, environment=environment)
    request = codec_pb2.SampleRequest(model=codec_pb2.ModelSelector(name="mnist"), count=3)
    metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "traced")]
    with grpc.insecure_channel(server.address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        stub.Sample(request, metadata=metadata, timeout=SECONDS)
        messages = [codec_pb2.StreamSampleRequest(request=request)] * 2
        assert len(list(stub.StreamSample(iter(messages), timeout=SECONDS))) == 2
        with pytest.raises(grpc.RpcError):
            stub.GetModel(codec_pb2.GetModelRequest(), timeout=SECONDS)
    assert server.terminate() == 0

    (span,) = collector.spans("Sample")
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == PARENT
    assert span.kind == span.SPAN_KIND_SERVER
    found = attributes(span)
    assert found["rpc.system.name"] == "grpc"
    assert found["rpc.response.status_code"] == "OK"
    assert found["hvae.items"] == 3
    assert found["hvae.request_id"] == "traced"
    assert span.status.code == 0
    resource = attributes(collector.resources[0].resource)
    assert (resource["service.name"], resource["zone"]) == ("hvae-codec", "test")

    (span,) = collector.spans("StreamSample")
    assert attributes(span)["hvae.items"] == 6
    assert not span.parent_span_id
    (span,) = collector.spans("GetModel")
    assert attributes(span)["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert span.status.code == 0, "the caller's fault is no error of the server"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_usual_variables_ask_for_traces(monkeypatch, environment, wanted):
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_wanted(None) is wanted
    tracing = start_tracing(None)
    assert (tracing is not None) is wanted
    if tracing is not None:
        tracing.stop()


WITHOUT = """
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lacking())
from hvae_codec.server.observability.tracing import TracingError, start_tracing
assert start_tracing(None) is None
try:
    start_tracing("http://127.0.0.1:4317")
except TracingError as error:
    print(error)
"""


def test_without_the_extra_a_message_says_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "--otlp-endpoint asks for traces" in done.stdout
    assert "pip install 'hvae-codec[tracing]'" in done.stdout


def test_nothing_of_opentelemetry_is_imported_where_nobody_asks():
    code = "import sys, hvae_codec.server.app as a; a.start_tracing(None)"
    code += "; assert not any(n.startswith('opentelemetry') for n in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
