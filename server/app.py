"""Building, starting and stopping the server."""

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

import hvae_codec
from hvae_codec.codec.registry import check_available
from hvae_codec.utils.atomic_files import write_atomically
from hvae_codec.utils.malloc import give_back_freed_memory
from hvae_codec.utils.signals import STOPPING
from hvae_codec.v1 import codec_pb2

from .admission.capacity import Admission
from .admission.open_calls import OpenCalls, OverloadGuard, Silence, UnreadAnswers
from .admission.side_calls import SideCalls
from .auth.access import Access
from .auth.file_watcher import watch
from .auth.tls import Tls
from .auth.token_file import TokenFile
from .engine.engine import Engine
from .grpc_options import AGE_SPREAD, server_options
from .http.gateway import Gateway
from .listening import (
    address_of,
    cannot_listen,
    cannot_write,
    close_connection,
    close_path,
    is_unix,
    stop_listening,
)
from .observability.calls import Observation, current_call
from .observability.metrics import Metrics
from .observability.process_stats import ProcessStats
from .observability.tracing import start_tracing
from .output import announce
from .rpc.health import Health
from .rpc.interceptor import CallInterceptor
from .rpc.methods import Calls
from .rpc.requests import message_footprint
from .rpc.servicer import SERVICE, CodecServicer
from .settings import Preload, Settings
from .status_page.page import StatusPage

_logger = logging.getLogger(__name__)

USUALLY_PRELOADED: Final = (Preload("cifar10"), Preload("photo"))
"""Loaded before serving where they are available and nothing else was asked for."""

_SERVICES: Final = ("", SERVICE.full_name)  # of health

_ENDING_SECONDS: Final = 2.0
_SWITCH_SECONDS: Final = 0.0002  # tried while tuning: 0.005, 0.001, 0.0002
_TIDY_SECONDS: Final = 1.0
_TIDY_ITEMS: Final = 1_024
_LOOK_SECONDS: Final = 30.0
_CALLS_SECONDS: Final = 0.02

_LEAVING_SECONDS: Final = 3.0
"""How long the process waits after its last call for threads in the middle of a computation, which
Python cannot interrupt."""


class StartError(Exception):
    """The server cannot run as it was asked to."""


