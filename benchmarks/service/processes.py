"""The processes of the service's benchmark: servers, what they take, and clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.service.load_client import Plan, plan_text

START_SECONDS = 120.0
MIB = 1024.0 * 1024.0


@dataclass(frozen=True)
class Usage:
    """What a process and its children have taken.

    cpu_seconds: of all that live. rss_mib: their resident memory, shared pages counted for each.
    pss_mib: the same, a shared page counted once.
    """

    cpu_seconds: float
    rss_mib: float
    pss_mib: float


@dataclass(frozen=True)
class Server:
    """A running server, and how long it took until it served."""

    address: str
    process: psutil.Process
    start_seconds: float

    def usage(self, *, memory: bool = True) -> Usage:
        """CPU and memory of its processes by now."""
        cpu = rss = pss = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                times = process.cpu_times()
                cpu += times.user + times.system
                if memory:
                    full = process.memory_full_info()
                    rss += full.rss / MIB
                    pss += getattr(full, "pss", full.rss) / MIB
            except psutil.NoSuchProcess:
                continue
        return Usage(cpu, rss, pss)


@contextmanager
def codec_server(flags: Sequence[str] = (), cpus: Sequence[int] | None = None) -> Iterator[Server]:
    """The service itself, on these CPUs (None: any); it serves once its health says so."""
    command = [sys.executable, "-m", "hvae_codec.server", "--port", "0", *flags]
    with started(command, "--port-file", cpus) as (process, address, began):
        with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="hvae_codec.v1.CodecService")
            while not _serving(health, request):
                if time.perf_counter() - began > START_SECONDS:
                    raise TimeoutError(f"no answer SERVING in {START_SECONDS:g} s")
                time.sleep(0.01)
        yield Server(address, psutil.Process(process.pid), time.perf_counter() - began)


def _serving(health: Any, request: Any) -> bool:
    try:
        status = health.Check(request, timeout=5.0).status
    except grpc.RpcError:
        return False
    return bool(status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def echo_server() -> Iterator[Server]:
    """The peer that moves the same bytes."""
    command = [sys.executable, "-m", "benchmarks.service.echo_server"]
    with started(command, exit_code=-signal.SIGTERM) as (process, address, began):
        yield Server(address, psutil.Process(process.pid), time.perf_counter() - began)


@contextmanager
def started(
    command: list[str],
    port_flag: str | None = None,
    cpus: Sequence[int] | None = None,
    log: Path | None = None,
    exit_code: int = 0,
) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """A server process, its address and when it was started; it ends with the context.

    port_flag: before the file that takes its port. cpus: it computes on these, by default on as
    many as it takes by itself. log: takes what it writes.
    exit_code: what it ends with after SIGTERM.

    Raises:
        RuntimeError: it does not come up, or ends with another exit code.
    """
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        log = log or Path(folder) / "log"
        words = [*command, *([port_flag] if port_flag else []), str(port_file)]
        began = time.perf_counter()
        with log.open("wb") as errors:
            environment = None if cpus is None else _environment(len(cpus))
            process = subprocess.Popen(words, stdout=errors, stderr=errors, env=environment)
        if cpus is not None:  # before it has threads or children, which would keep all CPUs
            psutil.Process(process.pid).cpu_affinity(list(cpus))
        try:
            while not port_file.exists():
                if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                    raise RuntimeError(f"{words[2]} did not start:\n{log.read_text()}")
                time.sleep(0.005)
            yield process, f"127.0.0.1:{port_file.read_text().strip()}", began
        finally:
            process.terminate()
            try:
                process.wait(timeout=30.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.returncode != exit_code:
            raise RuntimeError(f"{words[2]} ended with {process.returncode}:\n{log.read_text()}")


def _environment(threads: int) -> dict[str, str]:
    """Of a server that computes with so many threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}


class Client:
    """A client process at work."""

    def __init__(self, plan: Plan) -> None:
        command = [sys.executable, "-m", "benchmarks.service.load_client"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(plan_text(plan))
        self._process.stdin.close()

    def running(self) -> bool:
        """Whether it is still at work."""
        return self._process.poll() is None

    def result(self) -> dict[str, Any]:
        """What it measured, once it has ended."""
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if self._process.wait(timeout=60.0) != 0:
            raise RuntimeError("a client process failed")
        found: dict[str, Any] = json.loads(text)
        return found


def load(plan: Plan, *servers: Server) -> dict[str, Any]:
    """What a client measured, with the CPU seconds that the servers' processes took meanwhile."""

    def used() -> float:
        return sum(server.usage(memory=False).cpu_seconds for server in servers)

    before = used()
    found = Client(plan).result()
    # The seconds before the measurement count as well: for those, too, the server worked.
    share = found["seconds"] / (found["seconds"] + plan.warm)
    found["server_cpu_seconds"] = (used() - before) * share
    return found
