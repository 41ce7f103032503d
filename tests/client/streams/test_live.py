"""Sources that give values now and then: each is answered while the next is waited for."""

import asyncio
import contextlib
import contextvars
import threading
import time

import grpc
import pytest

from hvae_codec.client import AsyncClient, Client, Retry, ServiceError, Streaming

FAST = Retry(attempts=4, first_delay=0.01, greatest_delay=0.05, seed=1)
QUICK = Streaming(delay_seconds=0.05)
PAUSE = 0.4


def stream_blocking(address, pauses, pictures, seen, streaming=QUICK, **options):
    """Results of a blocking source; `seen` gets "read" and "answer" in order."""

    def source():
        for picture in pictures:
            pauses()
            seen.append("read")
            yield picture

    with Client(address, retry=FAST, streaming=streaming) as client:
        for result in client.encode_stream(source(), model="m", **options):
            seen.append("answer")
            yield result


def stream_loop(address, pauses, pictures, seen, streaming=QUICK, **options):
    """As `stream_blocking`, of `AsyncClient` and an asynchronous source."""

    async def source():
        for picture in pictures:
            await asyncio.to_thread(pauses)
            seen.append("read")
            yield picture

    async def ask():
        found = []
        async with AsyncClient(address, retry=FAST, streaming=streaming) as client:
            async for result in client.encode_stream(source(), model="m", **options):
                seen.append("answer")
                found.append(result)
        return found

    return asyncio.run(ask())


@pytest.fixture(params=[stream_blocking, stream_loop], ids=["Client", "AsyncClient"])
def stream(request):
    return lambda *arguments, **options: list(request.param(*arguments, **options))


def test_each_is_answered_before_the_next_comes(stream, small, pictures, hashes):
    seen = []
    found = stream(small.address, lambda: time.sleep(PAUSE), pictures[:4], seen)
    assert found == hashes[:4]
    assert seen == ["read", "answer"] * 4
    assert small.of("StreamEncode") == [1] * 4


def test_a_delay_gathers_what_comes_within_it(stream, small, pictures, hashes):
    """Ten values a second and half a second: five or so in a message, counted from its first."""
    slow = Streaming(message_items=256, delay_seconds=0.5)
    small.limits["items"] = 100
    began = time.monotonic()
    found = stream(small.address, lambda: time.sleep(0.1), pictures[:15], [], slow)
    delays = (time.monotonic() - began) / 0.5
    assert found == hashes[:15]
    sizes = small.of("StreamEncode")
    assert sum(sizes) == 15
    assert 2 <= len(sizes) <= delays + 5
    assert max(sizes) <= 10  # where a timer is late


def test_without_a_delay_messages_are_full(stream, small, pictures, hashes):
    whole = Streaming(message_items=5, delay_seconds=None)
    assert stream(small.address, lambda: time.sleep(0.1), pictures[:7], [], whole) == hashes[:7]
    assert small.of("StreamEncode") == [5, 2]


def test_a_source_that_waits_for_its_last_answer(small, pictures, hashes):
    answered = threading.Semaphore(0)

    def source():
        for picture in pictures[:5]:
            yield picture
            assert answered.acquire(timeout=60)

    found = []
    with Client(small.address, retry=FAST, streaming=QUICK) as client:
        for result in client.encode_stream(source(), model="m"):
            found.append(result)
            answered.release()
    assert found == hashes[:5]


def test_an_asynchronous_source_that_waits_for_its_last_answer(small, pictures, hashes):
    async def ask():
        answers = asyncio.Queue()
        found = []

        async def source():
            async with asyncio.timeout(60):  # of one task from its first value to its last
                for picture in pictures[:5]:
                    yield picture
                    await answers.get()

        async with AsyncClient(small.address, retry=FAST, streaming=QUICK) as client:
            async for result in client.encode_stream(source(), model="m"):
                found.append(result)
                answers.put_nowait(None)
        return found

    assert asyncio.run(ask()) == hashes[:5]


def test_a_blocking_source_of_the_event_loop_is_answered_now_and_then(small, pictures, hashes):
    """Not at once, since it holds up the loop, but before its end."""
    seen = []

    def source():
        for picture in pictures[:8]:
            time.sleep(0.1)
            seen.append("read")
            yield picture

    async def ask():
        found = []
        async with AsyncClient(small.address, retry=FAST, streaming=QUICK) as client:
            async for result in client.encode_stream(source(), model="m"):
                seen.append("answer")
                found.append(result)
        return found

    assert asyncio.run(ask()) == hashes[:8]
    assert seen.index("answer") < 8


def test_a_stream_that_ends_while_the_source_is_silent_is_opened_again(
    stream, small, pictures, hashes
):
    pauses = iter([0, 0.3, 0])

    def pause():
        time.sleep(next(pauses))
        small.break_after = 0  # the next message ends the stream, with UNAVAILABLE

    assert stream(small.address, pause, pictures[:3], []) == hashes[:3]
    assert small.answered == hashes[:3]


def test_what_is_too_large_for_a_message_does_not_wait_for_the_source(stream, small, pictures):
    small.limits["pixels"] = 15  # of a picture's 16: it goes by a call of its own
    seen = []
    assert len(stream(small.address, lambda: time.sleep(PAUSE), pictures[:3], seen)) == 3
    assert seen == ["read", "answer"] * 3
    assert small.of("Encode") == [1] * 3


def test_a_deadline_ends_a_stream_whose_source_is_silent(stream, small, pictures):
    silent = iter([0, 3])
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"within 0\.5 s") as raised:
        stream(small.address, lambda: time.sleep(next(silent)), pictures[:2], [], timeout=0.5)
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("error", [KeyError, TimeoutError])
def test_errors_of_a_source_are_the_callers(stream, small, pictures, error):
    def failing():
        raise error("mine")

    with pytest.raises(error, match="mine"):
        stream(small.address, failing, pictures, [])


def test_a_source_sees_the_callers_context(small, pictures, hashes):
    name = contextvars.ContextVar("name", default="nobody")
    found = []

    def source():
        found.append(name.get())
        yield pictures[0]

    name.set("caller")
    with Client(small.address, retry=FAST, streaming=QUICK) as client:
        assert list(client.encode_stream(source(), model="m")) == hashes[:1]
    assert found == ["caller"]


def test_no_thread_and_no_task_is_left_behind(small, pictures):
    def source():
        yield from pictures

    with Client(small.address, retry=FAST, streaming=QUICK) as client:
        list(client.encode_stream(source(), model="m"))
        before = threading.active_count()
        for _ in range(5):
            list(client.encode_stream(source(), model="m"))
            next(client.encode_stream(source(), model="m"))  # left in its middle
        deadline = time.monotonic() + 60
        while threading.active_count() > before + 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        left = [thread.name for thread in threading.enumerate()]
        assert len(left) <= before + 1, left

    async def ask():
        ended = asyncio.Event()

        async def endless():
            try:
                while True:
                    yield pictures[0]
                    await asyncio.sleep(0)
            finally:
                ended.set()

        async with AsyncClient(small.address, retry=FAST, streaming=QUICK) as client:
            async with contextlib.aclosing(client.encode_stream(endless(), model="m")) as found:
                await anext(found)
            await asyncio.sleep(0.1)
            return [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]

    left = asyncio.run(ask())
    assert len(left) <= 1, left  # gRPC's own


@pytest.mark.parametrize("delay", [-0.1, float("nan"), float("inf")])
def test_delays_that_are_none(delay):
    with pytest.raises(ValueError, match="delay_seconds must be finite and at least 0"):
        Streaming(delay_seconds=delay)
