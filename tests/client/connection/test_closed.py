"""Clients that are closed, and arguments of another type: the library's words, not gRPC's."""

import asyncio
import threading

import pytest

from hvae_codec.client import AsyncClient, Client, ServiceError
from hvae_codec.errors import HvaeCodecError

CALLS = [
    lambda client, images: client.models(),
    lambda client, images: client.limits(),
    lambda client, images: client.encode(images, model="x"),
    lambda client, images: client.features(images, model="x"),
    lambda client, images: client.sample(1, model="x"),
    lambda client, images: client.evaluate(images[0], model="x"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("used", [False, True])
def test_calls_of_a_closed_client(small, pictures, call, used):
    client = Client(small.address)
    if used:
        client.models()
    client.close()
    client.close()
    with pytest.raises(HvaeCodecError, match="this client was closed: make another one"):
        call(client, pictures[:2])
    with pytest.raises(HvaeCodecError, match="this client was closed"):
        list(client.encode_stream(pictures, model="x"))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("used", [False, True])
def test_calls_of_a_closed_asynchronous_client(small, pictures, call, used):
    async def run():
        async with AsyncClient(small.address) as client:
            if used:
                await client.models()
        await client.close()
        with pytest.raises(HvaeCodecError, match="this client was closed: make another one"):
            await call(client, pictures[:2])
        with pytest.raises(HvaeCodecError, match="this client was closed"):
            async for _ in client.encode_stream(pictures, model="x"):
                pass

    asyncio.run(run())


def test_threads_that_call_while_it_closes(small, pictures):
    """Calls in flight end with ServiceError, later ones with the closed client's error."""
    for _ in range(10):
        client, strange = Client(small.address), []

        def call(client=client, strange=strange):
            while True:
                try:
                    client.encode(pictures[:1], model="x")
                except ServiceError:
                    pass
                except HvaeCodecError as error:
                    if "this client was closed" not in str(error):
                        strange.append(error)
                    return
                except Exception as error:
                    strange.append(error)
                    return

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        client.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert strange == []


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": 5}, r"a token must be text \(str\); got int"),
        ({"token": b"abc"}, r"a token must be text \(str\); got bytes"),
        ({"retry": 5}, "retry must be a Retry; got 5"),
        ({"streaming": {"in_flight": 2}}, "streaming must be a Streaming; got {'in_flight': 2}"),
        ({"root_certificates": 5}, "root_certificates must be PEM as bytes, or a path; got int"),
        ({"certificate": 5, "private_key": b""}, "certificate must be PEM as bytes, or a path"),
        ({"max_message_bytes": "x"}, "max_message_bytes must be a whole number; got str 'x'"),
        ({"max_message_bytes": -5}, "max_message_bytes must be 1 to 2147483647, got -5"),
        ({"max_message_bytes": 10**40}, "max_message_bytes must be 1 to 2147483647, got 1000"),
    ],
)
def test_arguments_of_another_type(kind, arguments, message):
    with pytest.raises(HvaeCodecError, match=message):
        kind("127.0.0.1:1", **arguments)
