"""What clients say of connections that cannot be made: what to do, not gRPC's words."""

import asyncio
import gc

import grpc
import pytest

from hvae_codec.client import AsyncClient, Client, Retry, ServiceError
from hvae_codec.client.connection.hints import of_failure, of_target
from hvae_codec.errors import HvaeCodecError
from tests.client.connection.test_connections import certified

ONCE = Retry(attempts=1)
IN_GRPC_WORDS = ("SSL", "handshake", "Socket closed", "failed to connect", "loop")


@pytest.fixture(scope="module")
def own():
    """A key and a certificate of its own authority, PEM."""
    return certified("localhost")[:2]


@pytest.mark.parametrize(
    ("serving", "settings", "hint"),
    [
        ("TLS", {}, "as servers with TLS do to clients without: give root_certificates or tls"),
        ("plain", {"root_certificates": "own"}, "does not speak TLS: leave out tls and root_"),
        ("TLS", {"root_certificates": "other"}, "give root_certificates"),
        ("mutual", {"root_certificates": "own"}, "certificate: give certificate and private_key"),
    ],
)
def test_what_to_do(ask, serve, small_server, own, serving, settings, hint):
    credentials = {
        "plain": None,
        "TLS": grpc.ssl_server_credentials([own]),
        "mutual": grpc.ssl_server_credentials([own], own[1], True),
    }[serving]
    servicer = small_server()
    serve(servicer, credentials=credentials)
    authorities = {"own": own[1], "other": certified("localhost")[1]}
    given = {name: authorities[value] for name, value in settings.items()}
    with pytest.raises(ServiceError) as raised:
        ask(servicer.address, "models", settings={"retry": ONCE, **given})
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert str(raised.value).startswith(f"no server at {servicer.address} takes this call: ")
    assert hint in str(raised.value)
    assert not any(word in str(raised.value) for word in IN_GRPC_WORDS)


def test_nobody_there_is_told_as_it_is(ask):
    with pytest.raises(ServiceError, match="Connection refused"):
        ask("127.0.0.1:9", "models", settings={"retry": ONCE})


@pytest.mark.parametrize(
    "words", ["failed to connect to all addresses", "connections to all backends failing"]
)
def test_the_address_of_ipv6_alone_may_have_refused(words):
    """A name has others, and gRPC tells the error of the last one."""
    address = "UNKNOWN: ipv6:%5B::1%5D:50051: Failed to connect to remote host"
    details = f"{words}; last error: {address}: Connection refused"
    hint = of_failure(details, encrypted=False, certificate=False)
    assert hint is not None
    assert "nothing listens on [::1]" in hint
    other = details.replace("%5B::1%5D", "%5B2001:db8::1%5D")
    assert of_failure(other, encrypted=False, certificate=False) is None


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("http://127.0.0.1:50051", "give '127.0.0.1:50051', not"),
        ("https://codec.example:443/", "give 'codec.example:443' with tls=True"),
        ("grpc://codec.example:50051", "give 'codec.example:50051', not"),
        ("HTTP://", "give 'HOST:PORT', not"),
        ("http:/127.0.0.1:50051", "HOST:PORT or unix:PATH, not 'http:/127.0.0.1:50051'"),
        ("127.0.0.1:50051/", "HOST:PORT or unix:PATH, not '127.0.0.1:50051/'"),
        (" 127.0.0.1:50051", "HOST:PORT or unix:PATH, not ' 127.0.0.1:50051'"),
        # gRPC would ask port 34463, 99999 - 65536.
        ("127.0.0.1:99999", "port is at most 65535, got '127.0.0.1:99999'"),
        ("[::1]:65536", "port is at most 65535, got '[::1]:65536'"),
    ],
)
def test_a_target_has_no_scheme(kind, target, advice):
    with pytest.raises(HvaeCodecError) as raised:
        kind(target)
    assert advice in str(raised.value)


@pytest.mark.parametrize(
    "target",
    [
        "codec:65535",
        "codec",
        "::1",
        "fe80::99999",
        "[::1]:1",
        "unix:a/b",
        "unix:///a",
        "dns:///a:1",
    ],
)
def test_targets_that_may_be(target):
    assert of_target(target) is None


def test_targets_of_grpc_are_taken(small):
    for target in (f"dns:///{small.address}", f"ipv4:{small.address}"):
        with Client(target) as client:
            assert client.limits().items == 5


def test_a_client_of_asyncio_may_be_made_before_there_is_a_loop(small, pictures, hashes):
    client = AsyncClient(small.address)

    async def work():
        async with client:
            found = await client.encode(pictures, model="m")
            streamed = [each async for each in client.encode_stream(pictures, model="m")]
            return found, streamed

    assert asyncio.run(asyncio.wait_for(work(), 30)) == (hashes, hashes)


def test_a_client_of_another_loop_says_so(small, pictures):
    client = AsyncClient(small.address)

    async def work():
        return await client.encode(pictures[:1], model="m")

    assert len(asyncio.run(asyncio.wait_for(work(), 30))) == 1
    with pytest.raises(HvaeCodecError, match="in another event loop: make one for each loop"):
        asyncio.run(asyncio.wait_for(work(), 30))
    asyncio.run(client.close())  # of a loop that has ended: nothing is left to do


def test_a_client_of_asyncio_that_made_no_call_closes():
    async def work():
        async with AsyncClient("127.0.0.1:9"):
            pass

    asyncio.run(asyncio.wait_for(work(), 30))
    gc.collect()
