"""Whoever only watches a server does not keep it from ending."""

import http.client
import signal
import time
import urllib.parse
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hvae_codec.client import Client
from hvae_codec.v1 import codec_pb2_grpc

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVING = health_pb2.HealthCheckResponse.SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
OWN = ("grpc.use_local_subchannel_pool", 1)


def watch_health(channel):
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())


def ask_reflection(channel, ended):
    def questions():
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        ended.result()

    return reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(questions())


def test_open_streams_do_not_delay_a_stop(start_server):
    """Of health, of reflection and of the codec, none of them with work under way; and a request to
    the status page whose body never comes.
    """
    server = start_server(
        "--shutdown-grace-seconds", "40", "--preload", "mnist", "--metrics-port", "0"
    )
    page = http.client.HTTPConnection(urllib.parse.urlsplit(server.page).netloc, timeout=60)
    page.putrequest("POST", "/evaluate")
    page.putheader("Content-Type", "application/octet-stream")
    page.putheader("Content-Length", "1000")
    page.endheaders(b"only a part")
    with grpc.insecure_channel(server.address) as channel, ExitStack() as over:
        release = Future[None]()
        over.callback(release.set_result, None)
        watch, reflection = watch_health(channel), ask_reflection(channel, release)
        next(watch)
        next(reflection)
        idle = codec_pb2_grpc.CodecServiceStub(channel).StreamEncode(
            release.result() and () for _ in range(1)
        )
        time.sleep(0.5)
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 30  # not the grace
        assert next(watch).status == NOT_SERVING
        for stream in (watch, reflection, idle):
            with pytest.raises(grpc.RpcError) as ended:
                next(stream)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    page.close()
    assert "Traceback" not in server.log


def test_streams_that_watch_last_while_calls_do(start_server, model, smooth_picture):
    """A call in flight has its grace, and whoever watches hears NOT_SERVING at once and the end
    with it.
    """
    server = start_server("--shutdown-grace-seconds", "120", "--preload", "mnist")
    picture = smooth_picture(800, 800)
    with (
        Client(server.address) as client,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        client.encode([picture[:32, :32]], **model)
        watch = watch_health(channel)
        next(watch)
        call = pool.submit(client.encode, [picture], effort=1, timeout=120, **model)
        with pytest.raises(TimeoutError):
            call.result(timeout=0.5)
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as ended:
            next(watch)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(call.result(timeout=120)) == 1
    assert server.process.wait(120) == 0


def test_one_that_does_not_read_keeps_no_other_from_watching_nor_the_server_from_ending(
    start_server,
):
    """Its window of 5 bytes does not even hold the first answer, of 7. Once the server stops, the
    others hear so at once, and its connection is closed.
    """
    server = start_server("--shutdown-grace-seconds", "60", "--preload", "mnist")
    small_window = [OWN, ("grpc.http2.lookahead_bytes", 5), ("grpc.http2.bdp_probe", 0)]
    with (
        grpc.insecure_channel(server.address, small_window) as unread,
        grpc.insecure_channel(server.address, [OWN]) as channel,
    ):
        ignored = [watch_health(unread) for _ in range(3)]
        assert [call.code() for call in ignored if call.done()] == []
        grpc.channel_ready_future(unread).result(60)
        time.sleep(1)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=60
        )
        began = time.monotonic()
        assert next(watch).status == SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        assert time.monotonic() - began < 5
        assert server.process.wait(60) == 0
        assert time.monotonic() - began < 30  # not the grace
    assert "Traceback" not in server.log


def test_health_lists_services_and_names_no_others(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    statuses = stub.List(health_pb2.HealthListRequest(), timeout=60).statuses
    assert {name: each.status for name, each in statuses.items()} == {
        "": SERVING,
        "hvae_codec.v1.CodecService": SERVING,
    }
    unknown = health_pb2.HealthCheckRequest(service="unknown")
    assert next(stub.Watch(unknown, timeout=60)).status == SERVICE_UNKNOWN
    with pytest.raises(grpc.RpcError) as refused:
        stub.Check(unknown, timeout=60)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
