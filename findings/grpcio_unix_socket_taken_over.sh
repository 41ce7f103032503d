#!/usr/bin/env bash
# gRPC takes a unix socket over from a server that is using it, and reports no error to either.
#
# Server A listens on unix:PATH and answers. Server B is then told to listen on the same PATH.
# add_insecure_port of a TCP port in use raises RuntimeError; of a unix socket in use it removes the
# file and makes its own. B gets every new connection. A goes on serving nobody, without an error.
#
# Seen with grpcio 1.85.1:
#   before: A answers; B may listen: yes; after: B answers; A has raised nothing
#   the same with a TCP port: B may listen: no (RuntimeError)
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1
GRPC_VERBOSITY=NONE "$folder/venv/bin/python" - "$folder/server.sock" <<'PYTHON'
import sys
from concurrent import futures

import grpc

print("grpcio", grpc.__version__)


def server(name):
    """A server whose one method answers with its name."""
    made = grpc.server(
        futures.ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)]
    )
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: name)
    made.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("who", {"Is": handler}),)
    )
    return made


def may_listen(made, address):
    try:
        made.add_insecure_port(address)
    except RuntimeError:
        return False
    made.start()
    return True


def answer(address):
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as channel:
        return channel.unary_unary("/who/Is")(b"", timeout=20).decode()


address = f"unix:{sys.argv[1]}"
first, second = server(b"A"), server(b"B")
assert may_listen(first, address)
before = answer(address)
taken = may_listen(second, address)
after = answer(address)
print(f"unix socket: before: {before} answers; B may listen: {taken}; after: {after} answers")

third, fourth = server(b"A"), server(b"B")
port = third.add_insecure_port("127.0.0.1:0")
third.start()
tcp = may_listen(fourth, f"127.0.0.1:{port}")
print(f"TCP port: B may listen: {tcp}")
for made in (first, second, third, fourth):
    made.stop(0).wait()
described = (before, taken, after, tcp) == ("A", True, "B", False)
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON
