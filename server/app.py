"""Building, starting and stopping the server."""

import asyncio
import ipaddress
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

import hvae_codec
from hvae_codec.files import write_atomically
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

from .convert import to_description
from .handlers import Handlers
from .limits import Limits
from .service import CodecServicer

_logger = logging.getLogger(__name__)

SERVICE_NAME: Final = codec_pb2.DESCRIPTOR.services_by_name["CodecService"].full_name

_ENDING_SECONDS: Final = 2.0


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class StartError(Exception):
    """The address cannot be bound."""


@dataclass(frozen=True)
class Settings:
    """How a server runs. `port` 0 takes a free one; `grace_seconds` bounds a graceful stop.

    Raises ValueError where the host is not loopback and `insecure` is not set.
    """

    host: str = "127.0.0.1"
    port: int = 0
    insecure: bool = False
    grace_seconds: float = 10.0
    port_file: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.insecure and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached from other machines, and this server has neither "
                "encryption nor authentication: bind 127.0.0.1, or give --insecure to accept that"
            )


class App:
    """One server process: the codec service, the standard health service and reflection."""

    def __init__(self, settings: Settings) -> None:
        """Prepare a server; reads the models' cards."""
        self._settings = settings
        # One thread: torch brings its own threads, and calls would only take turns on them.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codec")
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server = _grpc_server(settings.limits)
        models = codec_pb2.ListModelsResponse(models=map(to_description, hvae_codec.models()))
        servicer = CodecServicer(Handlers(settings.limits), settings.limits, models, self._worker)
        codec_pb2_grpc.add_CodecServiceServicer_to_server(  # type: ignore[no-untyped-call]
            servicer, self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> str:
        """Bind, serve and say so in the port file; returns HOST:PORT.

        Raises StartError where the address is taken or not this machine's.
        """
        host = self._settings.host
        host = f"[{host}]" if ":" in host else host
        try:
            port = self._server.add_insecure_port(f"{host}:{self._settings.port}")
        except RuntimeError as error:
            raise StartError(f"cannot listen on {host}:{self._settings.port}: {error}") from error
        await self._server.start()
        await self._health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        if self._settings.port_file is not None:
            write_atomically(self._settings.port_file, f"{port}\n".encode())
        return f"{host}:{port}"

    async def stop(self) -> None:
        """Refuse new calls at once, let those in flight finish within the grace, then stop."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.grace_seconds)
        # Calls that the grace cut off learn of it from grpc a moment later, and end their work.
        if ending := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(ending, timeout=_ENDING_SECONDS)
        self._worker.shutdown(cancel_futures=True)
        if self._settings.port_file is not None:
            self._settings.port_file.unlink(missing_ok=True)


def _grpc_server(limits: Limits) -> grpc.aio.Server:
    return grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", limits.message_bytes),
            # Without this a second server on a busy port would silently share its calls.
            ("grpc.so_reuseport", 0),
        ]
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    app = App(settings)
    try:
        address = await app.start()
        print(f"hvae-codec server listening on {address}", flush=True)
        await stopping.wait()
        _logger.info("stopping; calls in flight have %g s", settings.grace_seconds)
    finally:
        await app.stop()
