"""The command line of the server, also used by `hvae-codec serve`."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from hvae_codec.errors import HvaeCodecError

EXAMPLE = """example:
  hvae-codec serve --port 50051
  grpcurl -plaintext 127.0.0.1:50051 list"""

_MIB = 1024 * 1024
_EXTRA_PACKAGES = frozenset({"grpc", "grpc_health", "grpc_reflection", "grpc_status", "google"})


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, got {port}")
    return port


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds must be finite and at least 0, got {text}")
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the server's flags to `parser`; `run` takes what it parses."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, default=50_051, help="0: any free port (default: %(default)s)"
    )
    parser.add_argument(
        "--port-file", type=Path, metavar="PATH", help="write the port here once it serves"
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="allow a --host that other machines can reach: there is no encryption yet",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="time for calls in flight when stopped (default: %(default)g)",
    )
    parser.add_argument(
        "--max-message-bytes",
        type=_positive,
        default=4 * _MIB,
        metavar="N",
        help="largest message, in and out (default: %(default)s)",
    )
    parser.add_argument(
        "--max-items",
        type=_positive,
        default=4_096,
        metavar="N",
        help="most items in one call (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=_positive,
        default=32 * _MIB,
        metavar="N",
        help="most pixels in one call (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0, 1 for failure, 2 for usage."""
    try:
        from .app import Settings, StartError, serve
        from .limits import Limits
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA_PACKAGES:
            raise
        return _fail(1, f"{error}: install the server with pip install 'hvae-codec[server]'")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings(
            host=args.host,
            port=args.port,
            insecure=args.insecure,
            grace_seconds=args.grace,
            port_file=args.port_file,
            limits=Limits(args.max_message_bytes, args.max_items, args.max_pixels),
        )
    except ValueError as error:
        return _fail(2, str(error))
    try:
        asyncio.run(serve(settings))
    except (StartError, OSError, HvaeCodecError) as error:
        return _fail(1, str(error))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m hvae_codec.server`: parse `argv` (default: the process's) and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m hvae_codec.server",
        description="Serve the codecs over gRPC, with the standard health and reflection services.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


def _fail(exit_code: int, message: str) -> int:
    print(f"hvae-codec server: {message}", file=sys.stderr)
    return exit_code
