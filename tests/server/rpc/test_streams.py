"""Streams: the answers of the calls, in order, no faster than their reader, and errors in place."""

import threading
import time

import grpc
import numpy as np
import pytest

from hvae_codec.v1 import codec_pb2
from tests.server.messages import raw_image


def encode_requests(selector, tiles, each=4):
    return [
        codec_pb2.EncodeRequest(model=selector, images=map(raw_image, tiles[start : start + each]))
        for start in range(0, len(tiles), each)
    ]


def test_every_stream_answers_as_its_call(stub, selector, tiles):
    encode = encode_requests(selector, tiles[:12])
    streamed = list(
        stub.StreamEncode(
            iter(codec_pb2.StreamEncodeRequest(request=r) for r in encode), timeout=60
        )
    )
    assert [answer.response for answer in streamed] == [stub.Encode(r, timeout=60) for r in encode]
    decode = [
        codec_pb2.DecodeRequest(
            encoded=[result.encoded for result in answer.response.results],
            format=codec_pb2.IMAGE_FORMAT_RAW,
        )
        for answer in streamed
    ]
    features = [
        codec_pb2.ExtractFeaturesRequest(sources=[codec_pb2.FeatureSource(encoded=e)])
        for request in decode
        for e in request.encoded[:2]
    ]
    sample = [codec_pb2.SampleRequest(model=selector, count=2, seed=seed) for seed in range(3)]
    for method, stream, kind, requests in [
        (stub.Decode, stub.StreamDecode, codec_pb2.StreamDecodeRequest, decode),
        (
            stub.ExtractFeatures,
            stub.StreamExtractFeatures,
            codec_pb2.StreamExtractFeaturesRequest,
            features,
        ),
        (stub.Sample, stub.StreamSample, codec_pb2.StreamSampleRequest, sample),
    ]:
        answers = list(stream(iter([kind(request=r) for r in requests]), timeout=60))
        assert [answer.response for answer in answers] == [method(r, timeout=60) for r in requests]


def test_an_empty_stream_ends(stub):
    assert list(stub.StreamDecode(iter([]), timeout=30)) == []


def test_a_bad_message_is_answered_and_the_stream_goes_on(stub, selector, tiles):
    (good,) = encode_requests(selector, tiles[:2])
    unknown = codec_pb2.EncodeRequest(
        model=codec_pb2.ModelSelector(name="nobody"), images=good.images
    )
    empty = codec_pb2.EncodeRequest(model=selector)
    requests = [good, unknown, empty, good]
    answers = list(
        stub.StreamEncode(
            iter([codec_pb2.StreamEncodeRequest(request=r) for r in requests]), timeout=60
        )
    )
    codes = [answer.status.code for answer in answers]
    not_found, invalid = (
        grpc.StatusCode.NOT_FOUND.value[0],
        grpc.StatusCode.INVALID_ARGUMENT.value[0],
    )
    assert codes == [0, not_found, invalid, 0]
    assert answers[1].status.reason == "UNKNOWN_MODEL"
    assert "at least 1" in answers[2].status.message
    assert answers[0].response == answers[3].response
    assert len(answers[0].response.results) == 2


def test_the_server_reads_no_faster_than_its_answers_are_taken(stub, selector):
    """Answers of a megabyte that nobody takes stop the server's reading: of 2,000 requests, far
    more than fit into buffers on the way, few are sent.
    """
    noise = np.random.default_rng(0).integers(0, 256, (512, 640, 3), np.uint8)
    request = codec_pb2.EncodeRequest(model=selector, images=[raw_image(noise)])
    (result,) = stub.Encode(request, timeout=60).results
    request = codec_pb2.DecodeRequest(encoded=[result.encoded], format=codec_pb2.IMAGE_FORMAT_RAW)
    sent = 0

    def requests():
        nonlocal sent
        for _ in range(2000):
            sent += 1
            yield codec_pb2.StreamDecodeRequest(request=request)

    call = stub.StreamDecode(requests(), timeout=120)
    assert next(call).response.results[0].image.raw.height == 512
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 2:  # until nothing has moved for a while
        if sent != last:
            last, since = sent, time.monotonic()
        time.sleep(0.05)
    assert sent < 1000
    assert sum(1 for _ in zip(range(5), call, strict=False)) == 5  # and then it goes on
    call.cancel()


def test_a_stream_that_is_cancelled_leaves_nothing_behind(stub, selector, tiles):
    (request,) = encode_requests(selector, tiles[:4])
    hold = threading.Event()

    def requests():
        yield codec_pb2.StreamEncodeRequest(request=request)
        hold.wait(30)

    call = stub.StreamEncode(requests(), timeout=60)
    next(call)
    call.cancel()
    hold.set()
    with pytest.raises(grpc.RpcError) as ended:
        next(call)
    assert ended.value.code() is grpc.StatusCode.CANCELLED
    assert len(stub.Encode(request, timeout=60).results) == 4
