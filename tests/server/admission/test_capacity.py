"""What the server holds at once is bounded, streams wait in order, and nothing leaks."""

import asyncio

import pytest

from hvae_codec.server.admission.capacity import Admission
from hvae_codec.server.errors import OverloadError
from hvae_codec.server.settings import Capacity


def test_beyond_the_capacity_calls_are_refused():
    admission = Admission(Capacity(items=10, bytes=1000))
    with admission.take(6, 100):
        with pytest.raises(OverloadError, match="6 items of 100 bytes") as refused:
            admission.take(5, 1)
        assert 0.05 <= refused.value.retry_seconds <= 5
        with pytest.raises(OverloadError):
            admission.take(1, 901)
        with admission.take(4, 900):
            assert (admission.items, admission.bytes) == (10, 1000)
    assert (admission.items, admission.bytes, admission.rejected) == (0, 0, 2)


def test_what_is_larger_than_the_capacity_goes_alone():
    admission = Admission(Capacity(items=10, bytes=1000))
    with admission.take(11, 5000), pytest.raises(OverloadError):
        admission.take(1, 1)
    with admission.take(1, 1), pytest.raises(OverloadError):
        admission.take(11, 1)


def test_once_full_calls_are_not_looked_at_until_an_eighth_is_free():
    admission = Admission(Capacity(items=16, bytes=1600))
    admission.check()
    with admission.take(13, 1300):
        with admission.take(2, 1):
            admission.check()  # one is free, and nobody was refused
            with pytest.raises(OverloadError):
                admission.take(2, 1)
            with pytest.raises(OverloadError, match="15 items"):
                admission.check()
        admission.check()
        with admission.take(2, 1):
            admission.check()
    with admission.take(1, 1401):
        with pytest.raises(OverloadError):
            admission.take(1, 200)
        with pytest.raises(OverloadError):
            admission.check()
    admission.check()
    assert admission.rejected == 4


def test_an_error_gives_the_place_back():
    admission = Admission(Capacity(items=10, bytes=1000))
    with pytest.raises(RuntimeError), admission.take(10, 1000):
        raise RuntimeError
    assert (admission.items, admission.bytes) == (0, 0)


def test_streams_wait_in_order_and_before_calls():
    admission = Admission(Capacity(items=10, bytes=1000))
    order = []

    async def stream(name, items):
        with await admission.take_in_turn(items, 1):
            order.append(name)
            await asyncio.sleep(0.01)

    async def main():
        with admission.take(10, 1):
            waiting = [asyncio.create_task(stream(n, 8)) for n in range(4)]
            await asyncio.sleep(0.01)
            assert order == []
        with pytest.raises(OverloadError):  # a free place is for those that wait
            admission.take(1, 1)
        waiting[2].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())
    assert order == [0, 1, 3]
    assert (admission.items, admission.bytes) == (0, 0)


def test_capacities_are_positive():
    with pytest.raises(ValueError, match="positive"):
        Capacity(items=0)


async def _settle():
    """Let all tasks go as far as they get."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_streams_of_several_callers_that_all_wait_to_grow_go_on():
    """By hand: of 100 bytes each caller has 50. Four messages of 20 are to take 30 more each, which
    neither callers nor all have: one goes on beyond them, then one after the other as it fits.
    """
    admission = Admission(Capacity(items=10, bytes=100))
    grown = []

    async def main():
        held = {n: await admission.take_in_turn(1, 20, n[0]) for n in ("a1", "b1", "a2", "b2")}

        async def grow(name):
            await held[name].more(30)
            grown.append(name)

        tasks = [asyncio.create_task(grow(name)) for name in held]
        for ended, then, size in (
            (None, ["a1"], 110),
            ("a1", ["a1", "b1"], 90),
            ("b1", ["a1", "b1", "a2", "b2"], 100),
        ):
            if ended is not None:
                held[ended].release()
            await _settle()
            assert (grown, admission.bytes) == (then, size)
        for each in held.values():
            each.release()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert (admission.items, admission.bytes, admission.is_waited_for) == (0, 0, False)


@pytest.mark.parametrize("in_line", [True, False])
def test_a_stream_does_not_wait_for_its_own_later_answers(in_line):
    """By hand: of 100 bytes the second message has 20 and an answer of 50, which leaves after that
    of the first; the first has 20 and needs 40 more.
    """
    admission = Admission(Capacity(items=10, bytes=100))

    async def main():
        line = {}
        first, second = [await admission.take_in_turn(1, 20) for _ in range(2)]
        if in_line:
            first.line_up(line)
            second.line_up(line)
        await second.more(50)
        growing = asyncio.create_task(first.more(40))
        await _settle()
        assert not growing.done()  # the second is being computed
        second.answered(50)
        await _settle()
        assert growing.done() == in_line
        assert admission.bytes == (130 if in_line else 90)
        second.release()
        await growing
        first.release()

    asyncio.run(main())
    assert (admission.items, admission.bytes, admission.is_waited_for) == (0, 0, False)


def test_who_gives_up_waiting_to_grow_keeps_no_other_from_it():
    admission = Admission(Capacity(items=10, bytes=100))

    async def main():
        busy, first, second = [await admission.take_in_turn(1, 30) for _ in range(3)]
        tasks = [asyncio.create_task(each.more(size)) for each, size in ((first, 50), (second, 10))]
        await _settle()
        with pytest.raises(OverloadError):  # those that wait come first
            admission.take(1, 1)
        tasks[0].cancel()
        await _settle()
        assert [task.done() for task in tasks] == [True, True]
        assert admission.bytes == 100
        for each in (busy, first, second):
            each.release()

    asyncio.run(main())
    assert (admission.items, admission.bytes, admission.is_waited_for) == (0, 0, False)
