"""Open calls that are silent: bounded in all and of each token, ended in time, others unharmed."""

import asyncio
import threading
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from hvae_codec.client import Client
from hvae_codec.client.blocking import streams
from hvae_codec.server.admission.open_calls import OpenCalls, Silence
from hvae_codec.server.errors import OverloadError
from hvae_codec.server.settings import OpenLimits
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.messages import raw_image
from tests.server.token_tables import token_table
from tests.waiting import wait_until

STREAMS, IDLE_SECONDS = 8, 8
GREEDY, OTHER = "greedy-0123456789abcdef0123456789", "other-0123456789abcdef01234567890"
SECONDS = 60
LATE_SECONDS = 30  # on a busy machine
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE


def bearer(token):
    return [("authorization", f"Bearer {token}")]


def details(error):
    """Reason of the ErrorInfo and seconds of the RetryInfo of a call that failed."""
    reason = delay = None
    for detail in rpc_status.from_call(error).details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            delay = retry.retry_delay.ToNanoseconds() / 1e9
    return reason, delay


@pytest.fixture(scope="module")
def small(start_server, tmp_path_factory):
    """Eight streams in all, of one token two, or three where its line says so."""
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    greedy = token_table("greedy", GREEDY, items=8, requests=5)
    path.write_text(greedy + token_table("other", OTHER, streams=3))
    path.chmod(0o600)
    flags = ("--max-streams", str(STREAMS), "--idle-seconds", str(IDLE_SECONDS))
    server = start_server("--token-file", str(path), *flags, "--preload", "cifar10")
    yield server
    assert "Traceback" not in server.log, server.log


@pytest.fixture
def silent(small):
    """Opens streams that send nothing; ends them."""
    channel = grpc.insecure_channel(small.address)
    stub = codec_pb2_grpc.CodecServiceStub(channel)
    hold = threading.Event()

    def nothing():
        hold.wait(SECONDS)
        return
        yield

    def open_streams(count, token):
        return [stub.StreamEncode(nothing(), metadata=bearer(token)) for _ in range(count)]

    yield open_streams
    hold.set()
    channel.close()
    time.sleep(0.2)


def ended(calls):
    """Those of the calls that have ended."""
    return [call for call in calls if not call.is_active()]


def refused_of(calls, count):
    """Those of the calls that are refused, once there are so many."""
    wait_until(lambda: len(ended(calls)) >= count)
    return [call for call in ended(calls) if call.code() is EXHAUSTED]


