"""The command line of the server, also used by `hvae-codec serve`."""

import argparse
import asyncio
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.options import add_flags, build
from hvae_codec.utils.signals import ended_by_signals

from .engine.process_pool import share_imports
from .listening import AddressError, check_address, check_file, check_host, check_ports_differ
from .output import put
from .settings import Settings

EXAMPLE = """example:
  hvae-codec serve --port 50051
  grpcurl -plaintext 127.0.0.1:50051 list"""

_DESCRIPTORS: Final = 65_536
"""More than a server of thousands of calls has any use for."""

_EXTRA_PACKAGES = frozenset(
    {
        *("aiohttp", "grpc", "grpc_health", "grpc_reflection", "grpc_status", "google"),
        *("prometheus_client", "psutil"),
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the server's flags to `parser`; `run` takes what it parses."""
    add_flags(parser, Settings)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0, 1 for failure, 2 for usage."""
    with ended_by_signals():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        check_host("--host", args.host)
        addresses = {"--port": (args.host, args.port)}
        for kind in ("http", "metrics"):
            host, port = getattr(args, f"{kind}_host"), getattr(args, f"{kind}_port")
            if port is not None:
                check_host(f"--{kind}-host", host, unix=False)
                addresses[f"--{kind}-port"] = host, port
        check_ports_differ(addresses)
        settings = build(Settings, vars(args))
    except (AddressError, ValueError) as error:
        return _fail(2, str(error))
    _raise_descriptor_limit()
    try:
        _check_addresses(settings)
    except AddressError as error:
        return _fail(1, str(error))
    if settings.engine.threads == 0:
        share_imports()  # while this process imports the rest
    try:
        from .app import StartError, serve
        from .errors import SecurityError
        from .observability.calls import current_call
        from .observability.logs import Logs
        from .observability.metrics import Metrics
        from .observability.tracing import TracingError
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA_PACKAGES:
            raise
        return _fail(1, f"{error}: install the server with pip install 'hvae-codec[server]'")
    metrics = Metrics()
    logs = Logs(
        settings.log_format,
        settings.log_level,
        metrics.log_lines_dropped.inc,
        lambda: current_call().request_id,
    )
    logs.start()
    try:
        asyncio.run(serve(settings, metrics))
    except (StartError, SecurityError, TracingError, OSError, HvaeCodecError) as error:
        return _fail(1, str(error))
    finally:
        logs.stop()
    return 0


def _raise_descriptor_limit() -> None:
    """Raise the process's own limit of descriptors, which is often 1,024: each connection takes
    one, so that few clients with idle connections would keep all others out, probes too.
    """
    current, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _DESCRIPTORS)
    if current != resource.RLIM_INFINITY and current < wanted:
        with suppress(ValueError, OSError):  # of systems with a limit of their own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _check_addresses(settings: Settings) -> None:
    """Check that all addresses can be had and the port file written; this comes before imports,
    which take seconds. Raises AddressError.
    """
    check_address(settings.host, settings.port, reuse_port=settings.reuse_port)
    if settings.http_port is not None:
        check_address(settings.http_host, settings.http_port, reuse_port=settings.reuse_port)
    if settings.metrics_port is not None:
        check_address(settings.metrics_host, settings.metrics_port)
    if settings.port_file is not None:
        check_file(settings.port_file)


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
    put(sys.stderr, f"hvae-codec server: {message}\n")
    return exit_code
