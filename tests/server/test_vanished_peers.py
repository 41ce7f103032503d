"""Peers that are gone without a word: gRPC's own server with the server's options, in less time."""

import asyncio
import contextlib
import socket
import threading
import time

import grpc

from hvae_codec.client.connection.channel import Connection
from hvae_codec.server.grpc_options import server_options

FASTER = 15
"""By how much the times of keepalive are divided."""

SECONDS = 60


@contextlib.contextmanager
def forwarded(port):
    """An address that passes bytes on to a port until an event is set; connections stay open."""
    silent, over = threading.Event(), threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    kept = []

    def pass_on(source, to):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if silent.is_set():
                    over.wait(SECONDS)
                    return
                to.sendall(data)

    def accept():
        with contextlib.suppress(OSError):
            here, _ = listening.accept()
            there = socket.create_connection(("127.0.0.1", port))
            kept.extend((here, there))
            for pair in ((here, there), (there, here)):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"127.0.0.1:{listening.getsockname()[1]}", silent
    over.set()
    for each in (listening, *kept):
        each.close()


def test_a_call_of_a_client_that_vanished_ends_in_time():
    """After keepalive's time and timeout, 45 and 15 s, here 3 and 1 s."""
    given = dict(server_options(1 << 20))
    times = {name: value // FASTER for name, value in given.items() if "keepalive_t" in name}
    times["grpc.http2.ping_timeout_ms"] = given["grpc.http2.ping_timeout_ms"] // FASTER
    assert times == {
        "grpc.keepalive_time_ms": 3_000,
        "grpc.keepalive_timeout_ms": 1_000,
        "grpc.http2.ping_timeout_ms": 1_000,
    }

    async def main():
        begun, ended = asyncio.Event(), asyncio.Event()

        async def method(requests, context):
            begun.set()
            try:
                async for _ in requests:
                    pass
            finally:
                ended.set()
            yield b""

        handler = grpc.stream_stream_rpc_method_handler(method)
        server = grpc.aio.server(options=list((given | times).items()))
        generic = grpc.method_handlers_generic_handler("Service", {"Method": handler})
        server.add_generic_rpc_handlers((generic,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with forwarded(port) as (address, silent):
            async with grpc.aio.insecure_channel(address) as channel:
                call = channel.stream_stream("/Service/Method")()
                await call.write(b"x")
                await begun.wait()
                silent.set()
                began = time.monotonic()
                await ended.wait()
                seconds = time.monotonic() - began
                call.cancel()
        await server.stop(0)
        return seconds

    seconds = asyncio.run(asyncio.wait_for(main(), SECONDS))
    assert 2 < seconds < 20


def test_a_client_finds_a_server_that_vanished_by_the_same_option():
    options = dict(Connection("127.0.0.1:1", 1 << 20).options)
    assert options["grpc.http2.ping_timeout_ms"] == options["grpc.keepalive_timeout_ms"] == 20_000
