"""The server's flags, in the groups of its help. Nothing here needs the extra [server]."""

import argparse
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_MIB = 1024 * 1024

Group = argparse._ArgumentGroup


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


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {number}")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds must be finite and at least 0, got {text}")
    return seconds


def _collector(text: str) -> str:
    """A URL that OTLP over gRPC takes."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = valid and not any(each.isspace() for each in text)
    except ValueError:  # of a port that is no number or above 65,535
        valid = False
    if not valid:
        raise argparse.ArgumentTypeError(
            f"a collector is http://HOST:PORT or https://HOST:PORT, with a port of 1 to 65535, "
            f"got {text!r}"
        )
    return text


def address_flags(group: Group) -> None:
    """Where the server listens, and how it stops."""
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to bind, or unix:PATH for a socket in the file system, which has no port "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--port", type=_port, default=50_051, help="0: any free port (default: %(default)s)"
    )
    group.add_argument(
        "--port-file",
        type=Path,
        metavar="PATH",
        help="write the port, or the address of a host without one, here once it serves",
    )
    group.add_argument(
        "--share-port",
        action="store_true",
        help="other servers with this flag may listen on the same port; the system spreads "
        "connections over them (Linux, macOS)",
    )
    group.add_argument(
        "--max-connection-age",
        type=_seconds,
        metavar="SECONDS",
        help="send clients away from connections that are older, so that their next calls may "
        "reach a server that was added (default: 10 with --share-port, less where --grace is, else "
        "any age)",
    )
    group.add_argument(
        "--max-connection-age-grace",
        type=_seconds,
        metavar="SECONDS",
        help="cancel calls that are still on their way on such a connection after so long "
        "(default: never)",
    )
    group.add_argument(
        "--grace",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="time for calls in flight when stopped, and before that, with --share-port, for "
        "callers to move to other servers (default: %(default)g); a second signal ends them at "
        "once",
    )


def security_flags(group: Group) -> None:
    """Who may connect and call."""
    pem: dict[str, Any] = {"type": Path, "metavar": "PEM"}
    group.add_argument("--tls-certificate", **pem, help="the server's certificate, then its chain")
    group.add_argument("--tls-key", **pem, help="the certificate's key, without a password")
    group.add_argument(
        "--client-ca", **pem, help="callers must show a certificate that one of these signed"
    )
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="PATH",
        help="callers must send one of these bearer tokens; a line is: NAME TOKEN [items=N] "
        "[requests=N] [streams=N], with the most items in flight, requests a second and open "
        "streams (default: a quarter of --max-streams); read again when it changes",
    )
    group.add_argument(
        "--insecure",
        action="store_true",
        help="allow addresses that other machines can reach without TLS",
    )


def model_flags(group: Group) -> None:
    """Which models there are."""
    group.add_argument(
        "--models",
        type=_directory,
        metavar="DIR",
        help="directory of the models (default: HVAE_MODELS, or those of the package)",
    )
    group.add_argument(
        "--warm",
        action="append",
        metavar="MODEL[@QUALITY]",
        help="load this before serving; may be given again (default: cifar10 and photo, where "
        "they are at hand)",
    )


def _directory(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a directory")
    return path


def limit_flags(group: Group) -> None:
    """What one call may carry."""
    group.add_argument(
        "--max-message-bytes",
        type=_positive,
        default=4 * _MIB,
        metavar="N",
        help="largest message, in and out (default: %(default)s)",
    )
    group.add_argument(
        "--max-items",
        type=_positive,
        default=4_096,
        metavar="N",
        help="most items in one call (default: %(default)s)",
    )
    group.add_argument(
        "--max-pixels",
        type=_positive,
        default=16 * _MIB,
        metavar="N",
        help="most pixels in one call (default: %(default)s)",
    )
    group.add_argument(
        "--max-streams",
        type=_positive,
        default=512,
        metavar="N",
        help="most streams that are open at once (default: %(default)s)",
    )
    group.add_argument(
        "--idle-seconds",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="time for the next message of a stream, or that of a call, to come, once the caller "
        "has taken all answers; 5 s while others are refused for it (default: %(default)g)",
    )


def engine_flags(group: Group) -> None:
    """How calls share the machine."""
    group.add_argument(
        "--device",
        metavar="DEVICE",
        help="where the networks run: cpu, cuda, cuda:1, ... (default: HVAE_DEVICE, or cpu)",
    )
    group.add_argument(
        "--network-threads",
        type=_count,
        metavar="N",
        help="threads of the server that take batches through networks, a core for each; 1: one "
        "with all cores; 0: the coding processes do it, a core for each (default: 0, or 1 where "
        "--device is no CPU or there are no coding processes)",
    )
    group.add_argument(
        "--coding-processes",
        type=_count,
        default=_cores(),
        metavar="N",
        help="processes for entropy coding, and for networks unless threads have them; 0: a "
        "thread of the server (default: one for each core, up to 8)",
    )
    group.add_argument(
        "--batch-items",
        type=_positive,
        default=256,
        metavar="N",
        help="most items that go through the networks together (default: %(default)s)",
    )
    group.add_argument(
        "--batch-delay-ms",
        type=_seconds,
        default=10.0,
        metavar="MS",
        help="longest wait of an item for others to join it while other batches are under way; "
        "where none is, it waits for nobody (default: %(default)g)",
    )
    group.add_argument(
        "--capacity-items",
        type=_positive,
        default=16_384,
        metavar="N",
        help="most items in the server at once; beyond it calls are told to come back "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--capacity-bytes",
        type=_positive,
        default=256 * _MIB,
        metavar="N",
        help="most bytes of memory that they take: messages, decoded images, and answers until "
        "they are read; a half of it for one token, or one connection where there are no tokens "
        "(default: %(default)s)",
    )


def default_network_threads(device: str | None, coding_processes: int) -> int:
    """For a `--device`, or what the environment says, and so many `--coding-processes`."""
    named = device or os.environ.get("HVAE_DEVICE", "cpu")
    return 0 if named == "cpu" and coding_processes > 0 else 1


def _cores() -> int:
    """Cores for this process, 1 to 8: of OMP_NUM_THREADS, which PyTorch heeds as well, or those
    that it may run on.
    """
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdecimal() and int(stated) > 0:
        return min(int(stated), 8)
    allowed = getattr(os, "sched_getaffinity", None)
    return min(len(allowed(0)) if allowed else os.cpu_count() or 1, 8)


def watching_flags(group: Group) -> None:
    """Metrics, logs and traces."""
    group.add_argument(
        "--metrics-port",
        type=_port,
        metavar="PORT",
        help="serve Prometheus metrics and a status page here (default: nowhere)",
    )
    group.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="HOST",
        help="address to bind for them (default: %(default)s)",
    )
    group.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="lines on standard error (default: %(default)s)",
    )
    group.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="least level; calls are logged at info (default: %(default)s)",
    )
    group.add_argument(
        "--otlp-endpoint",
        type=_collector,
        metavar="URL",
        help="send OpenTelemetry traces to this collector, by OTLP over gRPC; needs the extra "
        "[tracing] (default: what OTEL_EXPORTER_OTLP_ENDPOINT says)",
    )
