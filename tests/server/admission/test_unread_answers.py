"""Answers that nobody reads keep neither memory nor places from others who are refused for them."""

import asyncio
import time

import grpc
import pytest

import hvae_codec
from hvae_codec.server.admission.open_calls import OpenCalls, Silence, UnreadAnswers
from hvae_codec.server.errors import OverloadError
from hvae_codec.server.observability.calls import CallContext, set_current_call
from hvae_codec.server.settings import OpenLimits
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.scraping import scraped_when

MIB = 2**20
SECONDS = 60
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE
UNREAD = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.http2.bdp_probe", 0),
]


def test_unread_answers_of_single_calls_make_room_long_before_they_end(start_server, tiles):
    """Of two connections, which hold all of the memory: 300 s are left to their answers, but others
    are refused for it, so that the connection that holds most is closed.
    """
    (blob,) = hvae_codec.load("cifar10", 1).encode_batch(tiles[:1])
    large_answer = codec_pb2.DecodeRequest(
        encoded=[blob] * 1_000, format=codec_pb2.IMAGE_FORMAT_RAW
    )
    memory = ("--max-queued-bytes", str(48 * MIB), "--coding-processes", "1")
    server = start_server(*memory, "--metrics-port", "0", "--preload", "cifar10@1")
    channels = [grpc.insecure_channel(server.address, [*UNREAD, ("n", n)]) for n in range(3)]
    # Read as streams, answers stay with the server until they are asked for.
    unread = [
        channel.unary_stream(
            "/hvae_codec.v1.CodecService/Decode",
            request_serializer=codec_pb2.DecodeRequest.SerializeToString,
            response_deserializer=codec_pb2.DecodeResponse.FromString,
        )
        for channel in channels[:2]
    ]
    decode = codec_pb2_grpc.CodecServiceStub(channels[2]).Decode
    calls = []

    def is_taken():
        try:
            assert len(decode(large_answer, timeout=SECONDS).results) == 1_000
        except grpc.RpcError as error:
            if error.code() is not EXHAUSTED:
                raise
            return False
        return True

    ends = time.monotonic() + SECONDS
    while is_taken():
        assert time.monotonic() < ends
        calls += [call(large_answer) for call in unread]
        scraped_when(server, lambda scrape: scrape("hvae_queued_items") == 0, SECONDS)
    while not is_taken():
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert "read no answers: its connection was closed" in server.log
    assert any(call.done() and call.code() is UNAVAILABLE for call in calls)
    for channel in channels:
        channel.close()
    scraped_when(server, lambda scrape: scrape("hvae_queued_bytes") == 0, SECONDS)


def test_connections_close_where_nothing_is_left_to_end():
    """Those that hold most of what is unread for ten seconds, one a second."""
    now, closed = [0.0], []
    unread = UnreadAnswers(300, closed.append, clock=lambda: now[0])
    for peer, size in (("one", 5), ("two", 3), ("two", 3), ("three", 1)):
        unread.begin(peer, lambda size=size: size)
    ended = unread.begin("stream", lambda: 4, lambda: None)
    for now[0] in (4.9, 5, 9.9):
        unread.make_room()
        assert closed == []
    late = unread.begin("late", lambda: 100)
    for now[0], there in ((10, ["two"]), (10.5, ["two"])):
        unread.make_room()
        assert closed == there
    for now[0] in (11, 12, 13):
        unread._calls = {call: None for call in unread._calls if call.peer not in closed}
        unread.make_room()
    assert closed == ["two", "one", "stream", "three"]
    ended()
    late()


@pytest.mark.parametrize("stream", [False, True])
def test_unread_answers_keep_no_place_where_others_are_refused(stream):
    """They end as silent calls do: of the caller with the most, or of the one that is refused."""
    now, ended, closed = [0.0], [], []
    silence = Silence(300)
    unread = UnreadAnswers(300, closed.append, clock=lambda: now[0])
    opened = OpenCalls(OpenLimits(calls=8, streams=8), silence, unread)

    async def call(token, wanted):
        set_current_call(CallContext(token=token))
        opened.enter(token, wanted, stream=stream)
        if stream:
            unread.begin("ipv4:1.1.1.1:1", lambda: 1, lambda: ended.append(token))
        else:
            unread.begin(f"ipv4:{token}:1", lambda: 1)
        await asyncio.sleep(3600)

    async def main():
        tasks = []
        for token, wanted in (("a", 5), ("a", 5), ("a", 5), ("b", 2), ("b", 2), ("c", 2)):
            tasks.append(asyncio.create_task(call(token, wanted)))
        await asyncio.sleep(0)
        now[0] = 11.0
        refused = asyncio.create_task(call("b", 2))
        with pytest.raises(OverloadError, match="this token has 2"):
            await refused
        found = list(ended if stream else closed)
        for task in tasks:
            task.cancel()
        return found

    assert asyncio.run(main()) == (["b"] if stream else ["ipv4:b:1"])
