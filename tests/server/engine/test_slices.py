"""Long work gives way to others, and what it gives is the same; work weighs what it takes."""

import asyncio
import threading
import time
from functools import partial

import grpc
import numpy as np
import pytest

import hvae_codec
from hvae_codec.server.engine.coding_pool import CodingPool
from hvae_codec.server.engine.fairness import Room, Turns
from hvae_codec.server.engine.slow_lane import SlicedExecutor, SlowLane
from hvae_codec.server.observability.calls import CallContext, set_current_call
from hvae_codec.utils.cancellation import check
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.conftest import TOKENS
from tests.server.messages import raw_image

SECONDS = 120
OWN = [("grpc.use_local_subchannel_pool", 1)]


def bearer(name):
    return [("authorization", f"Bearer {TOKENS[name]}")]


def test_short_calls_pass_long_searches(guarded, codec, selector, tiles, smooth_picture):
    """Two searches of one caller, of minutes each; then another caller asks for what goes the same
    way. Each answer is there in seconds, and is that of the codec in this process.
    """
    images = codec_pb2.EncodeRequest(
        model=codec_pb2.ModelSelector(name="cifar10", target_psnr=25.0),
        images=[raw_image(smooth_picture(1_100, 1_000))],
    )
    searched = codec_pb2.EncodeRequest(model=selector, images=[raw_image(tiles[0])], effort=1)
    with grpc.insecure_channel(guarded.address, OWN) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        searching, others = bearer("carol"), bearer("alice")
        stub.Encode(
            searched, metadata=others, timeout=SECONDS
        )  # what is loaded first takes a while
        searches = [stub.Encode.future(images, metadata=searching) for _ in range(2)]
        time.sleep(2)
        took = {}

        def timed(name, call, request):
            began = time.monotonic()
            answer = call(request, metadata=others, timeout=SECONDS)
            took[name] = time.monotonic() - began
            return answer

        file = timed("effort", stub.Encode, searched).results[0].encoded
        sample = timed("sample", stub.Sample, codec_pb2.SampleRequest(model=selector, count=1))
        many = timed("samples", stub.Sample, codec_pb2.SampleRequest(model=selector, count=1_100))
        evaluated = timed(
            "evaluate",
            stub.Evaluate,
            codec_pb2.EvaluateRequest(model=selector, image=raw_image(tiles[1])),
        )
        assert not any(search.done() for search in searches)
        for search in searches:
            search.cancel()
    assert file == codec.encode(tiles[0], effort=1)
    assert len(sample.results) == 1
    assert len(many.results) == 1_100
    assert evaluated.encoded == codec.encode(tiles[1])
    assert max(took["sample"], took["evaluate"]) < 8, took
    assert max(took.values()) < 30, took


def test_tiny_images_weigh_what_they_take(guarded, selector, tiles):
    """A flood of images of one pixel, each of which costs a tile, and a caller of 64 tiles: while
    one of its calls is answered, few thousand of the others' are.
    """
    dot = raw_image(np.zeros((1, 1, 3), np.uint8))
    flood = codec_pb2.EncodeRequest(model=selector, images=[dot] * 1_024)
    own = codec_pb2.EncodeRequest(model=selector, images=map(raw_image, [*tiles, *tiles[:24]]))
    over, answered = threading.Event(), []

    def many():
        with grpc.insecure_channel(guarded.address, OWN) as channel:
            encode = codec_pb2_grpc.CodecServiceStub(channel).Encode
            while not over.is_set():
                answered.append(len(encode(flood, metadata=bearer("alice")).results))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    with grpc.insecure_channel(guarded.address, OWN) as channel:
        encode = codec_pb2_grpc.CodecServiceStub(channel).Encode
        while not answered:
            time.sleep(0.05)
        most = 0
        for _ in range(3):
            before = len(answered)
            assert len(encode(own, metadata=bearer("carol"), timeout=SECONDS).results) == 64
            most = max(most, len(answered) - before)
    over.set()
    for thread in threads:
        thread.join()
    assert most <= 4, "calls of 1,024: those that were begun, not one after the other"


@pytest.mark.parametrize(
    ("model", "shape", "pixels"),
    [
        ("cifar10", (1, 1), 1_024),
        ("cifar10", (32, 33), 2_048),
        ("cifar10", (65, 1), 3_072),
        ("mnist", (1, 1), 784),
        ("photo", (1, 65), 3_072),
    ],
)
def test_pixels_that_are_computed(model, shape, pixels):
    """By hand: whole tiles; of photo, sides that are multiples of 32."""
    assert hvae_codec.load(model).computed_pixels(*shape) == pixels


def test_what_takes_long_is_sliced_where_others_wait():
    """Steps of 20 ms: a long item of one caller begins, and a short one of another is done long
    before it. A single one is never interrupted. One that is cancelled while it waits ends.
    """
    order, lock = [], threading.Lock()

    def steps(name, count):
        for _ in range(count):
            check()
            time.sleep(0.02)
        with lock:
            order.append(name)
        return name

    async def main():
        coding = CodingPool(0)
        executor = SlicedExecutor(1, coding)

        async def compute(key, values):
            return [await executor.run(partial(steps, *value)) for value in values]

        lane = SlowLane(compute, 1 << 24, lambda key, items, seconds: None)

        async def call(owner, name, count):
            set_current_call(CallContext(owner=owner))
            return await lane.run("key", [(name, count)], [1_024], None)

        gone = asyncio.create_task(call("a", "gone", 3_000))
        long = asyncio.create_task(call("a", "long", 60))
        await asyncio.sleep(0.1)
        short = await asyncio.wait_for(call("b", "short", 2), 20)
        assert lane.under_way == 2
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        answers = short, await asyncio.wait_for(long, 30)
        assert (lane.under_way, lane.waiting, executor.waiting) == (0, 0, 0)
        await lane.close()
        executor.stop()
        coding.stop()
        return answers

    assert asyncio.run(main()) == (["short"], ["long"])
    assert order == ["short", "long"]


def test_room_for_light_ones_beside_heavy_ones():
    """By hand: 10 and 2 for light ones, of at most 2; a heavy one that waits keeps its room."""
    room = Room(10, 2)
    assert room.fits(12, behind=False)
    room.add(6)
    assert not room.fits(5, behind=False)
    assert room.fits(4, behind=False)
    assert not room.fits(4, behind=True)
    room.add(2)
    assert room.fits(2, behind=False)
    assert not room.fits(2, behind=True)
    room.add(-2)
    assert room.fits(2, behind=True)
    room.add(-6)
    assert room.fits(10, behind=False)


def test_turns_of_a_caller_and_its_room():
    """By hand: two of a caller at once, of three; what is heavy waits until it fits."""

    async def main():
        turns, begun = Turns(3, 2, Room(10, 0)), []
        over = {name: asyncio.Event() for name in "abcd"}

        async def one(owner, name, weight):
            set_current_call(CallContext(owner=owner))
            async with turns.turn(weight):
                begun.append(name)
                await over[name].wait()

        tasks = []
        for owner, name, weight in (("x", "a", 4), ("x", "b", 4), ("x", "c", 1), ("y", "d", 4)):
            tasks.append(asyncio.create_task(one(owner, name, weight)))
            await asyncio.sleep(0)
        assert begun == ["a", "b"]
        assert turns.wanted
        over["a"].set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert sorted(begun) == ["a", "b", "c", "d"]
        for each in over.values():
            each.set()
        await asyncio.gather(*tasks)
        assert turns.under_way == 0

    asyncio.run(main())
