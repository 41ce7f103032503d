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
