"""What one caller holds without using it leaves the server to others, and ends in time."""

import asyncio
import contextlib
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import hvae_codec
from hvae_codec.server.admission.capacity import Admission
from hvae_codec.server.admission.open_calls import UnreadAnswers, host_of
from hvae_codec.server.admission.side_calls import OpenStreams
from hvae_codec.server.errors import OverloadError
from hvae_codec.server.settings import Capacity
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.conftest import TOKENS
from tests.server.forwarding import from_host
from tests.server.messages import raw_image
from tests.server.scraping import Scrape, scraped_when
from tests.waiting import wait_until

MIB = 2**20
STREAMS, IDLE_SECONDS = 8, 4
SECONDS = 60
LATE_SECONDS = 30  # on a busy machine
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE
OWN = [("grpc.use_local_subchannel_pool", 1)]
UNREAD = [*OWN, ("grpc.max_receive_message_length", -1), ("grpc.http2.bdp_probe", 0)]
CHECK = health_pb2.HealthCheckRequest()
SERVICES = reflection_pb2.ServerReflectionRequest(list_services="")


@pytest.fixture(scope="module")
def small(start_server, tmp_path_factory):
    """Eight streams in all, and 48 MiB; what it frees may not wait for a collection of garbage."""
    modules = tmp_path_factory.mktemp("modules")
    (modules / "sitecustomize.py").write_text("import gc\ngc.set_threshold(0)\n")
    flags = ("--max-streams", str(STREAMS), "--idle-seconds", str(IDLE_SECONDS))
    memory = ("--max-queued-bytes", str(48 * MIB), "--coding-processes", "1")
    flags = (*flags, *memory, "--metrics-port", "0", "--preload", "cifar10")
    server = start_server(*flags, environment={"PYTHONPATH": str(modules)})
    yield server
    assert "Traceback" not in server.log, server.log


@pytest.fixture
def held():
    """Requests that say nothing more until the test is over."""
    over = threading.Event()

    def requests(*first):
        yield from first
        over.wait(SECONDS)

    yield requests
    over.set()


def encode_request(selector, tiles):
    return codec_pb2.EncodeRequest(model=selector, images=map(raw_image, tiles))


def codes_until_the_end(call):
    """The codes of the answers of a stream that ends with an error."""
    codes = []
    with contextlib.suppress(grpc.RpcError):
        for answer in call:
            codes.append(answer.status.code)  # noqa: PERF401 - it ends with an error
    return codes


def outcome(call):
    """The code with which a call that has no answer ends."""
    with pytest.raises(grpc.RpcError):
        next(call)
    return call.code()


def test_one_host_leaves_streams_to_others(small, held, selector, tiles):
    """Without tokens: of eight streams one host has six, however many connections it uses, and
    another host has the rest, at once.
    """
    message = codec_pb2.StreamEncodeRequest(request=encode_request(selector, tiles[:2]))
    with (
        grpc.insecure_channel(small.address, OWN) as first,
        grpc.insecure_channel(small.address, OWN) as second,
        from_host("127.0.0.2", small.address) as address,
        grpc.insecure_channel(address) as other,
    ):
        stubs = [codec_pb2_grpc.CodecServiceStub(each) for each in (first, second)]
        calls = [stub.StreamEncode(held()) for stub in stubs for _ in range(4)]

        def refused():
            return [call for call in calls if not call.is_active() and call.code() is EXHAUSTED]

        wait_until(lambda: len(refused()) >= 2)
        answers = codec_pb2_grpc.CodecServiceStub(other).StreamEncode(iter([message]))
        assert [len(answer.response.results) for answer in answers] == [2]
        assert len(refused()) == 2
        assert all("your host has 6 streams open" in call.details() for call in refused())
        for call in calls:
            call.cancel()


def test_messages_without_items_do_not_keep_a_stream(small, selector, tiles):
    """They are answered, and the stream ends as one that is silent; one with items goes on."""
    empty = codec_pb2.StreamEncodeRequest(request=codec_pb2.EncodeRequest(model=selector))
    full = codec_pb2.StreamEncodeRequest(request=encode_request(selector, tiles[:1]))

    def each_second(message):
        for _ in range(3 * IDLE_SECONDS):
            yield message
            time.sleep(1)

    with grpc.insecure_channel(small.address, OWN) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        idle, busy = stub.StreamEncode(each_second(empty)), stub.StreamEncode(each_second(full))
        began = time.monotonic()
        answers = codes_until_the_end(idle)
        assert idle.code() is UNAVAILABLE
        assert "the stream's next message did not come in time" in idle.details()
        assert IDLE_SECONDS - 1 < time.monotonic() - began < IDLE_SECONDS + LATE_SECONDS
        assert len(answers) >= 2
        assert set(answers) == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}
        assert len(list(busy)) == 3 * IDLE_SECONDS


