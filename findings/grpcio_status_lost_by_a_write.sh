#!/usr/bin/env bash
# A client of grpc.aio that writes while the server ends the stream loses the server's status.
#
# A method of a bidirectional stream ends at once with RESOURCE_EXHAUSTED and a reason. A client that
# opens the stream, waits 0 to 4 ms and writes a message of 3 kB then mostly sees that status. In a
# few per cent of the tries `write` raises an AioRpcError of status INTERNAL, "Internal error from
# Core", and the call keeps that status: neither code nor reason of the server can be read any more.
# Who retries by status codes takes an overload for a defect. An INTERNAL with these words is to be
# taken as "unknown", and the call made again. Reported as grpc/grpc#36066.
#
# Seen with grpcio 1.85.1, Python 3.11, Linux:
#   3000 streams: RESOURCE_EXHAUSTED 2946, INTERNAL "Internal error from Core" 54
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import collections
import random
import sys

import grpc

METHOD = "/finding.Service/Stream"


async def refuse(requests, context):
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    yield b""


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(refuse) if details.method == METHOD else None


async def outcome(channel, pause):
    call = channel.stream_stream(METHOD)()
    try:
        await asyncio.sleep(pause)
        await call.write(b"x" * 3000)
        await call.read()
    except (grpc.RpcError, asyncio.InvalidStateError):
        pass
    code = await call.code()
    return code.name, await call.details()


async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    random.seed(0)
    found = collections.Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(3000):
            found[await outcome(channel, random.uniform(0.0, 0.004))] += 1
    await server.stop(None)
    return found


print("grpcio", grpc.__version__)
found = asyncio.run(main())
for (code, details), count in found.most_common():
    print(f"{count} x {code}: {details}")
lost = sum(n for (code, text), n in found.items() if code == "INTERNAL" and "from Core" in text)
described = lost > 0 and found["RESOURCE_EXHAUSTED", "full"] > lost
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON
