"""What the status page says of the last failures."""

import json

import grpc
import pytest

from hvae_codec.server.observability.failures import RecentFailures
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.scraping import fetch
from tests.waiting import wait_until


def test_few_are_kept_and_equal_ones_count():
    failures = RecentFailures()
    for number in range(3):
        failures.note("Encode", "NOT_FOUND", f"unknown model {number}")
    failures.note("Decode", "DATA_LOSS", "x" * 1_000)
    last, first = failures.newest_first()
    assert (first["method"], first["count"], first["message"]) == ("Encode", 3, "unknown model 2")
    assert (last["code"], last["count"], len(last["message"])) == ("DATA_LOSS", 1, 200)
    for number in range(100):
        failures.note(f"{number}", "INTERNAL", "")
    assert [each["method"] for each in failures.newest_first()] == [f"{99 - n}" for n in range(20)]


def test_calls_items_and_messages_of_streams_that_fail(watched):
    """With what their callers are told."""
    with grpc.insecure_channel(watched.address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        stub.Decode(codec_pb2.DecodeRequest(encoded=[b"no"]))
        request = codec_pb2.StreamEncodeRequest(
            request=codec_pb2.EncodeRequest(model={"name": "none"}, images=[codec_pb2.Image()])
        )
        list(stub.StreamEncode(iter([request])))
        with pytest.raises(grpc.RpcError):
            stub.Encode(codec_pb2.EncodeRequest(model={"name": "mnist"}))

    def found():
        failures = json.loads(fetch(watched, "live")[2])["failures"][:3]
        return [(each["method"], each["code"], each["message"][:19]) for each in failures]

    expected = [
        ("Encode", "INVALID_ARGUMENT", "images: the request"),
        ("StreamEncode", "NOT_FOUND", "unknown model 'none"),
        ("Decode", "INVALID_ARGUMENT", "encoded[0]: not a ."),
    ]
    wait_until(lambda: found() == expected, f"{found()}")