def test_streams_that_watch_make_room_for_others(small):
    """Two connections have all 128 watches; others get theirs, and a client that asks for health
    first gets its calls.
    """
    config = (
        '{"healthCheckConfig": {"serviceName": "hvae_codec.v1.CodecService"},'
        ' "loadBalancingConfig": [{"round_robin": {}}]}'
    )
    with (
        grpc.insecure_channel(small.address, OWN) as first,
        grpc.insecure_channel(small.address, OWN) as second,
        grpc.insecure_channel(small.address, [*OWN, ("grpc.service_config", config)]) as other,
    ):
        stubs = [health_pb2_grpc.HealthStub(channel) for channel in (first, second)]
        watches = [stub.Watch(CHECK) for stub in stubs for _ in range(75)]
        wait_until(lambda: sum(watch.is_active() for watch in watches) == 128)
        with (
            from_host("127.0.0.2", small.address) as address,
            grpc.insecure_channel(address) as far,
        ):
            assert next(health_pb2_grpc.HealthStub(far).Watch(CHECK, timeout=SECONDS)).status == 1
        models = codec_pb2_grpc.CodecServiceStub(other).ListModels
        assert models(codec_pb2.ListModelsRequest(), timeout=SECONDS).models
        assert sum(watch.is_active() for watch in watches) >= 126
        for watch in watches:
            watch.cancel()


def test_silent_streams_of_reflection_end(small, held):
    with grpc.insecure_channel(small.address, OWN) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        began = time.monotonic()
        call = stub.ServerReflectionInfo(held(SERVICES))
        assert next(call).list_services_response.service
        assert outcome(call) is UNAVAILABLE
        assert "the stream's next message did not come in time" in call.details()
        assert IDLE_SECONDS - 1 < time.monotonic() - began < IDLE_SECONDS + LATE_SECONDS


