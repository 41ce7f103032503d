"""The command line of the server, also used by `hvae-codec serve`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.signals import ended_by_signals

from .engine.process_pool import BATCH_FUNCTIONS, share_imports
from .flags import (
    address_flags,
    default_network_threads,
    engine_flags,
    limit_flags,
    model_flags,
    security_flags,
    watching_flags,
)
from .listening import (
    AddressError,
    check_address,
    check_file,
    check_host,
    check_ports_differ,
    is_loopback,
    is_unix,
)
from .output import put

EXAMPLE = """example:
  hvae-codec serve --port 50051
  grpcurl -plaintext 127.0.0.1:50051 list"""

_EXTRA_PACKAGES = frozenset(
    {
        *("aiohttp", "grpc", "grpc_health", "grpc_reflection", "grpc_status", "google"),
        "prometheus_client",
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the server's flags to `parser`; `run` takes what it parses."""
    address_flags(parser.add_argument_group("address"))
    security_flags(parser.add_argument_group("security"))
    model_flags(parser.add_argument_group("models"))
    limit_flags(parser.add_argument_group("limits"))
    engine_flags(parser.add_argument_group("engine"))
    watching_flags(parser.add_argument_group("being watched"))


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0, 1 for failure, 2 for usage."""
    with ended_by_signals():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    if (code := _check_addresses(args)) != 0:
        return code
    threads = args.network_threads
    if threads is None:
        threads = default_network_threads(args.device, args.coding_processes)
    if threads == 0:
        share_imports(BATCH_FUNCTIONS)  # while this process imports the rest
    try:
        from .admission.capacity import Capacity
        from .admission.open_calls import OpenLimits
        from .app import StartError, serve
        from .auth.tls import SecurityError, TlsFiles
        from .engine.batcher import BatchLimits
        from .engine.engine import EngineSettings
        from .grpc_options import ConnectionAge, shared_age
        from .observability.logs import Logs
        from .observability.metrics import Metrics
        from .observability.tracing import TracingError
        from .rpc.limits import Limits
        from .settings import Settings, Warm
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA_PACKAGES:
            raise
        return _fail(1, f"{error}: install the server with pip install 'hvae-codec[server]'")
    age = args.max_connection_age
    if age is None and args.share_port:
        age = shared_age(args.grace)
    try:
        settings = Settings(
            host=args.host,
            port=args.port,
            insecure=args.insecure,
            grace_seconds=args.grace,
            port_file=args.port_file,
            share_port=args.share_port,
            connection_age=ConnectionAge(age, args.max_connection_age_grace),
            limits=Limits(args.max_message_bytes, args.max_items, args.max_pixels),
            capacity=Capacity(args.capacity_items, args.capacity_bytes),
            open_calls=OpenLimits(streams=args.max_streams, idle_seconds=args.idle_seconds),
            engine=EngineSettings(
                threads,
                args.coding_processes,
                BatchLimits(args.batch_items, delay_seconds=args.batch_delay_ms / 1000),
            ),
            tls=TlsFiles(args.tls_certificate, args.tls_key, args.client_ca),
            token_file=args.token_file,
            metrics_host=args.metrics_host,
            metrics_port=args.metrics_port,
            models=args.models,
            device=args.device,
            warm=None if args.warm is None else tuple(map(Warm.parse, args.warm)),
            otlp_endpoint=args.otlp_endpoint,
        )
    except ValueError as error:
        return _fail(2, str(error))
    metrics = Metrics()
    logs = Logs(args.log_format, args.log_level, metrics.log_lines_dropped.inc)
    logs.start()
    try:
        asyncio.run(serve(settings, metrics))
    except (StartError, SecurityError, TracingError, OSError, HvaeCodecError) as error:
        return _fail(1, str(error))
    finally:
        logs.stop()
    return 0


def _check_addresses(args: argparse.Namespace) -> int:
    """0 where both addresses can be had and the port file written; this comes before imports, which
    take seconds.

    Those that want TLS are left to `Settings`, which says so.
    """
    addresses = [(args.host, args.port, args.share_port)]
    try:
        check_host("--host", args.host)
        if args.metrics_port is not None:
            check_host("--metrics-host", args.metrics_host, unix=False)
            check_ports_differ(args.host, args.port, args.metrics_host, args.metrics_port)
            addresses.append((args.metrics_host, args.metrics_port, False))
    except AddressError as error:
        return _fail(2, str(error))
    try:
        for host, port, share_port in addresses:
            if args.insecure or args.tls_certificate or is_loopback(host) or is_unix(host):
                check_address(host, port, share_port=share_port)
        if args.port_file is not None:
            check_file(args.port_file)
    except AddressError as error:
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
    put(sys.stderr, f"hvae-codec server: {message}\n")
    return exit_code
