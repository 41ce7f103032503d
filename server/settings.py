"""How a server runs: every setting, with its flag, in the order of the help.

Nothing here needs the extra [server], or imports torch.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self

from hvae_codec.codec.images.limits import MAX_PICTURE_PIXELS
from hvae_codec.utils.cores import available_cores
from hvae_codec.utils.options import option

from .flag_types import parse_collector, parse_directory, parse_port, parse_seconds
from .grpc_options import ConnectionAge, shared_age
from .listening import is_loopback, is_unix

_MIB: Final = 1024 * 1024

_number: Final = partial(option, least=1, metavar="N")
_seconds: Final = partial(option, type=parse_seconds, metavar="SECONDS")
_pem: Final = partial(option, None, type=Path, metavar="PEM")


@dataclass(frozen=True)
class TlsFiles:
    """Where the PEM files are; with `client_ca` callers must show a certificate that it signed.

    Raises ValueError where one of certificate and key is missing.
    """

    certificate: Path | None = _pem(
        "the server's certificate, then its chain", flag="tls-certificate", section="security"
    )
    key: Path | None = _pem("the certificate's key, without a password", flag="tls-key")
    client_ca: Path | None = _pem("callers must show a certificate that one of these signed")

    def __post_init__(self) -> None:
        given = [self.certificate, self.key]
        if (self.client_ca is not None and None in given) or given.count(None) == 1:
            raise ValueError(
                "--tls-certificate and --tls-key belong together, and --client-ca needs both"
            )

    def __bool__(self) -> bool:
        """Whether TLS is wanted."""
        return self.certificate is not None


@dataclass(frozen=True)
class Preload:
    """A model to load before the server says that it serves; quality None: its default."""

    name: str
    quality: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of "MODEL" or "MODEL@QUALITY". Raises ValueError for anything else."""
        name, at, number = text.partition("@")
        try:
            quality = float(number) if at else None
        except ValueError:
            quality = 0.0
        if not name or (quality is not None and not 0 < quality < float("inf")):
            raise ValueError(f"--preload takes MODEL or MODEL@QUALITY, got {text!r}")
        return cls(name, quality)

    @classmethod
    def parse_all(cls, texts: Sequence[str]) -> tuple[Self, ...]:
        """`parse` of each."""
        return tuple(map(cls.parse, texts))

    def __str__(self) -> str:
        return self.name if self.quality is None else f"{self.name}@{self.quality:g}"


@dataclass(frozen=True)
class Limits:
    """Bounds on one call, either way.

    The defaults keep gRPC's own message limit, which photographs of more than 12 megapixels rarely
    fit. The pixel limit bounds memory: once decoded an image takes three bytes a pixel, and the
    networks of `photo` some 80, however few its file has.
    """

    message_bytes: int = _number(
        4 * _MIB,
        "largest message, in and out (default: %(default)s)",
        flag="max-message-bytes",
        section="limits",
    )
    items: int = _number(4_096, "most items in one call (default: %(default)s)", flag="max-items")
    pixels: int = _number(
        16 * _MIB, "most pixels in one call (default: %(default)s)", flag="max-pixels"
    )

    def __post_init__(self) -> None:
        if min(self.message_bytes, self.items, self.pixels) < 1:
            raise ValueError(f"limits must be positive, got {self}")
        if self.pixels > MAX_PICTURE_PIXELS:
            raise ValueError(
                f"at most {MAX_PICTURE_PIXELS:,} pixels in one call, the largest image of the "
                f"codec; got {self.pixels:,}"
            )


@dataclass(frozen=True)
class OpenLimits:
    """Most calls that are open at once: streams, each of which may hold one message beyond what the
    capacity counts, and `calls` of one message, each of which may hold 64 KiB unread.
    """

    streams: int = _number(
        512, "most streams that are open at once (default: %(default)s)", flag="max-streams"
    )
    idle_seconds: float = _seconds(
        300.0,
        "time for the next message of a stream, or that of a call, to come, once the caller "
        "has taken all answers, and for it to take them; 5 s while others are rejected for it "
        "(default: %(default)g)",
    )
    calls: int = 4_096

    def __post_init__(self) -> None:
        if min(self.calls, self.streams) < 1:
            raise ValueError(f"at least 1 call and 1 stream must be open at once, got {self}")
        if not 0 < self.idle_seconds < float("inf"):
            raise ValueError(f"idle_seconds must be above 0 and finite, got {self.idle_seconds:g}")


