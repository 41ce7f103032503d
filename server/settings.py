"""How a server runs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from .admission.capacity import Capacity
from .admission.open_calls import OpenLimits
from .auth.tls import TlsFiles
from .engine.engine import EngineSettings
from .grpc_options import ConnectionAge
from .listening import is_loopback, is_unix
from .rpc.limits import Limits


@dataclass(frozen=True)
class Warm:
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
            raise ValueError(f"--warm wants MODEL or MODEL@QUALITY, got {text!r}")
        return cls(name, quality)

    def __str__(self) -> str:
        return self.name if self.quality is None else f"{self.name}@{self.quality:g}"


@dataclass(frozen=True)
class Settings:
    """How a server runs. A port of 0 takes a free one; a host "unix:PATH" has none.

    Attributes:
        limits: what one call may carry.
        capacity: what the server holds at once.
        open_calls: how many calls may be open at once, and for how long silent.
        engine: how it computes.
        insecure: allow addresses that other machines reach without TLS.
        grace_seconds: how long calls in flight may go on once the server stops.
        port_file: where to write the port of gRPC, or the address of a host without one, once the
            server serves.
        connection_age: how old connections may become.
        share_port: let other servers that share it, too, listen on the same port.
        tls: the PEM files of TLS, if any.
        token_file: who may call; None for everybody.
        metrics_port: where metrics and the status page are; None for nowhere.
        models: directory of the models; None for HVAE_MODELS or those of the package.
        device: where the networks run; None for HVAE_DEVICE, or cpu.
        warm: what to load before serving; None for the usual ones that are available.
        otlp_endpoint: where traces go; None for what the environment says.

    Raises ValueError where others could reach an address without TLS, and `insecure` is not set.
    """

    host: str = "127.0.0.1"
    port: int = 0
    insecure: bool = False
    grace_seconds: float = 10.0
    port_file: Path | None = None
    share_port: bool = False
    connection_age: ConnectionAge = field(default_factory=ConnectionAge)
    limits: Limits = field(default_factory=Limits)
    capacity: Capacity = field(default_factory=Capacity)
    open_calls: OpenLimits = field(default_factory=OpenLimits)
    engine: EngineSettings = field(default_factory=EngineSettings)
    tls: TlsFiles = field(default_factory=TlsFiles)
    token_file: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    models: Path | None = None
    device: str | None = None
    warm: tuple[Warm, ...] | None = None
    otlp_endpoint: str | None = None

    def __post_init__(self) -> None:
        hosts = {"--host": self.host}
        if self.metrics_port is not None:
            hosts["--metrics-host"] = self.metrics_host
        for flag, host in hosts.items():
            if not (self.insecure or self.tls or is_loopback(host) or is_unix(host)):
                raise ValueError(
                    f"{flag} {host} can be reached from other machines, and without TLS everybody "
                    "between can read and change what is sent: give --tls-certificate and "
                    "--tls-key, bind 127.0.0.1, or give --insecure to accept that"
                )
