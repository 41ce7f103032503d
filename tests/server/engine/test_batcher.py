"""Batches over calls: nothing lost, nothing twice, nobody kept waiting, nothing late computed."""

import asyncio
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.server.engine.batcher import Batcher
from hvae_codec.server.errors import DeadlinePassedError
from hvae_codec.server.observability.calls import CallContext, set_current_call
from hvae_codec.server.settings import BatchLimits


class Panic(BaseException):
    """As extensions in Rust raise them."""


class Recorder:
    """Doubles numbers, slowly if told to or once `go` is set, and remembers the batches."""

    def __init__(self, seconds=0.0, go=None):
        self.batches = []
        self.at_once = self.most_at_once = 0
        self._seconds = seconds
        self._go = go

    async def begun(self, batches):
        """Return once so many have begun."""
        while len(self.batches) < batches:
            await asyncio.sleep(0.001)

    async def run(self, batch):
        key, values = batch.key, batch.values
        self.batches.append((key, list(values)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._seconds)
        if self._go is not None:
            await self._go.wait()
        self.at_once -= 1
        if "bad" in values:
            raise ValueError("a bad batch")
        if "panic" in values:
            raise Panic("in Rust")
        return [value * 2 for value in values]


@settings(max_examples=60)
@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from("ab"), st.lists(st.tuples(st.integers(), st.integers(1, 9)), max_size=9)
        ),
        max_size=12,
    ),
    items=st.integers(1, 5),
    weight=st.integers(1, 12),
)
def test_every_item_once_in_order_within_the_limits(calls, items, weight):
    recorder = Recorder()

    async def main():
        limits = BatchLimits(items=items, weight=weight, delay_seconds=0.0)
        batcher = Batcher(recorder.run, limits, 3)
        answers = await asyncio.gather(
            *(
                batcher.submit(key, [v for v, _ in some], [w for _, w in some])
                for key, some in calls
            )
        )
        await batcher.close()
        return answers

    answers = asyncio.run(main())
    assert answers == [[2 * value for value, _ in some] for _, some in calls]
    wanted, computed = Counter(), Counter()
    for key, values in recorder.batches:
        assert 1 <= len(values) <= items
        computed.update((key, value) for value in values)
    for key, some in calls:
        wanted.update((key, value) for value, _ in some)
    assert computed == wanted


def test_calls_share_a_batch():
    recorder = Recorder()

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(items=8, delay_seconds=0.05), 3)
        await asyncio.gather(*(batcher.submit("k", [n], [1]) for n in range(8)))
        await batcher.close()

    asyncio.run(main())
    assert recorder.batches == [("k", list(range(8)))]


def test_nobody_waits_for_others_that_do_not_come():
    """Alone at once, whatever the delay; together once another batch is under way, until it ends or
    the next one is full.
    """
    go = asyncio.Event()
    recorder = Recorder(go=go)

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(items=4, delay_seconds=50.0), 3)
        calls = [asyncio.create_task(batcher.submit("k", ["first"], [1]))]
        await recorder.begun(1)
        calls += [asyncio.create_task(batcher.submit("k", [n], [1])) for n in range(6)]
        await asyncio.sleep(0.02)
        begun = len(recorder.batches)
        go.set()
        await asyncio.wait_for(asyncio.gather(*calls), 10)
        await batcher.close()
        return begun

    assert asyncio.run(main()) == 2
    assert [values for _, values in recorder.batches] == [["first"], [0, 1, 2, 3], [4, 5]]


def test_a_heavy_item_goes_alone():
    recorder = Recorder()

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(items=8, weight=10, delay_seconds=0.0), 3)
        await batcher.submit("k", [1, 2, 3], [4, 40, 4])
        await batcher.close()

    asyncio.run(main())
    assert [values for _, values in recorder.batches] == [[1], [2], [3]]