def _cores() -> int:
    """Cores for this process, 1 to 8: of OMP_NUM_THREADS, which PyTorch heeds as well, or those
    that it may run on.
    """
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdecimal() and int(stated) > 0:
        return min(int(stated), 8)
    return min(available_cores(), 8)


@dataclass(frozen=True)
class BatchLimits:
    """How batches are made. An item of more than `weight` makes a batch of its own."""

    items: int = _number(
        256,
        "most items that go through the networks together (default: %(default)s)",
        flag="max-batch-items",
        old="batch-items",
    )
    delay_seconds: float = option(
        0.01,
        "longest wait of an item for others to join it while other batches are under way; "
        "where none is, it does not wait (default: %(default)g)",
        flag="max-batch-delay-ms",
        old="batch-delay-ms",
        type=parse_seconds,
        metavar="MS",
        per_unit=1000,
    )
    weight: int = 1 << 20

    def __post_init__(self) -> None:
        if min(self.items, self.weight) < 1 or not 0 <= self.delay_seconds < 60:
            raise ValueError(f"batches of at least 1, and a delay below a minute; got {self}")


BESIDE_PIXELS: Final = 1 << 21
"""Pixels of images that are begun beside the largest one, each of no more than that."""


@dataclass(frozen=True)
class EngineSettings:
    """How the engine uses the machine for what it does not compute at once in the event loop.

    device: where the networks run; None for HVAE_DEVICE, or cpu.
    network_threads: batches that are in the networks at once in threads of this process, each on
        one core; with 1, it has all of them, as is right for a GPU. With 0, coding processes do
        whole batches, each on one core: cores that share a batch or an interpreter wait for each
        other. None: what suits the device, as `threads` has it.
    coding_processes: 0 codes in a thread of the server.
    preload: models, and qualities (None: the default), that coding processes with networks load
        first.
    large_pixels: pixels of large images that are begun at once, and BESIDE_PIXELS more of others.
    """

    device: str | None = option(
        None,
        "where the networks run: cpu, cuda, cuda:1, ... (default: HVAE_DEVICE, or cpu)",
        metavar="DEVICE",
        section="engine",
    )
    network_threads: int | None = option(
        None,
        "threads of the server that take batches through networks, a core for each; 1: one "
        "with all cores; 0: the coding processes do it, a core for each (default: 0, or 1 where "
        "--device is no CPU or there are no coding processes)",
        metavar="N",
    )
    coding_processes: int = option(
        _cores,
        "processes for entropy coding, and for networks unless threads have them; 0: a "
        "thread of the server (default: one for each core, up to 8)",
        metavar="N",
    )
    batches: BatchLimits = field(default_factory=BatchLimits)
    preload: Sequence[tuple[str, float | None]] = ()
    large_pixels: int = 16 * _MIB

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= 256:
            raise ValueError(f"network threads: 0 to 256, not {self.network_threads}")
        if not 0 <= self.coding_processes <= 256:
            raise ValueError(f"coding processes: 0 to 256, not {self.coding_processes}")
        if self.threads == self.coding_processes == 0:
            raise ValueError("network threads: 0 needs coding processes, which then have networks")

    @property
    def threads(self) -> int:
        """Network threads: those that are given, or what suits the device."""
        if self.network_threads is not None:
            return self.network_threads
        named = self.device or os.environ.get("HVAE_DEVICE", "cpu")
        return 0 if named == "cpu" and self.coding_processes > 0 else 1


@dataclass(frozen=True)
class Capacity:
    """Most items, and bytes of memory for them, that are in the server at once."""

    items: int = _number(
        16_384,
        "most items in the server at once; beyond it calls are rejected with a time to retry "
        "(default: %(default)s)",
        flag="max-queued-items",
        old="capacity-items",
    )
    bytes: int = _number(
        256 * _MIB,
        "most bytes of memory that they take: messages, decoded images, and answers until "
        "they are read; a half of it for one token, or one connection where there are no tokens "
        "(default: %(default)s)",
        flag="max-queued-bytes",
        old="capacity-bytes",
    )

    def __post_init__(self) -> None:
        if min(self.items, self.bytes) < 1:
            raise ValueError(f"capacities must be positive, got {self}")


