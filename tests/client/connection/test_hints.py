"""What clients say of connections that cannot be made: what to do, not gRPC's words."""

import asyncio
import gc
import http.server
import threading

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
    assert "if it has TLS, give root_certificates or tls=True" in hint
    with_tls = of_failure(details, encrypted=True, certificate=False)
    assert with_tls is not None
    assert "root_certificates" not in with_tls
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
        "fe80::9999",
        "fe80::1%eth0",
        "[::1]:1",
        "[::1]",
        "codec:https",
        "unix:a/b",
        "unix:///a",
        "dns:///a:1",
        "dns:a",
        "dns://8.8.8.8/a:1",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:1,[::2]:2",
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


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("::1:50051", "has brackets: give '[::1]:50051', not '::1:50051'"),
        ("fe80::99999", "HOST:PORT, [IPV6]:PORT or unix:PATH, not 'fe80::99999'"),
        ("tcp:127.0.0.1:50051", "HOST:PORT, [IPV6]:PORT or unix:PATH, not 'tcp:127.0.0.1:50051'"),
        ("tcp:host", "port is a number, as in HOST:PORT or [IPV6]:PORT; got 'tcp:host'"),
        ("127.0.0.1:50051\u00e9", "port is a number"),
        ("127.0.0.1:5\u0665", "port is a number"),
        ("127.0.0.1:", "HOST:PORT, [IPV6]:PORT or unix:PATH, not '127.0.0.1:'"),
        (":50051", "HOST:PORT, [IPV6]:PORT or unix:PATH, not ':50051'"),
        ("127.0.0.1:0", "port is at least 1, got '127.0.0.1:0'"),
        ("127.0.0.1:" + "9" * 5_000, "port is at most 65535"),
        ("user@127.0.0.1:50051", "names no user: give HOST:PORT, and a token apart"),
        ("a:1,b:2", "one HOST:PORT, or ipv4:ADDRESS:PORT,ADDRESS:PORT; got 'a:1,b:2'"),
        ("[::1:50051", "[IPV6]:PORT or unix:PATH"),
        ("a]:1", "[IPV6]:PORT or unix:PATH"),
        ("dns:", "HOST:PORT or unix:PATH, not 'dns:'"),
        ("unix:", "HOST:PORT or unix:PATH, not 'unix:'"),
        ("dns:///codec:99999", "port is at most 65535, got 'dns:///codec:99999'"),
        ("dns:::1:50051", "give '[::1]:50051'"),
        ("ipv4:127.0.0.1", "ipv4 is ipv4:ADDRESS:PORT, more behind commas; got 'ipv4:127.0.0.1'"),
        ("ipv4:127.0.0.1:1,127.0.0.1:99999", "port is at most 65535"),
        ("ipv6:::1", "ipv6 is ipv6:[ADDRESS]:PORT"),
    ],
)
def test_a_target_that_grpc_could_not_resolve(kind, target, advice):
    with pytest.raises(HvaeCodecError) as raised:
        kind(target)
    assert advice in str(raised.value)


@pytest.mark.parametrize("target", ["127.0.0.1", "[::1]", "::1", "dns:127.0.0.1"])
def test_without_a_port_the_one_that_is_asked_is_named(ask, target):
    with pytest.raises(ServiceError) as raised:
        ask(target, "models", settings={"retry": ONCE})
    assert str(raised.value).startswith(f"no server at {target} takes this call: ")
    assert "(the target names no port, so 443 is asked: give HOST:PORT)" in str(raised.value)


class Http1(http.server.BaseHTTPRequestHandler):
    """As the port of metrics: speaks HTTP/1 alone."""

    def log_message(self, *_):
        """Nothing."""


def test_a_port_of_http_1_is_named_as_one(ask):
    with http.server.HTTPServer(("127.0.0.1", 0), Http1) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ServiceError) as raised:
                ask(f"127.0.0.1:{server.server_port}", "models", settings={"retry": ONCE})
        finally:
            server.shutdown()
    assert "it does not speak HTTP/2, as gRPC does: this may be the port of the" in str(
        raised.value
    )
    assert "SETTINGS" not in str(raised.value)
