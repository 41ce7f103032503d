"""Streams: in order, lazily, and going on where they broke, with nothing twice and nothing lost."""

import asyncio
import contextlib
import itertools
import threading
import time

import grpc
import numpy as np
import pytest

from hvae_codec.client import AsyncClient, Client, Retry, ServiceError, Streaming
from hvae_codec.errors import AlphaError, ImageError, NotAnHvaeFileError

FAST = Retry(attempts=4, first_delay=0.01, greatest_delay=0.05, seed=1)


def test_results_come_in_order(ask, small, pictures, hashes):
    assert ask(small.address, "encode_stream", pictures, model="m") == hashes
    assert small.of("StreamEncode") == [5, 5, 5, 5, 3]
    assert small.of("Encode") == []


def test_messages_hold_as_many_items_as_asked_for(ask, small, pictures, hashes):
    settings = {"streaming": Streaming(in_flight=2, message_items=2)}
    found = ask(small.address, "encode_stream", pictures, model="m", settings=settings)
    assert found == hashes
    assert small.of("StreamEncode") == [2] * 11 + [1]


@pytest.mark.parametrize("wrong", [{"in_flight": 0}, {"message_items": 0}])
def test_a_stream_of_nothing_at_once(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        Streaming(**wrong)


def test_nothing_is_a_stream_too(ask, small):
    assert ask(small.address, "encode_stream", [], model="m") == []
    assert small.of("StreamEncode") == []


def test_pictures_are_read_only_as_far_as_messages_are_on_their_way(small, pictures, hashes):
    read = []

    def endless():
        for picture in itertools.cycle(pictures):
            read.append(picture)
            yield picture

    streaming = Streaming(in_flight=3, message_items=4)
    with Client(small.address, retry=FAST, streaming=streaming) as client:
        found = client.encode_stream(endless(), model="m")
        assert not read
        for index, result in enumerate(itertools.islice(found, 200)):
            assert result == hashes[index % 23]
            assert len(read) <= 4 * (index // 4 + 3)
        found.close()
    assert small.streams_cancelled.wait(60)


def test_an_asynchronous_iterable_is_read_as_lazily(small, pictures, hashes):
    read = 0

    async def endless():
        nonlocal read
        for picture in itertools.cycle(pictures):
            read += 1
            await asyncio.sleep(0)
            yield picture

    async def ask():
        streaming = Streaming(in_flight=3, message_items=4)
        async with AsyncClient(small.address, retry=FAST, streaming=streaming) as client:
            stream = client.encode_stream(endless(), model="m")
            async with contextlib.aclosing(stream):
                index = 0
                async for result in stream:
                    assert result == hashes[index % 23]
                    assert read <= 4 * (index // 4 + 3)
                    index += 1
                    if index == 100:
                        break

    asyncio.run(ask())
    assert small.streams_cancelled.wait(60)


@pytest.mark.parametrize("after", range(5))
def test_a_stream_that_breaks_goes_on_with_the_first_unanswered(
    ask, small, pictures, hashes, after
):
    """The server answers each message once; of those on their way it begins with the one that it
    broke at, by a call of its own where gRPC lost the reason.
    """
    small.break_after = after
    small.pause = 0.02  # so that others are on their way when it breaks
    assert ask(small.address, "encode_stream", pictures, model="m") == hashes
    assert small.answered == hashes
    sizes = [5, 5, 5, 5, 3]
    sent = [items for method, items in small.messages if method != "ListModels"]
    assert sent == [*sizes[:after], sizes[after], *sizes[after:]]


def test_a_stream_may_break_more_often_than_there_are_tries(ask, small, pictures, hashes):
    """Tries count from the last answer on: as long as there are some, it goes on."""
    refused = iter([True, False] * 100)
    encoded = small._encoded

    def sometimes(request):
        if next(refused):
            small.break_after = 0
        return encoded(request)

    small._encoded = sometimes
    settings = {"streaming": Streaming(in_flight=1, message_items=1)}
    assert ask(small.address, "encode_stream", pictures, model="m", settings=settings) == hashes
    assert len(small.of("StreamEncode")) >= 23


def test_a_stream_that_always_breaks_fails(ask, small, failing, pictures):
    small.failures.extend([failing(grpc.StatusCode.UNAVAILABLE)] * 100)
    with pytest.raises(ServiceError) as raised:
        ask(small.address, "encode_stream", pictures, model="m")
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert 4 <= len(small.of("StreamEncode")) + len(small.of("Encode")) <= 5


def test_a_full_server_lets_a_stream_wait(ask, small, failing, pictures, hashes):
    full = failing(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=0.2)
    encoded, times = small._encoded, iter([full])

    def full_once(request):
        if len(small.of("StreamEncode")) >= 2:
            small.failures.extend(itertools.islice(times, 1))
        return encoded(request)

    small._encoded = full_once
    start = time.monotonic()
    assert ask(small.address, "encode_stream", pictures, model="m") == hashes
    assert time.monotonic() - start > 0.2


def test_what_is_wrong_as_a_whole_ends_the_stream(ask, small, failing, pictures):
    small.failures.extend([failing(grpc.StatusCode.UNAUTHENTICATED)] * 2)
    with pytest.raises(ServiceError, match="UNAUTHENTICATED"):
        ask(small.address, "encode_stream", pictures, model="m", on_error="return")


def test_results_before_the_first_error_are_yielded(small, pictures, hashes):
    small.bad = {pictures[7].tobytes()}
    with Client(small.address, retry=FAST) as client:
        found = client.encode_stream([*pictures[:9], "/nowhere.png"], model="m")
        assert list(itertools.islice(found, 7)) == hashes[:7]
        with pytest.raises(AlphaError, match=r"^images\[7\]: "):
            next(found)
        assert list(found) == []
        found = client.encode_stream([*pictures[:3], "/nowhere.png"], model="m")
        assert list(itertools.islice(found, 3)) == hashes[:3]
        with pytest.raises(ImageError, match=r"^images\[3\]: cannot read"):
            next(found)


def test_an_error_of_the_callers_iterable_is_the_callers(ask, small, pictures):
    def failing_source():
        yield from pictures[:12]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        ask(small.address, "encode_stream", failing_source(), model="m")
    assert not small.of("StreamEncode") or small.streams_cancelled.wait(60)


def test_a_deadline_ends_a_stream(ask, small, pictures):
    small.pause = 0.2
    start = time.monotonic()
    with pytest.raises(ServiceError, match=r"within 0\.5 s"):
        ask(small.address, "encode_stream", pictures, model="m", timeout=0.5)
    assert time.monotonic() - start < 30


def test_many_streams_over_one_client(small, pictures, hashes):
    found = {}
    with Client(small.address, retry=FAST) as client:

        def stream(turn):
            turned = pictures[turn:] + pictures[:turn]
            found[turn] = list(client.encode_stream(turned, model="m"))

        threads = [threading.Thread(target=stream, args=(turn,)) for turn in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert found == {turn: hashes[turn:] + hashes[:turn] for turn in range(6)}


def test_no_thread_is_left_behind(small, pictures):
    with Client(small.address, retry=FAST) as client:
        list(client.encode_stream(pictures, model="m"))
        before = threading.active_count()
        for _ in range(5):
            list(client.encode_stream(pictures, model="m"))
            next(client.encode_stream(pictures, model="m"))  # left in its middle
        deadline = time.monotonic() + 60
        while threading.active_count() > before + 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        left = [thread.name for thread in threading.enumerate()]
        assert len(left) <= before + 1, left


def test_single_things_in_the_place_of_many(ask, small):
    with pytest.raises(ImageError, match="must be a list"):
        ask(small.address, "encode_stream", b"one file", model="m")
    with pytest.raises(ImageError, match=r"\[N, H, W, C\]"):
        ask(small.address, "features_stream", np.zeros((4, 4, 3), np.uint8), model="m")
    with pytest.raises(NotAnHvaeFileError, match="must be a list"):
        ask(small.address, "decode_stream", b"one file")
    assert not small.messages