@dataclass(frozen=True)
class Settings:
    """How a server runs. A port of 0 takes a free one; a host "unix:PATH" has none.

    Raises ValueError where others could reach an address without TLS, and `insecure` is not set.
    """

    host: str = option(
        "127.0.0.1",
        "address to bind, or unix:PATH for a socket in the file system, which has no port "
        "(default: %(default)s)",
        section="address",
    )
    port: int = option(50_051, "0: any free port (default: %(default)s)", type=parse_port)
    port_file: Path | None = option(
        None,
        "write the port, or the address of a host without one, here once it serves",
        type=Path,
        metavar="PATH",
    )
    reuse_port: bool = option(
        False,
        "other servers with this flag may listen on the same port; the system spreads "
        "connections over them (Linux, macOS)",
        old="share-port",
        action="store_true",
    )
    http_port: int | None = option(
        None,
        "serve the same methods over HTTP here, by JSON or the bytes of an image; 0: any free "
        "port (default: nowhere)",
        type=parse_port,
        metavar="PORT",
    )
    http_host: str = option(
        "127.0.0.1", "address to bind for HTTP (default: %(default)s)", metavar="HOST"
    )
    connection_age: ConnectionAge = field(default_factory=ConnectionAge)
    shutdown_grace_seconds: float = _seconds(
        10.0,
        "time for calls in flight when stopped, and before that, with --reuse-port, for "
        "callers to move to other servers (default: %(default)g); a second signal ends them at "
        "once",
        old="grace",
    )
    tls: TlsFiles = field(default_factory=TlsFiles)
    token_file: Path | None = option(
        None,
        "callers must send one of these bearer tokens: TOML with a [[token]] for each, of name, "
        "sha256, and optional items, requests and streams: the most items in flight, requests a "
        "second and open streams (default: a quarter of --max-streams); read again when it changes",
        type=Path,
        metavar="PATH",
    )
    insecure: bool = option(
        False,
        "allow addresses that other machines can reach without TLS",
        action="store_true",
    )
    models: Path | None = option(
        None,
        "directory of the models (default: HVAE_MODELS, or those of the package)",
        type=parse_directory,
        metavar="DIR",
        section="models",
    )
    preload: tuple[Preload, ...] | None = option(
        None,
        "load this before serving; may be given again (default: cifar10 and photo, where "
        "they are available)",
        old="warm",
        metavar="MODEL[@QUALITY]",
        convert=Preload.parse_all,
        action="append",
    )
    limits: Limits = field(default_factory=Limits)
    open_calls: OpenLimits = field(default_factory=OpenLimits)
    engine: EngineSettings = field(default_factory=EngineSettings)
    capacity: Capacity = field(default_factory=Capacity)
    metrics_port: int | None = option(
        None,
        "serve Prometheus metrics and a status page here (default: nowhere)",
        type=parse_port,
        metavar="PORT",
        section="observability",
    )
    metrics_host: str = option(
        "127.0.0.1", "address to bind for them (default: %(default)s)", metavar="HOST"
    )
    log_format: Literal["text", "json"] = option(
        "text", "lines on standard error (default: %(default)s)"
    )
    log_level: str = option(
        "info",
        "least level; calls are logged at info (default: %(default)s)",
        choices=("debug", "info", "warning", "error"),
    )
    otlp_endpoint: str | None = option(
        None,
        "send OpenTelemetry traces to this collector, by OTLP over gRPC; needs the extra "
        "[tracing] (default: what OTEL_EXPORTER_OTLP_ENDPOINT says)",
        type=parse_collector,
        metavar="URL",
    )

    def __post_init__(self) -> None:
        hosts = {"--host": self.host}
        if self.http_port is not None:
            hosts["--http-host"] = self.http_host
        if self.metrics_port is not None:
            hosts["--metrics-host"] = self.metrics_host
        for flag, host in hosts.items():
            if not (self.insecure or self.tls or is_loopback(host) or is_unix(host)):
                raise ValueError(
                    f"{flag} {host} can be reached from other machines, and without TLS everybody "
                    "between can read and change what is sent: give --tls-certificate and "
                    "--tls-key, bind 127.0.0.1, or give --insecure to accept that"
                )

    @property
    def age(self) -> ConnectionAge:
        """`connection_age`, with the age that suits a shared port where none is given."""
        if self.connection_age.seconds is not None or not self.reuse_port:
            return self.connection_age
        return ConnectionAge(
            shared_age(self.shutdown_grace_seconds), self.connection_age.grace_seconds
        )
