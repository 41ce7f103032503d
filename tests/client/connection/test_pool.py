"""A client's connections: as many as its calls need, and no waiting behind calls of others."""

import asyncio
import threading

import pytest

from hvae_codec.client import AsyncClient, Client, Streaming
from hvae_codec.client.connection.pool import Pool

CALLS = 130
"""More than the 100 that a connection may have at once."""


class Channel:
    """Counts as a channel; makes no calls."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def test_a_call_takes_the_connection_with_the_fewest_and_another_where_all_are_full():
    opened = []

    def open_channel():
        opened.append(Channel())
        return opened[-1]

    pool = Pool(open_channel, 2)
    taken = [pool.stub() for _ in range(230)]
    for each in taken[:100]:
        each.__enter__()
    assert len(opened) == 1
    for each in taken[100:]:
        each.__enter__()
    assert pool.channels == opened
    assert len(opened) == 2
    for each in taken:
        each.__exit__(None, None, None)
    with pool.stub(), pool.stub():
        assert len(opened) == 2


def test_streams_beyond_those_of_one_connection_are_answered(real, pictures):
    """130 streams stay open: each has its answer, none waits until another ends."""
    all_there = threading.Barrier(CALLS)
    failed = []

    def stream(client):
        def source():  # goes on once the answer of the image before is there
            yield pictures[0]
            all_there.wait(60)

        try:
            found = list(client.encode_stream(source(), model="cifar10", timeout=100))
            assert len(found) == 1
        except Exception as error:
            failed.append(error)

    one_by_one = Streaming(in_flight=1, message_items=1)
    with Client(real, streaming=one_by_one) as client:
        client.limits()
        threads = [threading.Thread(target=stream, args=(client,)) for _ in range(CALLS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(client._pool.channels) == 2


def test_calls_of_an_asynchronous_client_are_spread_too(real, pictures):
    async def main():
        async with AsyncClient(real) as client:
            blobs = await asyncio.gather(
                *(client.encode(pictures[:1], model="cifar10") for _ in range(CALLS))
            )
            return blobs, len(client._pool.channels)

    blobs, channels = asyncio.run(main())
    assert blobs == blobs[:1] * CALLS
    assert channels == 2


def test_a_client_has_one_connection_at_least():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Client("127.0.0.1:1", connections=0)