class App:
    """One server process: the codec service, the standard health service and reflection."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        """Prepare a server; reads the models' cards, certificates and tokens.

        Raises:
            SecurityError, TracingError: as `Tls`, `TokenFile` and `start_tracing`.
            CheckpointError: a model's card is damaged.
            UnknownModelError, UnknownQualityError: of the models to preload.
        """
        self._settings = settings
        if settings.models is not None:
            # For all of this process and those that it starts: nothing else names models.
            os.environ["HVAE_MODELS"] = str(settings.models)
        if settings.engine.device is not None:
            os.environ["HVAE_DEVICE"] = settings.engine.device
        self.metrics = metrics or Metrics()
        self._tls = Tls(settings.tls) if settings.tls else None
        self._tokens = TokenFile(settings.token_file) if settings.token_file else None
        self.access = Access(self._tokens) if self._tokens else None
        self._tracing = start_tracing(settings.otlp_endpoint)
        self._preloaded = _preloaded(settings)
        for each in self._preloaded:
            check_available(each.name, each.quality)
        preload = [(each.name, each.quality) for each in self._preloaded]
        engine = replace(settings.engine, preload=preload, large_pixels=settings.limits.pixels)
        self.engine = Engine(engine, self.metrics)
        self.calls = Calls(self.engine, settings.limits)
        self.admission = Admission(settings.capacity)
        self._usage = ProcessStats()
        self.metrics.show(self._figures)
        idle_seconds = settings.open_calls.idle_seconds
        self._silence = Silence(idle_seconds)
        self._unread = UnreadAnswers(
            idle_seconds, self._close_connection, lambda: self.admission.is_waited_for
        )
        self.admission.make_room = self._unread.make_room
        self._open_calls = OpenCalls(settings.open_calls, self._silence, self._unread)
        self._overload = OverloadGuard(SERVICE, self.admission, self._open_calls)
        self._observation = Observation(SERVICE, self.metrics, self._tracing)
        observe = self._observation.observe
        self._servicer = CodecServicer(
            self.calls, self.admission, self._silence, observe, self._unread, self._open_calls
        )
        self._health = Health()
        self._interceptor = CallInterceptor(
            self._observation, self.access, self._overload, self._silence, self._open_calls
        )
        self._server = self._grpc_server()
        handlers = self._servicer.handlers(self.metrics.sent)
        self._server.add_generic_rpc_handlers((handlers,))
        self._gateway = Gateway(
            SERVICE,
            self._interceptor,
            handlers,
            self._observation,
            self.metrics,
            settings.limits,
            self._tls,
        )
        self.http_url: str | None = None
        self._side_calls = SideCalls(self._server, idle_seconds, self._close_connection)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._side_calls)
        names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(names),  # type: ignore[attr-defined]
            self._side_calls,
        )
        self._background: list[asyncio.Task[None]] = []
        self._port = 0
        self._serving = False
        self._page = StatusPage(
            self.metrics,
            self._evaluate,
            lambda: self._serving,
            most_bytes=settings.limits.message_bytes,
            access=self.access,
            tls=self._tls,
        )
        self.page_url: str | None = None

    def _figures(self) -> dict[str, float]:
        """What the server holds and does at the moment."""
        held = self.admission
        return {
            **self.engine.figures(),
            **self._usage.figures(),
            "queued_items": held.items,
            "queued_bytes": held.bytes,
            "rejected_calls_total": held.rejected,
            "open_streams": self._open_calls.streams,
        }

    def _close_connection(self, peer: str) -> None:
        """Close the connection of a peer that reads no answers."""
        if self._gateway.close_connection(peer):
            _logger.warning("%s read no answer over HTTP: its connection was closed", peer)
        elif is_unix(self._settings.host):
            if close_path(self._settings.host):
                _logger.warning("a connection read no answers: those of the socket were closed")
        elif close_connection(self._port, peer):
            _logger.warning("%s read no answers: its connection was closed", peer)

    async def _evaluate(self, request: codec_pb2.EvaluateRequest) -> codec_pb2.EvaluateResponse:
        """The call Evaluate, for the status page."""
        size, owner = message_footprint(request.ByteSize()), current_call().owner
        with self.admission.take(1, size, owner) as held:
            return await self.calls.evaluate(request, None, held)

    def _grpc_server(self) -> grpc.aio.Server:
        return grpc.aio.server(
            interceptors=[self._interceptor],
            options=server_options(
                self._settings.limits.message_bytes,
                reuse_port=self._settings.reuse_port,
                age=self._settings.age,
            ),
        )

    async def start(self) -> str:
        """Bind, load the models to preload, serve and say so in the port file; returns HOST:PORT.

        Raises:
            StartError: an address is taken or not this machine's, or the port file not writable.
            CheckpointError: of the models to preload.
        """
        began = time.monotonic()
        # Of a port that others share, calls that come meanwhile are theirs, who can answer them.
        if not self._settings.reuse_port:
            self._port = self._bind()
            await self._start_http()
        await self._start_page()
        self._health.set(*_SERVICES, serving=False)
        if not self._settings.reuse_port:
            await self._server.start()
        await asyncio.gather(self.engine.start(), self._preload())
        # The networks' thread waits this long for the interpreter's lock whenever calls have it.
        sys.setswitchinterval(_SWITCH_SECONDS)
        # What is there now stays: without it, collections walk all of torch's objects under load.
        gc.collect()
        gc.freeze()
        self._background.append(asyncio.create_task(self._tidy()))
        self._background.append(asyncio.create_task(self._silence.watch()))
        self._background.append(asyncio.create_task(self._unread.watch()))
        if self.page_url is not None:
            self._background.append(asyncio.create_task(self._look()))
        files = [each for each in (self._tokens, self._tls) if each is not None]
        if files:
            self._background.append(asyncio.create_task(watch(files)))
        if self._settings.reuse_port:
            self._port = self._bind()
            await self._start_http()
            await self._server.start()
        self._health.set(*_SERVICES, serving=True)
        self._serving = True
        self._write_port_file()
        _logger.info("serving after %.1f s", time.monotonic() - began)
        return address_of(self._settings.host, self._port)

    async def _start_page(self) -> None:
        host, port = self._settings.metrics_host, self._settings.metrics_port
        if port is not None:
            self.page_url = await _listening(self._page.start(host, port), host, port)

    async def _start_http(self) -> None:
        host, port = self._settings.http_host, self._settings.http_port
        if port is not None:
            starting = self._gateway.start(host, port, reuse_port=self._settings.reuse_port)
            self.http_url = await _listening(starting, host, port)

    def _write_port_file(self) -> None:
        path = self._settings.port_file
        if path is None:
            return
        shown = self._settings.host if is_unix(self._settings.host) else self._port
        try:
            write_atomically(path, f"{shown}\n".encode())
        except OSError as error:
            raise StartError(cannot_write(path, error)) from error

    def _bind(self) -> int:
        address = address_of(self._settings.host, self._settings.port)
        try:
            if self._tls is not None:
                return int(self._server.add_secure_port(address, self._tls.credentials()))
            return int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise StartError(f"cannot listen on {address}: {error}") from error

    async def _preload(self) -> None:
        """Load models, so that no caller waits for it."""
        for each in self._preloaded:
            began = time.monotonic()
            await asyncio.to_thread(hvae_codec.load, each.name, each.quality)
            _logger.info("%s loaded in %.1f s", each, time.monotonic() - began)

    async def _tidy(self) -> None:
        """Give memory back after bursts: allocators keep what overload took."""
        busy = False
        while True:
            await asyncio.sleep(_TIDY_SECONDS)
            if self.admission.items > _TIDY_ITEMS:
                busy = True
            elif busy and self.admission.items < _TIDY_ITEMS // 8:
                busy = False
                await asyncio.to_thread(give_back_freed_memory)

    async def _look(self) -> None:
        """Keep up what the metrics say of all processes."""
        while True:
            await asyncio.to_thread(self._usage.look, self.engine.processes())
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self) -> None:
        """Refuse new calls at once, let those in flight finish within the grace, then stop."""
        self._serving = False
        self._health.set(*_SERVICES, serving=False)
        await self._leave_port()
        self._servicer.stop()
        ends = time.monotonic() + self._settings.shutdown_grace_seconds
        await self._overload.close(self._settings.shutdown_grace_seconds)
        self._background.append(asyncio.create_task(self._end_side_calls()))
        left = max(0.0, ends - time.monotonic())
        await asyncio.gather(self._server.stop(left), self._gateway.stop(left))
        await _bounded(self._page.stop(), "a request to the status page did not end")
        for task in self._background:
            task.cancel()
        # Calls that the grace cut off learn of it from grpc a moment later, and end their work.
        if ending := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(ending, timeout=_ENDING_SECONDS)
        await self.engine.stop()
        if self._tracing is not None:
            await _bounded(asyncio.to_thread(self._tracing.stop), "some traces were not sent")
        self._remove_port_file()

    async def _leave_port(self) -> None:
        """Let callers of a port that is shared go to the other servers, before any is refused:
        they connect again when their connections have their greatest age.
        """
        age = self._settings.age.seconds
        if self._settings.reuse_port:
            await self._gateway.leave()
        if self._settings.reuse_port and age is not None and stop_listening(self._port):
            await self._overload.empty(min(self._settings.shutdown_grace_seconds, AGE_SPREAD * age))

    async def _end_side_calls(self) -> None:
        """End streams of health and reflection once the last call has ended."""
        while self.metrics.calls_in_flight > 0:
            await asyncio.sleep(_CALLS_SECONDS)
        self._side_calls.end()

    def abandon(self) -> None:
        """End without waiting for anything, as far as other processes need it."""
        self._remove_port_file()

    def _remove_port_file(self) -> None:
        if self._settings.port_file is not None:
            with suppress(OSError):
                self._settings.port_file.unlink(missing_ok=True)


def _preloaded(settings: Settings) -> Sequence[Preload]:
    if settings.preload is not None:
        return settings.preload
    available = {info.name for info in hvae_codec.models()}
    return [each for each in USUALLY_PRELOADED if each.name in available]


async def _listening(starting: Awaitable[str], host: str, port: int) -> str:
    """The URL of what starts on an address. Raises StartError where it cannot be had."""
    try:
        return await starting
    except OSError as error:
        raise StartError(cannot_listen(address_of(host, port), error)) from error


async def _bounded(waiting: Awaitable[object], late: str) -> None:
    """Wait, but not for long; `late` is logged where that was not enough."""
    try:
        await asyncio.wait_for(waiting, _ENDING_SECONDS)
    except TimeoutError:
        _logger.warning(late)


async def serve(settings: Settings, metrics: Metrics | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully; a second signal ends the process."""
    app = App(settings, metrics)
    stopping = asyncio.Event()

    def stop(number: int) -> None:
        if stopping.is_set():
            app.abandon()
            os._exit(128 + number)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stop, number)
    try:
        starting = asyncio.create_task(app.start())
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        lines = [f"hvae-codec server listening on {starting.result()}"]
        if app.http_url is not None:
            lines.append(f"hvae-codec HTTP on {app.http_url}v1/")
        if app.page_url is not None:
            lines.append(f"hvae-codec status page on {app.page_url}")
        announce(sys.stdout, lines)
        await stopped
        _logger.info("stopping; calls in flight have %g s", settings.shutdown_grace_seconds)
    finally:
        await app.stop()
        if stopping.is_set():
            leave = threading.Timer(_LEAVING_SECONDS, os._exit, (0,))
            leave.daemon = True
            leave.start()
