"""More than the server can hold: refused with a time to come back, bounded, and over when it is."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from hvae_codec.client import Client
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.messages import raw_image

CALLERS, CALLS, ITEMS, CAPACITY = 12, 6, 24, 48


@pytest.fixture(scope="module")
def small(start_server):
    return start_server("--max-queued-items", str(CAPACITY), "--coding-processes", "1")


@pytest.fixture
def request_of_many(selector, tiles):
    return codec_pb2.EncodeRequest(model=selector, images=map(raw_image, tiles[:ITEMS]))


def retry_seconds(error):
    """What the status details say of when to come back."""
    info = error_details_pb2.RetryInfo()
    for detail in rpc_status.from_call(error).details:
        if detail.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    return None


def test_a_flood_is_refused_with_a_time_to_come_back(small, request_of_many):
    found, retries = Counter(), []
    lock = threading.Lock()

    def caller(_):
        with grpc.insecure_channel(small.address) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            for _ in range(CALLS):
                try:
                    answer = stub.Encode(request_of_many, timeout=60)
                    outcome, after = len(answer.results), None
                except grpc.RpcError as error:
                    outcome, after = error.code(), retry_seconds(error)
                with lock:
                    found[outcome] += 1
                    retries.append(after)

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(caller, range(CALLERS)))
    refused = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert set(found) == {ITEMS, refused}
    assert found[ITEMS] + found[refused] == CALLERS * CALLS
    assert all(0.05 <= seconds <= 5 for seconds in retries if seconds is not None)
    assert sum(seconds is not None for seconds in retries) == found[refused]
    with grpc.insecure_channel(small.address) as channel:  # the place of all of them is free
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        assert len(stub.Encode(request_of_many, timeout=60).results) == ITEMS


def test_every_call_of_a_great_flood_is_told_why(small, selector, tiles):
    """More calls of each connection than it may have open, and more of all than gRPC lets wait by
    default: none is cancelled by gRPC, or refused by it without a time to come back.
    """
    # Of several images, so that the server cannot keep up with this process.
    request = codec_pb2.EncodeRequest(model=selector, images=map(raw_image, tiles[:8]))
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(small.address, options) for _ in range(10)]
    stubs = [codec_pb2_grpc.CodecServiceStub(channel) for channel in channels]
    calls = [stub.Encode.future(request, timeout=60) for _ in range(250) for stub in stubs]
    found = Counter(call.code() for call in calls)
    refused = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert set(found) == {grpc.StatusCode.OK, refused}
    assert all(retry_seconds(call) for call in calls if call.code() is refused)
    for channel in channels:
        channel.close()


def test_streams_wait_instead(small, request_of_many):
    """Ten streams of five times the capacity: all is answered, nothing refused."""

    def caller(_):
        with grpc.insecure_channel(small.address) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            messages = [codec_pb2.StreamEncodeRequest(request=request_of_many)] * 5
            answers = stub.StreamEncode(iter(messages), timeout=120)
            return [len(answer.response.results) for answer in answers]

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(caller, range(10))) == [[ITEMS] * 5] * 10


def test_clients_come_back(small, model, tiles):
    """Every caller of `Client` gets all of its files, since it tries again when it is told to."""

    def caller(number):
        with Client(small.address) as client:
            rolled = np.roll(tiles[:ITEMS], number, axis=0)
            return [client.encode(rolled, **model) for _ in range(3)]

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(caller, range(6)))
    first = found[0][0]
    for number, answers in enumerate(found):
        assert answers == [first[-number:] + first[:-number]] * 3


def test_a_deadline_ends_a_call(small, request_of_many):
    with grpc.insecure_channel(small.address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        with pytest.raises(grpc.RpcError) as ended:
            stub.Encode(request_of_many, timeout=0.0001)
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(stub.Encode(request_of_many, timeout=60).results) == ITEMS
