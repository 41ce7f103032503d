"""What takes long goes by caller, then by call: who asks more often gets no more."""

import asyncio
import threading
import time

import pytest

from hvae_codec.client import Client
from hvae_codec.server.engine.engine import Engine, EngineSettings
from hvae_codec.server.engine.fairness import Turns
from hvae_codec.server.observability.calls import CallContext, set_current_call


def order_of(turns, waiting):
    """Names in the order of their turns; `waiting` has each call as name, owner and turns."""
    order = []

    async def call(name, owner, count, gate):
        seen = CallContext()
        seen.owner = owner
        set_current_call(seen)

        async def one(_):
            await gate.wait()
            order.append(name)
            await asyncio.sleep(0)

        await turns.each(range(count), one)

    async def main():
        gate = asyncio.Event()
        tasks = []
        for name, owner, count in waiting:
            tasks.append(asyncio.create_task(call(name, owner, count, gate)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert turns.waiting == 0
    return "".join(order)


def test_callers_take_turns_and_then_their_calls():
    """By hand: a goes first. Then the callers one and two alternate, and of one its calls a and A;
    what ends asks again only when the next has its turn.
    """
    calls = [("a", "one", 3), ("A", "one", 2), ("b", "two", 3)]
    assert order_of(Turns(1), calls) == "abAbabAa"


def test_many_calls_of_one_caller_do_not_keep_another_waiting():
    calls = [(str(n), "one", 4) for n in range(9)] + [("b", "two", 4)]
    order = order_of(Turns(1), calls)
    assert len(order) == 40
    # Every second turn is that of b, once it is there.
    assert [at for at, name in enumerate(order) if name == "b"] == [1, 3, 5, 7]


@pytest.mark.parametrize("caller_of", [lambda name: "one", lambda name: f"of {name}"])
def test_new_calls_and_new_callers_do_not_keep_one_waiting(caller_of):
    """By hand: three at a time make one call after another, each of them a new one. The long call
    has one turn of four, whether they are of its caller or of others.
    """
    order = []

    async def main():
        turns = Turns(1)

        async def call(name, count):
            seen = CallContext()
            seen.owner = caller_of(name)
            set_current_call(seen)

            async def one(_):
                order.append(name[0])
                for _ in range(20):  # rounds of the loop, in which the next call comes
                    await asyncio.sleep(0)

            await turns.each(range(count), one)

        async def new_ones(kind):
            for number in range(8):
                await asyncio.create_task(call(f"{kind}{number}", 1))

        async with asyncio.timeout(60):
            await asyncio.gather(call("L", 8), *map(new_ones, "abc"))

    asyncio.run(main())
    assert [at for at, name in enumerate(order) if name == "L"] == list(range(0, 32, 4))


def test_who_goes_away_gives_its_turn_to_others():
    async def main():
        turns = Turns(1)
        order = []

        async def waiting(name):
            async with turns.turn():
                order.append(name)

        async with turns.turn():
            tasks = [asyncio.create_task(waiting(name)) for name in "abcd"]
            await asyncio.sleep(0)
            assert turns.waiting == 4
            tasks[1].cancel()
            await asyncio.sleep(0)
            assert turns.waiting == 3
        tasks[0].cancel()  # whose turn has come, but who has not gone on
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(1), turns.turn():
            order.append("last")
        return order

    assert asyncio.run(main()) == ["c", "d", "last"]


def test_an_error_ends_all_turns_of_its_call():
    async def main():
        turns = Turns(2)
        done = []

        async def work(value):
            await asyncio.sleep(0)
            if value == 3:
                raise RuntimeError("three")
            done.append(value)

        with pytest.raises(RuntimeError, match="three"):
            await turns.each(range(100), work)
        await asyncio.sleep(0.01)
        assert len(done) < 10
        assert await turns.each([1], lambda value: asyncio.sleep(0, value)) == [1]

    asyncio.run(main())


def test_image_files_are_read_by_turns_of_callers():
    order = []

    def read(name):
        time.sleep(0.01)
        order.append(name)

    async def call(engine, owner):
        set_current_call(CallContext(owner=owner))
        await engine.on_files(read, owner)

    async def main():
        engine = Engine(EngineSettings(network_threads=1, coding_processes=0))
        await asyncio.gather(*(call(engine, name) for name in ["many"] * 20 + ["single"]))
        await engine.stop()

    asyncio.run(main())
    assert len(order) == 21
    assert "single" in order[:4]


def test_one_call_of_a_caller_beside_eight_of_another(server, tiles):
    """Searches of four images each: the single call of the second caller, which comes last, is
    answered before any of the first one's is.
    """
    options = {"model": "cifar10", "quality": 3, "effort": 1, "timeout": 250}
    done, lock = [], threading.Lock()
    with Client(server.address) as many, Client(server.address) as single:
        first = single.encode(tiles[:4], **options)

        def call(client, name):
            blobs = client.encode(tiles[:4], **options)
            with lock:
                done.append((name, blobs))

        threads = [threading.Thread(target=call, args=(many, "many")) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        call(single, "single")
        assert done[0][0] == "single"
        for thread in threads:
            thread.join()
    assert len(done) == 9
    assert all(blobs == first for _, blobs in done)