def test_a_long_entry_alone_is_shared_out_among_idle_places():
    recorder = Recorder(0.05)
    tile = 1 << 10

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(delay_seconds=50.0), 4, parallel=2)
        answers = await batcher.submit("k", list(range(200)), [tile] * 200)
        alone = [list(values) for _, values in recorder.batches]
        recorder.batches.clear()
        await asyncio.gather(*(batcher.submit("k", [n] * 200, [tile] * 200) for n in range(2)))
        two = [len(set(values)) for _, values in recorder.batches]
        recorder.batches.clear()
        await batcher.submit("k", list(range(64)), [tile] * 64)
        await batcher.close()
        return answers, alone, two

    answers, alone, two = asyncio.run(main())
    assert answers == [2 * number for number in range(200)]
    assert alone == [list(range(100)), list(range(100, 200))]
    assert recorder.most_at_once == 2
    assert two == [2, 1]  # as if there were one place
    assert [len(values) for _, values in recorder.batches] == [64]  # too little to share out


def test_a_long_entry_lets_others_in_between():
    recorder = Recorder(0.01)
    ended = []

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(items=4, delay_seconds=0.0), 1)

        async def call(name, count):
            await batcher.submit("k", list(range(count)), [1] * count)
            ended.append(name)

        long = asyncio.create_task(call("long", 40))
        await asyncio.sleep(0.005)
        await asyncio.gather(long, call("short", 1))
        await batcher.close()

    asyncio.run(main())
    assert ended == ["short", "long"]


async def busy(batcher, caller, key_of, done, weight):
    """A call of a caller after the other, of an item of a weight each; counts the weights done."""
    for number in range(1_000_000):
        set_current_call(CallContext(owner=caller))
        await batcher.submit(key_of(number), [0], [weight])
        done[caller] += weight


@pytest.mark.parametrize("weights", [(7, 7), (2, 7), (7, 2)])
@pytest.mark.parametrize(
    "key_of", [lambda number: "k", lambda number: number], ids=["one-key", "own-keys"]
)
def test_callers_have_equal_shares_however_many_calls_they_make(weights, key_of):
    """Twelve calls at a time beside two: without shares they get six times as much."""
    recorder = Recorder(0.001)
    done = Counter()

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(items=1, weight=9, delay_seconds=0.0), 1)
        callers = ["many"] * 12 + ["few"] * 2
        calls = [
            asyncio.create_task(busy(batcher, name, key_of, done, weights[name == "few"]))
            for name in callers
        ]
        await recorder.begun(200)
        for call in calls:
            call.cancel()
        await batcher.close()

    asyncio.run(main())
    assert 0.8 < done["few"] / done["many"] < 1.25


def test_callers_that_come_anew_keep_no_one_waiting():
    """Each call of a caller of its own, as of connections without tokens: of eight at a time and
    one that stays, each gets the ninth part.
    """
    recorder = Recorder(0.001)
    done = Counter()

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(items=1, delay_seconds=0.0), 1)

        async def new(lane):
            for number in range(1_000_000):
                set_current_call(CallContext(owner=f"{lane}-{number}"))
                await batcher.submit("k", [0], [1])
                done["new"] += 1

        calls = [asyncio.create_task(new(lane)) for lane in range(8)]
        calls.append(asyncio.create_task(busy(batcher, "stays", lambda number: "k", done, 1)))
        await recorder.begun(200)
        for call in calls:
            call.cancel()
        await batcher.close()

    asyncio.run(main())
    assert 18 < done["stays"] < 26


@pytest.mark.parametrize(("heavy", "place"), [(5, 2), (math.inf, 4)])
def test_heavy_items_are_not_begun_ahead_of_whose_turn_it_is(heavy, place):
    """One executor, two batches more ahead. A caller comes while the first of eight is computed:
    it takes turns with them from there on where they are heavy, else behind those two.
    """
    go = asyncio.Event()
    recorder = Recorder(go=go)

    async def main():
        limits = BatchLimits(items=1, delay_seconds=0.0)
        batcher = Batcher(recorder.run, limits, 3, heavy=heavy)

        async def call(name):
            set_current_call(CallContext(owner=name))
            await batcher.submit("k", [name], [5])

        calls = [asyncio.create_task(call("many")) for _ in range(8)]
        await recorder.begun(1 if heavy == 5 else 3)
        calls.append(asyncio.create_task(call("one")))
        await asyncio.sleep(0.01)
        go.set()
        await asyncio.gather(*calls)
        await batcher.close()

    asyncio.run(main())
    assert [value for _, (value,) in recorder.batches].index("one") == place