def test_silence_of_one_token_leaves_places_to_others(small, silent, tiles, model):
    of_greedy = silent(20, GREEDY)
    refused = refused_of(of_greedy, 20 - STREAMS // 4)
    assert len(refused) == 20 - STREAMS // 4
    for call in refused:
        assert "this token has 2 streams open" in call.details()
        assert details(call) == ("OVERLOAD", 1.0)
    of_other = silent(5, OTHER)
    assert len(refused_of(of_other, 2)) == 2
    with Client(small.address, token=OTHER) as client:
        assert len(client.encode(tiles[:16], **model)) == 16
    with grpc.insecure_channel(small.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status == 1


def test_streams_that_stay_silent_end_and_say_so(silent):
    began = time.monotonic()
    (call,) = silent(1, OTHER)
    with pytest.raises(grpc.RpcError):
        next(call)
    assert IDLE_SECONDS - 1 < time.monotonic() - began < IDLE_SECONDS + LATE_SECONDS
    assert call.code() is UNAVAILABLE
    assert "the stream's next message did not come in time" in call.details()
    assert details(call)[0] == "SILENT_CALL"


def test_a_client_whose_source_pauses_gets_all_answers(small, tiles, model):
    """Longer than the server waits: the stream is opened again, and nobody sees it."""

    def source():
        yield from tiles[:4]
        time.sleep(IDLE_SECONDS + 3)
        yield from tiles[4:8]

    with Client(small.address, token=OTHER) as client:
        blobs = list(client.encode_stream(source(), **model))
        assert blobs == client.encode(tiles[:8], **model)


def test_the_longest_silent_make_room_where_others_are_refused(silent):
    """Of a token that has as many as it may, the first ends after five seconds of silence, long
    before the eight that it has otherwise."""
    first = silent(3, OTHER)
    time.sleep(6)
    assert all(call.is_active() for call in first)
    (refused,) = silent(1, OTHER)
    with pytest.raises(grpc.RpcError):
        next(refused)
    assert refused.code() is EXHAUSTED
    wait_until(lambda: ended(first))
    assert len(ended(first)) == 1
    (taken,) = silent(1, OTHER)
    time.sleep(0.5)
    assert not ended([taken])


def test_a_call_whose_message_does_not_come_ends(small):
    hold = threading.Event()

    def nothing():
        hold.wait(SECONDS)
        return
        yield

    with grpc.insecure_channel(small.address) as channel:
        encode = channel.stream_unary(
            "/hvae_codec.v1.CodecService/Encode",
            request_serializer=codec_pb2.EncodeRequest.SerializeToString,
            response_deserializer=codec_pb2.EncodeResponse.FromString,
        )
        check = channel.stream_unary("/grpc.health.v1.Health/Check")
        began = time.monotonic()
        calls = [
            encode.future(nothing(), metadata=bearer(OTHER), timeout=SECONDS),
            check.future(nothing(), timeout=SECONDS),
        ]
        for call in calls:
            assert call.exception().code() is UNAVAILABLE
            assert "the call's message did not come in time" in call.exception().details()
        assert time.monotonic() - began < IDLE_SECONDS + LATE_SECONDS
        empty = encode.future(iter(()), metadata=bearer(OTHER), timeout=SECONDS)
        assert empty.exception().code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no message" in empty.exception().details()
    hold.set()


def test_silent_calls_of_one_token_do_not_keep_those_of_others_waiting(small, tiles, selector):
    """More calls that send nothing than messages are read at once."""
    hold = threading.Event()

    async def main():
        async def nothing():
            await asyncio.to_thread(hold.wait, SECONDS)
            return
            yield

        channels = [
            grpc.aio.insecure_channel(small.address, [("grpc.use_local_subchannel_pool", 1)])
            for _ in range(3)
        ]
        calls = [
            channel.stream_unary("/hvae_codec.v1.CodecService/Encode")(
                nothing(), metadata=bearer(GREEDY)
            )
            for channel in channels
            for _ in range(60)
        ]
        await asyncio.sleep(1)
        request = codec_pb2.EncodeRequest(model=selector, images=[raw_image(tiles[0])])
        async with grpc.aio.insecure_channel(small.address) as channel:
            encode = codec_pb2_grpc.CodecServiceStub(channel).Encode
            began = time.monotonic()
            answer = await encode(request, metadata=bearer(OTHER), timeout=SECONDS)
            seconds = time.monotonic() - began
        hold.set()
        for call in calls:
            call.cancel()
        for channel in channels:
            await channel.close()
        return answer, seconds

    answer, seconds = asyncio.run(main())
    assert len(answer.results) == 1
    assert seconds < IDLE_SECONDS - 1


def test_silent_calls_on_many_connections_do_not_keep_others_waiting(server, tiles, selector):
    """Where there are no tokens, and more calls than messages are read at once."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    hold = threading.Event()

    def nothing():
        hold.wait(SECONDS)
        return
        yield

    channels = [grpc.insecure_channel(server.address, own) for _ in range(5)]
    encodes = [channel.stream_unary("/hvae_codec.v1.CodecService/Encode") for channel in channels]
    # Kept, since a call that nobody knows is cancelled.
    calls = [encode.future(nothing()) for encode in encodes for _ in range(40)]
    time.sleep(1)
    assert not any(call.done() for call in calls)
    request = codec_pb2.EncodeRequest(model=selector, images=[raw_image(tiles[0])])
    with grpc.insecure_channel(server.address, own) as channel:
        answer = codec_pb2_grpc.CodecServiceStub(channel).Encode(request, timeout=SECONDS)
    assert len(answer.results) == 1
    hold.set()
    for channel in channels:
        channel.close()


def test_watches_of_health_are_bounded_and_checks_are_not(small):
    own = [("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.insecure_channel(small.address, own) as first,
        grpc.insecure_channel(small.address, own) as second,
    ):
        stubs = [health_pb2_grpc.HealthStub(channel) for channel in (first, second)]
        request = health_pb2.HealthCheckRequest()
        watches = [stub.Watch(request) for stub in stubs for _ in range(80)]
        refused = refused_of(watches, 160 - 128)
        assert len(refused) == 160 - 128
        for watch in watches:
            watch.cancel()
        assert stubs[0].Check(request, timeout=SECONDS).status == 1


def test_a_client_does_not_halve_calls_that_find_no_place(small, silent, model, tiles, monkeypatch):
    """It comes again when it is told to, and with one stream it has its answers by then."""
    calls = silent(4, OTHER)  # kept, since a call that nobody knows is cancelled
    assert len(refused_of(calls, 1)) == 1
    waits, methods = [], []
    monkeypatch.setattr(streams, "sleep", lambda wait: waits.append(wait) or time.sleep(wait))
    with Client(small.address, token=OTHER) as client:
        call = client._call
        client._call = lambda method, *given: methods.append(method) or call(method, *given)
        blobs = list(client.encode_stream(tiles, **model))
        assert waits
        assert methods == ["ListModels"]  # which asks for the limits
        client._call = call
        assert blobs == client.encode(tiles, **model)


def test_places_are_counted_by_kind_and_caller():
    async def call(calls, ended, *args, **kwargs):
        calls.enter(*args, **kwargs)
        await ended.wait()

    async def main():
        calls = OpenCalls(OpenLimits(calls=8, streams=4), Silence(10))
        ended = asyncio.Event()

        async def opened(*args, **kwargs):
            task = asyncio.create_task(call(calls, ended, *args, **kwargs))
            await asyncio.sleep(0)
            if task.done():
                with pytest.raises(OverloadError) as refused:
                    task.result()
                return str(refused.value)
            return None

        assert await opened("a", stream=True) is None
        assert "this token has 1 streams" in await opened("a", stream=True)
        assert await opened("b", 3, stream=True) is None
        assert await opened("b", 3, stream=True) is None
        assert await opened("b", 3, stream=True) is None
        assert "4 streams are open" in await opened("b", 3, stream=True)
        assert "4 streams are open" in await opened(None, stream=True)
        assert await opened("a", stream=False) is None
        assert await opened("a", stream=False) is None
        assert "this token has 2 calls" in await opened("a", stream=False)
        assert calls.streams == 4
        ended.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert calls.streams == 0
        ended.clear()
        assert await opened("a", stream=True) is None
        ended.set()

    asyncio.run(main())


def test_a_stream_is_not_ended_for_a_message_that_waits_to_be_read():
    now, gone = [0.0], []
    silence = Silence(100, lambda: now[0])
    silence.begin("a", lambda: gone.append("stream"))
    silence.begin("b", lambda: gone.append("message"), reading=True)
    now[0] = 6
    silence.make_room(reading=True)
    silence.make_room(reading=True)
    assert gone == ["message"]
    silence.make_room()
    assert gone == ["message", "stream"]


def test_silence_ends_the_longest_silent():
    now = 100.0
    silence = Silence(60, lambda: now)
    gone = []
    over = silence.begin("a", lambda: gone.append("a"))
    now = 103.0
    silence.begin("b", lambda: gone.append("b"))
    silence.begin("c", lambda: gone.append("c"))
    now = 104.9
    silence.make_room()
    assert gone == []
    over()
    now = 108.1
    silence.make_room("a")
    assert gone == []
    silence.make_room("c")
    silence.make_room("c")
    assert gone == ["c"]
    now = 162.9
    silence.look()
    assert gone == ["c"]
    now = 163.0
    silence.look()
    silence.look()
    assert gone == ["c", "b"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"streams": 0}, "at least 1"), ({"idle_seconds": 0.0}, "above 0")],
)
def test_limits_are_checked(bad, words):
    with pytest.raises(ValueError, match=words):
        OpenLimits(**bad)


@pytest.mark.parametrize("stream", [True, False])
def test_one_host_has_three_quarters_of_the_calls_of_a_kind(stream):
    calls = OpenCalls(OpenLimits(streams=8, calls=8), Silence(60))

    async def main():
        over = asyncio.Event()
        refused = []

        async def call(host):
            calls.enter(None, stream=stream)
            try:
                calls.enter_host(host, stream=stream)
            except OverloadError as error:
                refused.append(str(error))
                return
            await over.wait()

        async def opened(host, count):
            made = [asyncio.create_task(call(host)) for _ in range(count)]
            await asyncio.sleep(0.01)
            return made

        tasks = await opened("10.0.0.1", 8)
        assert len(refused) == 2
        kind = "streams" if stream else "calls"
        assert f"your host has 6 {kind} open" in refused[0]
        tasks += await opened("10.0.0.2", 2)
        assert len(refused) == 2
        over.set()
        await asyncio.gather(*tasks)
        tasks = await opened("10.0.0.1", 6)
        assert len(refused) == 2
        await asyncio.gather(*tasks)

    asyncio.run(main())
