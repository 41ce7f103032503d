"""Where batches are computed: the same answers in the event loop as beside it, and the loop alone
for what takes it no longer than the calls themselves.
"""

import asyncio
import threading
import time

import numpy as np
import pytest

import hvae_codec
from hvae_codec.errors import BitstreamError
from hvae_codec.server.engine.coding_pool import CodingPool
from hvae_codec.server.engine.engine import Engine, LatencyEstimator
from hvae_codec.server.engine.operations import (
    Decode,
    Encode,
    InlineExecutor,
    ReadFeatures,
    ReadFileFeatures,
    ThreadExecutor,
    TimedExecutor,
)
from hvae_codec.server.settings import EngineSettings

pytestmark = pytest.mark.usefixtures("one_thread")


def test_unknown_work_and_long_work_stay_out_of_the_loop():
    latency = LatencyEstimator()
    assert not latency.should_run_inline("encode", 1, 64)
    latency.observe("encode", 10_000, 0.01)  # a microsecond each
    assert latency.should_run_inline(
        "encode", 16_000, 64
    )  # 16 ms for 64 calls, which take a loop as long
    assert not latency.should_run_inline("encode", 17_000, 64)
    assert not latency.should_run_inline("encode", 16_000, 63)
    assert not latency.should_run_inline("decode", 1, 64)


def test_a_batch_takes_less_for_its_weight_than_a_smaller_one():
    latency = LatencyEstimator()
    latency.observe("encode", 1_000, 0.001)
    assert latency.should_run_inline(
        "encode", 4_000, 1
    )  # at that pace 4 ms, which any batch may take
    assert not latency.should_run_inline("encode", 4_200, 1)
    latency.observe("encode", 4_200, 0.002)  # half of that
    assert latency.should_run_inline("encode", 8_000, 1)
    assert not latency.should_run_inline("encode", 9_000, 1)
    assert latency.should_run_inline(
        "encode", 4_000, 1
    )  # the smaller still go at their own pace ...
    latency.observe("encode", 9_000, 1.0)
    assert latency.should_run_inline("encode", 8_000, 1)  # ... whatever became of larger ones


def test_the_fastest_of_late_counts():
    latency = LatencyEstimator()
    latency.observe("encode", 1000, 0.001)
    latency.observe("encode", 1000, 1.0)  # once, beside other work
    assert latency.should_run_inline("encode", 3_900, 1)
    for _ in range(400):
        latency.observe("encode", 1000, 1.0)  # for good
    assert not latency.should_run_inline("encode", 3_900, 1)


def test_a_batch_without_a_result_says_nothing_of_the_pace():
    """Files that cannot be read cost the networks no time; they must not let the next ones in."""
    latency = LatencyEstimator()
    latency.observe("decode", 0, 0.0)
    assert not latency.should_run_inline("decode", 1, 64)
    codec = hvae_codec.load("cifar10")
    pictures = list(np.random.default_rng(1).integers(60, 190, (2, 32, 32, 3), np.uint8))
    files = codec.encode_batch(pictures)

    async def main():
        engine = Engine(EngineSettings(coding_processes=0))
        seen = []
        engine._latency.observe = lambda kind, weight, seconds: seen.append(
            (kind[0].kind, weight, seconds)
        )
        await engine.run(Decode(), codec, [b"nonsense"] * 3, [1024] * 3)
        await engine.run(Decode(), codec, [files[0], b"nonsense", files[1]], [1024] * 3)
        await engine.stop()
        return seen

    nothing, some = asyncio.run(main())
    assert nothing == ("decode", 0, 0.0)
    assert some[:2] == ("decode", 2048)
    assert some[2] > 0


def test_a_thread_of_networks_counts_no_time_in_which_it_waits():
    async def main():
        coding = CodingPool(0)
        beside = ThreadExecutor("test", 1, 1, coding)
        seconds = []
        for place in (TimedExecutor(beside), TimedExecutor(InlineExecutor())):
            assert await place.run(lambda: time.sleep(0.2) or "done") == "done"
            seconds.append(place.seconds)
        beside.stop()
        coding.stop()
        return seconds

    beside, here = asyncio.run(main())
    assert beside < 0.1
    assert here >= 0.2


def test_in_the_loop_answers_are_the_same():
    codec = hvae_codec.load("cifar10")
    pictures = list(np.random.default_rng(1).integers(60, 190, (6, 32, 32, 3), np.uint8))
    files = codec.encode_batch(pictures)
    mixed = [*files[:2], b"nonsense", *files[2:]]
    threads = set()

    class Spy(InlineExecutor):
        async def run(self, function):
            threads.add(threading.current_thread())
            return await super().run(function)

    async def main():
        engine = Engine(EngineSettings(coding_processes=0))
        engine._in_loop = Spy()
        answers = []
        for fits in (False, True):
            engine._latency.should_run_inline = lambda *_, fits=fits: fits
            answers.append(
                (
                    await engine.run(Encode(), codec, pictures, [1024] * len(pictures)),
                    await engine.run(Decode(), codec, mixed, [1024] * 7),
                    await engine.run(ReadFeatures(0), codec, pictures, [1024] * len(pictures)),
                    await engine.run(ReadFileFeatures(0), codec, mixed, [1024] * 7),
                )
            )
            if not fits:
                assert not threads
        await engine.stop()
        return answers

    beside, here = asyncio.run(main())
    assert threads == {threading.main_thread()}
    assert beside[0] == here[0] == files
    for one, other in zip(beside[1] + beside[3], here[1] + here[3], strict=True):
        if isinstance(one, BitstreamError):
            assert (type(one), str(one)) == (type(other), str(other))
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_array_equal(one.mean, other.mean)
    for one, other in zip(beside[2], here[2], strict=True):
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5, atol=1e-5)
    assert [isinstance(one, BitstreamError) for one in here[1]] == [n == 2 for n in range(7)]


def test_networks_have_a_place():
    with pytest.raises(ValueError, match="0 needs coding processes"):
        EngineSettings(network_threads=0, coding_processes=0)
    assert EngineSettings(device="cpu", coding_processes=2).threads == 0
    assert EngineSettings(device="cpu", coding_processes=0).threads == 1
    assert EngineSettings(device="cuda", coding_processes=2).threads == 1