def test_only_so_many_batches_at_once():
    recorder = Recorder(0.005)

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(items=1, delay_seconds=0.0), 2)
        await batcher.submit("k", list(range(9)), [1] * 9)
        await batcher.close()

    asyncio.run(main())
    assert recorder.most_at_once == 2


def test_what_is_late_is_never_computed():
    go = asyncio.Event()
    recorder = Recorder(go=go)

    async def main():
        loop = asyncio.get_running_loop()
        batcher = Batcher(recorder.run, BatchLimits(items=1, delay_seconds=0.0), 1)
        first = asyncio.create_task(batcher.submit("k", ["first"], [1]))
        await recorder.begun(1)
        late = asyncio.create_task(batcher.submit("k", ["late"], [1], loop.time() + 0.01))
        last = asyncio.create_task(batcher.submit("k", ["last"], [1], loop.time() + 600))
        await asyncio.sleep(0.02)
        go.set()
        with pytest.raises(DeadlinePassedError):
            await late
        assert await first == ["firstfirst"]
        assert await last == ["lastlast"]
        await batcher.close()

    asyncio.run(main())
    assert [values for _, values in recorder.batches] == [["first"], ["last"]]


def test_whoever_goes_away_frees_the_place():
    go = asyncio.Event()
    recorder = Recorder(go=go)

    async def main():
        batcher = Batcher(recorder.run, BatchLimits(items=1, delay_seconds=0.0), 1)
        first = asyncio.create_task(batcher.submit("k", ["first"], [1]))
        await recorder.begun(1)
        gone = asyncio.create_task(batcher.submit("k", ["gone"] * 5, [1] * 5))
        await asyncio.sleep(0.01)
        assert batcher.waiting == 5
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batcher.waiting == 0
        go.set()
        await first
        assert await batcher.submit("k", ["next"], [1]) == ["nextnext"]
        await batcher.close()

    asyncio.run(main())
    assert [values for _, values in recorder.batches] == [["first"], ["next"]]


def test_a_batch_that_fails_is_the_error_of_its_items():
    async def main():
        batcher = Batcher(Recorder().run, BatchLimits(items=2, delay_seconds=0.0), 3)
        found = await batcher.submit("k", ["good", "good", "bad", "good"], [1] * 4)
        await batcher.close()
        return found

    first, second, third, fourth = asyncio.run(main())
    assert (first, second) == ("goodgood", "goodgood")
    assert isinstance(third, ValueError)
    assert isinstance(fourth, ValueError)


def test_a_panic_is_an_error_too():
    async def main():
        batcher = Batcher(Recorder().run, BatchLimits(), 3)
        (found,) = await asyncio.wait_for(batcher.submit("k", ["panic"], [1]), 10)
        assert await batcher.submit("k", ["good"], [1]) == ["goodgood"]
        await batcher.close()
        return found

    found = asyncio.run(main())
    assert isinstance(found, Exception)
    assert "in Rust" in str(found)


def test_closing_ends_the_wait():
    async def main():
        batcher = Batcher(Recorder(60).run, BatchLimits(items=1, delay_seconds=0.0), 1)
        calls = [asyncio.create_task(batcher.submit("k", [n], [1])) for n in range(3)]
        await asyncio.sleep(0.01)
        await batcher.close()
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)

    found = asyncio.run(main())
    assert all(isinstance(one, BaseException) for one in found)


@pytest.mark.parametrize("wrong", [{"items": 0}, {"weight": 0}, {"delay_seconds": -1.0}])
def test_limits_must_make_sense(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        BatchLimits(**wrong)
