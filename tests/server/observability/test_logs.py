"""What the server writes on standard error: one line a call, as text or JSON, and no secrets."""

import io
import json
import logging
import subprocess
import sys
import time

import grpc
import pytest
from grpc._cython import cygrpc

from hvae_codec.server.observability.logs import JsonFormatter, Logs, TextFormatter, event
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

SECONDS = 60
MODEL = codec_pb2.ModelSelector(name="mnist")


@pytest.fixture(scope="module")
def stub(watched):
    with grpc.insecure_channel(watched.address) as channel:
        yield codec_pb2_grpc.CodecServiceStub(channel)


def lines_of(server, request_id):
    """The lines of calls with this id, as soon as there are any."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in server.log.splitlines()]
        if found := [line for line in lines if line.get("request_id") == request_id]:
            return found
        time.sleep(0.05)
    pytest.fail(f"no line of {request_id}:\n{server.log}")


def test_every_line_is_an_object_and_a_call_has_one(stub, watched):
    request = codec_pb2.SampleRequest(model=MODEL, count=3)
    metadata = [("x-request-id", "job-17/part.3")]
    _, call = stub.Sample.with_call(request, metadata=metadata, timeout=SECONDS)
    assert dict(call.trailing_metadata())["x-request-id"] == "job-17/part.3"
    (line,) = lines_of(watched, "job-17/part.3")
    assert line["time"].endswith("Z")
    assert line["level"] == "info"
    assert (line["method"], line["code"], line["items"]) == ("Sample", "OK", 3)
    assert 0 < line["seconds"] < SECONDS
    assert line["peer"].startswith("ipv4:127.0.0.1:")


def test_a_call_that_fails_has_its_id_too(stub, watched):
    request = codec_pb2.SampleRequest(model=codec_pb2.ModelSelector(name="none"), count=1)
    with pytest.raises(grpc.RpcError) as raised:
        stub.Sample(request, metadata=[("x-request-id", "failing")], timeout=SECONDS)
    assert dict(raised.value.trailing_metadata())["x-request-id"] == "failing"
    assert lines_of(watched, "failing")[0]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("given", [None, "two words", "x" * 129, '"quoted"', "-leading"])
def test_an_id_that_is_not_sane_is_replaced(stub, watched, given):
    metadata = [] if given is None else [("x-request-id", given)]
    request = codec_pb2.ListModelsRequest()
    _, call = stub.ListModels.with_call(request, metadata=metadata, timeout=SECONDS)
    made = dict(call.trailing_metadata())["x-request-id"]
    assert len(made) == 16
    assert lines_of(watched, made)[0]["method"] == "ListModels"


def test_items_that_fail_are_counted(stub, watched):
    images = [codec_pb2.Image(file=b"none"), codec_pb2.Image()]
    request = codec_pb2.EncodeRequest(model=MODEL, images=images)
    stub.Encode(request, metadata=[("x-request-id", "items")], timeout=SECONDS)
    (line,) = lines_of(watched, "items")
    assert (line["code"], line["items"], line["failed_items"]) == ("OK", 2, 2)


def test_streams_and_deadlines(stub, watched):
    messages = [
        codec_pb2.StreamSampleRequest(request=codec_pb2.SampleRequest(model=MODEL, count=2))
    ] * 3
    metadata = [("x-request-id", "streaming")]
    assert len(list(stub.StreamSample(iter(messages), metadata=metadata, timeout=SECONDS))) == 3
    (line,) = lines_of(watched, "streaming")
    assert (line["method"], line["code"], line["items"]) == ("StreamSample", "OK", 6)

    def never():
        time.sleep(1)
        yield from ()

    for number in range(5):
        metadata = [("x-request-id", f"late-{number}")]
        with pytest.raises(grpc.RpcError):
            list(stub.StreamSample(never(), metadata=metadata, timeout=0.2))
        (line,) = lines_of(watched, f"late-{number}")
        assert line["code"] in {"DEADLINE_EXCEEDED", "CANCELLED"}


def record(message="text", level=logging.INFO, exc_info=None, **attributes):
    made = logging.LogRecord("name", level, "file", 1, message, (), exc_info)
    vars(made).update(attributes)
    return made


def test_a_line_stays_one_line():
    line = JsonFormatter().format(record("two\nlines", fields={"peer": "a\nb"}))
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines"
    try:
        raise RuntimeError("of a test")
    except RuntimeError:
        line = JsonFormatter().format(record(exc_info=sys.exc_info()))
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("RuntimeError: of a test")
    text = TextFormatter().format(record(fields={"method": "Encode"}, request_id="abc"))
    assert text.endswith(" INFO text request_id=abc method=Encode")


def test_none_is_left_out(caplog):
    caplog.set_level(logging.INFO)
    event(logging.getLogger("hvae_codec.test"), logging.INFO, "call", token=None, items=0)
    assert caplog.records[-1].fields == {"items": 0}


class Stuck(io.StringIO):
    """A standard error that takes nothing for a while."""

    def write(self, text):
        time.sleep(0.5)
        return super().write(text)


def test_lines_that_nobody_takes_are_dropped_and_counted(monkeypatch):
    """No caller waits for them."""
    dropped = []
    monkeypatch.setattr(sys, "stderr", Stuck())
    logs = Logs("json", "info", lambda: dropped.append(1))
    logs.start()
    try:
        began = time.monotonic()
        for number in range(15_000):
            logging.getLogger("hvae_codec.test").info("line %d", number)
        assert time.monotonic() - began < SECONDS
        assert 3_000 <= len(dropped) <= 5_000
    finally:
        began = time.monotonic()
        logs.stop()
    assert time.monotonic() - began < SECONDS


def test_a_caller_that_goes_away_is_no_error(monkeypatch):
    """gRPC logs a traceback where a message meets a caller who has just gone."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs = Logs("json", "info", lambda: None)
    logs.start()
    for error in (cygrpc.ExecuteBatchError("Failed"), RuntimeError("of a test")):
        try:
            raise error
        except Exception:
            logging.getLogger("grpc._cython.cygrpc").exception("raised in core")
    logs.stop()
    (line,) = sys.stderr.getvalue().splitlines()
    assert "of a test" in json.loads(line)["exception"]


def test_levels():
    code = "from hvae_codec.server import main; main(['--help'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS
    )
    assert "--log-level {debug,info,warning,error}" in done.stdout
    assert "--log-format {text,json}" in done.stdout
