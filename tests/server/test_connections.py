"""Connections to several servers: they are spread, grow old, and leave before calls are refused."""

import asyncio
import signal
import socket
import threading
import time
from collections import Counter

import grpc
import pytest

from hvae_codec.client import Client
from hvae_codec.server.app import App
from hvae_codec.server.grpc_options import ConnectionAge, server_options, shared_age
from hvae_codec.server.listening import stop_listening
from hvae_codec.server.settings import EngineSettings, Preload, Settings
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.scraping import Scrape
from tests.waiting import wait_until

SECONDS = 60
REQUEST = codec_pb2.ListModelsRequest()


def free_port():
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


def calls_of(server):
    return Scrape(server)("hvae_requests_total", code="OK")


@pytest.fixture
def on_port(start_server):
    """Starts servers that share one port; the address is that of all."""
    port = str(free_port())
    flags = ("--reuse-port", "--coding-processes", "1", "--preload", "mnist", "--metrics-port", "0")

    def start(*more):
        return start_server("--port", port, *flags, *more)

    return start


def test_old_connections_move_to_a_server_that_is_added(on_port):
    """With an age of two seconds sixteen callers reach the second server in a few of them; the
    chance that all keep hitting the first is 1 in 65,536 at each.
    """
    first = on_port("--max-connection-age", "2")
    channels = [grpc.insecure_channel(first.address, [("number", n)]) for n in range(16)]
    stubs = [codec_pb2_grpc.CodecServiceStub(channel) for channel in channels]
    for stub in stubs:
        stub.ListModels(REQUEST, timeout=SECONDS)
    second = on_port("--max-connection-age", "2")
    ends = time.monotonic() + 60
    while calls_of(second) == 0:
        assert time.monotonic() < ends
        for stub in stubs:  # and none of their calls fails
            stub.ListModels(REQUEST, timeout=SECONDS)
    for channel in channels:
        channel.close()


def test_a_restart_behind_a_shared_port_refuses_nobody(on_port):
    """Plain callers that call all the time, while one of two servers is stopped: all get answers,
    in time for its grace, and the other one has all that come after.
    """
    age = ("--max-connection-age", "1", "--shutdown-grace-seconds", "20")
    first, second = on_port(*age), on_port(*age)
    over = threading.Event()
    found, lock = Counter(), threading.Lock()

    def caller(number):
        with grpc.insecure_channel(first.address, [("number", number)]) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            while not over.is_set():
                try:
                    stub.ListModels(REQUEST, timeout=SECONDS)
                    outcome = "OK"
                except grpc.RpcError as error:
                    outcome = f"{error.code()} {error.details()}"
                with lock:
                    found[outcome] += 1

    callers = [threading.Thread(target=caller, args=(n,)) for n in range(8)]
    for each in callers:
        each.start()
    wait_until(lambda: min(calls_of(first), calls_of(second)) > 0)
    began = time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(timeout=SECONDS) == 0
    assert time.monotonic() - began < 15
    before = calls_of(second)
    wait_until(lambda: calls_of(second) > before)
    over.set()
    for each in callers:
        each.join()
    assert set(found) == {"OK"}
    assert "Traceback" not in first.log


@pytest.mark.parametrize(("shares", "listens"), [(True, False), (False, True)])
def test_a_port_that_is_shared_is_joined_once_the_models_are_there(shares, listens, monkeypatch):
    """The other servers can answer meanwhile; a port of its own is the server's from the start."""
    port, seen = free_port(), []

    def load(name, quality=None):
        with socket.socket() as tried:
            seen.append(tried.connect_ex(("127.0.0.1", port)) == 0)

    monkeypatch.setattr("hvae_codec.codec.registry.load", load)
    engine = EngineSettings(network_threads=1, coding_processes=0)
    settings = Settings(port=port, reuse_port=shares, engine=engine, preload=(Preload("mnist"),))

    async def main():
        app = App(settings)
        try:
            assert await app.start() == f"127.0.0.1:{port}"
            with socket.create_connection(("127.0.0.1", port), 10):
                pass
        finally:
            await app.stop()

    asyncio.run(main())
    assert seen == [listens]


@pytest.mark.parametrize(
    ("grace", "age"), [(100, 10), (11.5, 10), (10, 8.6957), (4.6, 4), (1.15, 1), (0, 1)]
)
def test_connections_to_a_shared_port_end_within_the_grace(grace, age):
    """A tenth older than that, at most, and a little: age * 1.15 = grace, of 1 to 10 seconds."""
    assert shared_age(grace) == pytest.approx(age, abs=1e-4)


def test_a_client_spreads_over_all_addresses_or_takes_the_first(start_server):
    port = free_port()
    flags = ("--port", str(port), "--coding-processes", "1", "--preload", "mnist")
    hosts = ("127.0.0.1", "127.0.0.2")
    servers = [start_server(*flags, "--host", host, "--metrics-port", "0") for host in hosts]
    target = "ipv4:" + ",".join(f"{host}:{port}" for host in hosts)
    with Client(target) as client:
        for _ in range(20):
            client.models()
    spread = [calls_of(server) for server in servers]
    assert sum(spread) == 20
    assert min(spread) >= 5  # of turns, once both are connected
    with Client(target, balancing="pick_first") as client:
        for _ in range(20):
            client.models()
    assert sorted(calls_of(server) - had for server, had in zip(servers, spread, strict=True)) == [
        0,
        20,
    ]
    with pytest.raises(ValueError, match="'round_robin' or 'pick_first', got 'random'"):
        Client(target, balancing="random")


def test_ages_are_grpcs_options():
    options = dict(server_options(1000, age=ConnectionAge(2.5, 30)))
    assert options["grpc.max_connection_age_ms"] == 2500
    assert options["grpc.max_connection_age_grace_ms"] == 30_000
    assert "grpc.max_connection_age_ms" not in dict(server_options(1000))
    with pytest.raises(ValueError, match="1 to 1,000,000 seconds, got 0"):
        ConnectionAge(0)


def test_a_port_is_left_and_its_connections_stay():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as there, listening.accept()[0] as here:
            assert stop_listening(port)
            assert not stop_listening(port)
            there.sendall(b"still")
            assert here.recv(5) == b"still"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
