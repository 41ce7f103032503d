"""Ask a server's gRPC health service: exit code 0 if it says SERVING, else 1.

    python healthcheck.py [--address 127.0.0.1:50051] [--ca ca.crt [--name NAME]] [--alive]

Kubernetes' own gRPC probes and most health checkers cannot speak TLS; this one can. Flags have
environment variables beside them, HEALTH_ADDRESS and so on, for Docker's HEALTHCHECK. It asks no
proxy of the environment.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def _argument(parser: argparse.ArgumentParser, name: str, default: str | None, text: str) -> None:
    value = os.environ.get(f"HEALTH_{name.upper()}", default)
    parser.add_argument(f"--{name}", default=value, help=text)


def main() -> int:
    """Ask, and say what was answered; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    _argument(parser, "address", "127.0.0.1:50051", "HOST:PORT (default: %(default)s)")
    _argument(parser, "ca", None, "PEM of who signed the server's certificate; none: no TLS")
    _argument(parser, "name", None, "the name in that certificate (default: the address's)")
    _argument(parser, "certificate", None, "PEM to show to a server that has a --client-ca")
    _argument(parser, "key", None, "its key")
    _argument(parser, "timeout", "4", "seconds (default: %(default)s)")
    parser.add_argument("--alive", action="store_true", help="any answer will do")
    arguments = parser.parse_args()
    request = health_pb2.HealthCheckRequest(service="hvae_codec.v1.CodecService")
    try:
        seconds = float(arguments.timeout)
        channel = _channel(arguments)
    except (OSError, ValueError) as error:  # a file that is not there, no number
        print(f"healthcheck: {error}", file=sys.stderr)
        return 1
    with channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        try:
            status = health.Check(request, timeout=seconds).status
        except grpc.RpcError as error:
            answer: Any = error
            print(f"{arguments.address}: {answer.code().name}: {answer.details()}")
            return 1
    print(f"{arguments.address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")
    return 0 if arguments.alive or status == health_pb2.HealthCheckResponse.SERVING else 1


def _channel(arguments: argparse.Namespace) -> grpc.Channel:
    # A proxy of the environment would be asked for loopback addresses, too.
    options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
    if arguments.ca is None:
        return grpc.insecure_channel(arguments.address, options)
    own = [_pem(path) for path in (arguments.key, arguments.certificate)]
    credentials = grpc.ssl_channel_credentials(_pem(arguments.ca), *own)
    if arguments.name:
        options.append(("grpc.ssl_target_name_override", arguments.name))
    return grpc.secure_channel(arguments.address, credentials, options)


def _pem(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


if __name__ == "__main__":
    sys.exit(main())
