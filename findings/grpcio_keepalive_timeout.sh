#!/usr/bin/env bash
# A server of grpcio does not heed `grpc.keepalive_timeout_ms`: a vanished client is found by
# `grpc.http2.ping_timeout_ms`, which is 60 s unless set.
#
# A server pings after 4 s without a byte and is to close the connection 2 s after a ping without an
# answer. A forwarder between client and server then passes nothing on and keeps its connections
# open, as a firewall does that forgot them. The call of the client ends 60 to 64 s later, not 6. With
# `grpc.http2.ping_timeout_ms` of 2,000 it ends after 2 to 6 s. So both are to be set.
#
# Seen with grpcio 1.85.3, Python 3.11, Linux:
#   keepalive_timeout_ms alone: ended after 60.0 s
#   with http2.ping_timeout_ms: ended after 2.0 s
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.3
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import contextlib
import socket
import sys
import threading
import time

import grpc

KEEPALIVE = [
    ("grpc.keepalive_time_ms", 4_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


def forwarder(port, silent):
    listening = socket.create_server(("127.0.0.1", 0))

    def pass_on(source, to):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while silent.is_set():
                    time.sleep(0.05)
                to.sendall(data)

    def accept():
        here, _ = listening.accept()
        there = socket.create_connection(("127.0.0.1", port))
        for pair in ((here, there), (there, here)):
            threading.Thread(target=pass_on, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listening.getsockname()[1]


async def seconds_until_found(options):
    begun, ended, silent = asyncio.Event(), asyncio.Event(), threading.Event()

    async def method(requests, context):
        begun.set()
        try:
            async for _ in requests:
                pass
        finally:
            ended.set()
        yield b""

    server = grpc.aio.server(options=options)
    handlers = {"Method": grpc.stream_stream_rpc_method_handler(method)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Service", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{forwarder(port, silent)}") as channel:
        call = channel.stream_stream("/Service/Method")()
        await call.write(b"x")
        await begun.wait()
        silent.set()
        began = time.monotonic()
        await asyncio.wait_for(ended.wait(), 120)
        found = time.monotonic() - began
        silent.clear()
        call.cancel()
    await server.stop(0)
    return found


print("grpcio", grpc.__version__)
alone = asyncio.run(seconds_until_found(KEEPALIVE))
print(f"keepalive_timeout_ms alone: ended after {alone:.1f} s")
both = asyncio.run(seconds_until_found([*KEEPALIVE, ("grpc.http2.ping_timeout_ms", 2_000)]))
print(f"with http2.ping_timeout_ms: ended after {both:.1f} s")
sys.exit(0 if alone > 50 and both < 20 else 1)
PYTHON