def test_one_token_has_a_quarter_of_the_streams_of_reflection(guarded, held):
    def bearer(name):
        return [("authorization", f"Bearer {TOKENS[name]}")]

    with grpc.insecure_channel(guarded.address, OWN) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        calls = [stub.ServerReflectionInfo(held(), metadata=bearer("alice")) for _ in range(6)]
        wait_until(lambda: sum(call.is_active() for call in calls) <= 8 // 4)
        assert sum(call.is_active() for call in calls) == 8 // 4
        other = stub.ServerReflectionInfo(iter([SERVICES]), metadata=bearer("bob"))
        assert next(other).list_services_response.service
        for call in calls:
            call.cancel()


@pytest.fixture(scope="module")
def large_answer(tiles):
    """A request of little whose answer has 3 MB."""
    (blob,) = hvae_codec.load("cifar10", 1).encode_batch(tiles[:1])
    return codec_pb2.DecodeRequest(encoded=[blob] * 1_000, format=codec_pb2.IMAGE_FORMAT_RAW)


def test_unread_answers_leave_room_for_small_calls_and_end(
    small, held, large_answer, tiles, selector
):
    """Of three connections, which may hold all of the memory: small calls go on meanwhile, and all
    is free once the answers were not read for as long as they may be.
    """
    message = codec_pb2.StreamDecodeRequest(request=large_answer)
    channels = [grpc.insecure_channel(small.address, [*UNREAD, ("n", n)]) for n in range(3)]
    stubs = [codec_pb2_grpc.CodecServiceStub(channel) for channel in channels]
    calls = [stub.StreamDecode(held(*[message] * 3)) for stub in stubs for _ in range(2)]
    with grpc.insecure_channel(small.address, OWN) as channel:
        encode = codec_pb2_grpc.CodecServiceStub(channel).Encode
        most, held_now, ends = 0, 1, time.monotonic() + 2 * SECONDS
        # One connection after the other, as there is room for their answers.
        while held_now > 0:
            assert time.monotonic() < ends
            time.sleep(0.5)
            held_now = Scrape(small)("hvae_queued_bytes")
            most = max(most, held_now)
            answer = encode(encode_request(selector, tiles[:2]), timeout=SECONDS)
            assert len(answer.results) == 2
    assert most > 24 * MIB
    wait_until(lambda: "read no answers" in small.log)
    for call in calls:
        call.cancel()
    for channel in channels:
        channel.close()


def test_unread_answers_on_a_socket_in_the_file_system_end_too(
    start_server, held, large_answer, tmp_path
):
    """Its connections are closed; a client that connects again has the memory."""
    address = f"unix:{tmp_path / 'socket'}"
    memory = ("--max-queued-bytes", str(48 * MIB), "--coding-processes", "1")
    flags = ("--idle-seconds", "2", *memory, "--metrics-port", "0", "--preload", "mnist")
    server = start_server("--host", address, *flags)
    message = codec_pb2.StreamDecodeRequest(request=large_answer)
    with (
        grpc.insecure_channel(address, UNREAD) as first,
        grpc.insecure_channel(address, OWN) as other,
    ):
        call = codec_pb2_grpc.CodecServiceStub(first).StreamDecode(held(message, message))
        scraped_when(server, lambda scrape: scrape("hvae_queued_bytes") > 12 * MIB, SECONDS)
        scraped_when(server, lambda scrape: scrape("hvae_queued_bytes") == 0, SECONDS)
        wait_until(lambda: "those of the socket were closed" in server.log)
        decode = codec_pb2_grpc.CodecServiceStub(other).Decode
        assert len(decode(large_answer, timeout=SECONDS).results) == 1_000
        call.cancel()


def test_a_stream_whose_answers_were_not_read_says_so(small, large_answer):
    """To a reader that comes back before its connection is closed."""
    message = codec_pb2.StreamDecodeRequest(request=large_answer)

    async def main():
        async with grpc.aio.insecure_channel(small.address, UNREAD) as channel:
            call = codec_pb2_grpc.CodecServiceStub(channel).StreamDecode()
            for _ in range(3):
                await call.write(message)
            await asyncio.sleep(IDLE_SECONDS + 3)
            assert len((await call.read()).response.results) == 1_000
            return await call.code(), await call.details()

    code, details = asyncio.run(asyncio.wait_for(main(), SECONDS))
    assert code is UNAVAILABLE
    assert "the answers of this call were not read in time" in details


def test_who_has_the_most_makes_room():
    """By hand: of four, a has three, of which two by its connection 1. One with less than half
    as many gets a place of who has the most.
    """

    async def main():
        streams = OpenStreams(4)
        loop = asyncio.get_running_loop()

        def enter(caller, peer):
            end = loop.create_future()
            streams.enter(caller, peer, end)
            return end

        first, second, third = enter("a", "1"), enter("a", "2"), enter("a", "2")
        fourth = enter("b", "3")
        with pytest.raises(OverloadError, match="4 streams of this service are open"):
            enter("a", "1")
        enter("c", "4")
        assert "its own had 3 open" in str(second.result())
        with pytest.raises(OverloadError):
            enter("c", "4")
        enter("d", "5")
        assert not fourth.done()
        assert first.done() != third.done()

    asyncio.run(main())


def test_small_calls_pass_streams_that_wait_for_memory():
    """By hand: 32 MiB, of which 2 are for small calls."""
    admission = Admission(Capacity(items=100, bytes=32 * MIB))

    async def main():
        with await admission.take_in_turn(1, 29 * MIB):
            waiting = asyncio.create_task(admission.take_in_turn(1, 2 * MIB))
            await asyncio.sleep(0)
            with pytest.raises(OverloadError):
                admission.take(1, MIB // 2)
            small = [admission.take(1, MIB // 4) for _ in range(8)]
            with pytest.raises(OverloadError):
                admission.take(1, MIB // 4)
            for each in small:
                each.release()
        (await waiting).release()

    asyncio.run(main())
    assert admission.is_idle
    assert (admission.items, admission.bytes) == (0, 0)


def test_answers_alone_keep_no_call_out():
    admission = Admission(Capacity(items=16, bytes=1600))
    with admission.take(4, 100) as held:
        asyncio.run(held.more(1400))
        with pytest.raises(OverloadError):
            admission.take(1, 200)
        with pytest.raises(OverloadError):
            admission.check()
        held.answered(1400)
        assert admission.items == 0
        admission.check()


def test_the_unread_that_hold_most_end_first():
    now, ended, closed = [0.0], [], []
    unread = UnreadAnswers(100, closed.append, clock=lambda: now[0])
    read = unread.begin("p", lambda: 900, lambda: ended.append("read"))
    for name, size in (("small", 1), ("large", 3), ("middle", 2)):
        unread.begin(name, lambda size=size: size, lambda name=name: ended.append(name))
    unread.begin("unary", lambda: 1_000)
    now[0] = 4.9
    unread.make_room()
    assert ended == []
    read()
    now[0] = 5
    unread.make_room()
    assert ended == ["large"]
    now[0] = 100
    unread.look()
    assert ended == ["large", "middle", "small"]
    assert closed == []
    now[0] = 105
    unread.look()
    assert sorted(closed) == ["large", "middle", "small", "unary"]


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "%5B2001:db8::1%5D"),
        ("unix:/tmp/socket", None),
        ("unix:", None),
        ("a-token", None),
    ],
)
def test_hosts_of_connections(peer, host):
    assert host_of(peer) == host
