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
