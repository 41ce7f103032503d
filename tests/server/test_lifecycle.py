"""Starting, being watched, being stopped."""

import io
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

import hvae_codec
import hvae_codec.server
from hvae_codec.client import Client, ServiceError
from hvae_codec.errors import UnknownModelError
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.messages import raw_image
from tests.server.scraping import scraped_when

SERVICES = ["hvae_codec.v1.CodecService", "grpc.health.v1.Health"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", ["", "hvae_codec.v1.CodecService"])
def test_health(channel, service):
    request = health_pb2.HealthCheckRequest(service=service)
    assert health_pb2_grpc.HealthStub(channel).Check(request).status == SERVING


def test_reflection_lists_and_describes_the_services(channel):
    def ask(**request):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        questions = [reflection_pb2.ServerReflectionRequest(**request)]
        return next(iter(stub.ServerReflectionInfo(iter(questions))))

    listed = [each.name for each in ask(list_services="").list_services_response.service]
    assert set(SERVICES) <= set(listed)
    found = ask(file_containing_symbol=SERVICES[0]).file_descriptor_response
    file = descriptor_pb2.FileDescriptorProto.FromString(found.file_descriptor_proto[0])
    assert file.name == "hvae_codec/v1/codec.proto"
    assert [method.name for method in file.service[0].method] == [
        *("Encode", "Decode", "ExtractFeatures", "Sample", "ListModels", "GetModel", "Evaluate"),
        *("StreamEncode", "StreamDecode", "StreamExtractFeatures", "StreamSample"),
    ]


def test_a_deadline_that_passes_leaves_the_server_well(client, model, smooth_picture, tiles):
    large = smooth_picture(1_100, 1_100)
    for _ in range(3):
        with pytest.raises(ServiceError, match=r"no answer from .* within 0\.05 s") as raised:
            client.encode([large], timeout=0.05, **model)
        assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(client.encode(tiles[:2], **model)) == 2


def test_sigterm_lets_calls_in_flight_finish(start_server, codec, model, smooth_picture):
    """Eight calls are under way; all are answered, new ones are refused, and the exit code is 0."""
    flags = ("--shutdown-grace-seconds", "60", "--metrics-port", "0")
    server = start_server(*flags, fresh=True)
    pictures = [smooth_picture(1_000, 1_000, seed=seed) for seed in range(8)]
    with Client(server.address) as client, ThreadPoolExecutor(8) as pool:
        client.encode(pictures[0][None, :32, :32], **model)
        health = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]))
        assert next(watch).status == SERVING
        calls = [pool.submit(client.encode, [picture], **model) for picture in pictures]
        labels = {"method": "Encode"}

        def taken(scrape):
            under_way = scrape("hvae_calls_in_flight", **labels)
            return under_way + scrape("hvae_requests_total", **labels) == 1 + len(calls)

        scraped_when(server, taken)
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(server.page + "healthz", timeout=30)
        assert not all(call.done() for call in calls)
        with Client(server.address) as late, pytest.raises(ServiceError) as raised:
            late.models()
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE
        blobs = [call.result()[0] for call in calls]
    assert blobs == [codec.encode(picture) for picture in pictures]
    assert server.process.wait(timeout=120) == 0
    assert not server.port_file.exists()
    assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def large_file():
    """A small file of a picture that takes seconds to encode."""
    file = io.BytesIO()
    Image.new("RGB", (2_900, 2_900)).save(file, "JPEG")
    return file.getvalue()


def test_the_grace_ends(start_server, model, tiles, large_file):
    """With no grace a call in flight is given up, and the server still exits with 0."""
    server = start_server("--shutdown-grace-seconds", "0")
    with Client(server.address) as client, ThreadPoolExecutor(1) as pool:
        client.encode(tiles[:1], **model)
        call = pool.submit(client.encode, [large_file], **model)
        with pytest.raises(TimeoutError):
            call.result(timeout=0.1)
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 30
        with pytest.raises(ServiceError):
            call.result()
    assert "Traceback" not in server.log


def test_a_second_signal_ends_at_once(start_server, model, large_file):
    """Whatever is under way, and with all processes of the server."""
    server = start_server("--shutdown-grace-seconds", "60", fresh=True)
    children = psutil.Process(server.process.pid).children()
    assert children
    with (
        Client(server.address) as client,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        call = pool.submit(client.encode, [large_file], **model, effort=2)
        with pytest.raises(TimeoutError):
            call.result(timeout=0.5)
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING  # it has seen the first signal
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.5)
        began = time.monotonic()
        assert server.terminate() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 30  # not the grace
        with pytest.raises(ServiceError):
            call.result()
    assert not server.port_file.exists()
    _, left = psutil.wait_procs(children, timeout=60)
    assert not left


def test_limits_can_be_set(start_server, rung):
    server = start_server(
        "--max-items", "3", "--max-pixels", "3000", "--max-message-bytes", "100000"
    )
    selector = codec_pb2.ModelSelector(name=rung.name, quality=rung.quality)
    with grpc.insecure_channel(server.address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        for count, side, words in [(4, 8, "allows 3;"), (3, 32, "allows 3,000 ")]:
            raw = codec_pb2.RawImage(height=side, width=side, channels=3, data=bytes(3 * side**2))
            images = [codec_pb2.Image(raw=raw)] * count
            with pytest.raises(grpc.RpcError) as raised:
                stub.Encode(codec_pb2.EncodeRequest(model=selector, images=images), timeout=30)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert words in raised.value.details()
        with pytest.raises(grpc.RpcError, match="larger than max"):
            stub.Decode(codec_pb2.DecodeRequest(encoded=[bytes(100_001)]), timeout=30)


def test_models_are_those_of_the_directory(start_server, tmp_path):
    """No other can be named, and what is usually loaded before serving need not be there."""
    shipped = Path(hvae_codec.__file__).parent / "checkpoints"
    for suffix in ("json", "safetensors"):
        shutil.copy(shipped / f"mnist-q1.{suffix}", tmp_path)
    server = start_server("--models", str(tmp_path))
    picture = np.zeros((1, 32, 32, 3), np.uint8)
    with Client(server.address) as client:
        assert [(each.name, each.quality) for each in client.models()] == [("mnist", 1)]
        for name in ("cifar10", str(shipped / "mnist-q1"), "../mnist-q1"):
            with pytest.raises(UnknownModelError):
                client.encode(picture, model=name)


def test_a_server_is_up_soon_and_small_and_says_where_it_listens(start_server):
    """In processor seconds, which other programs on the machine change less; a page that several
    processes share, as all of torch, is in memory once.
    """
    server = start_server(fresh=True)
    process = psutil.Process(server.process.pid)
    used = sum(process.cpu_times()[:2])
    whole = [process, *process.children(recursive=True)]
    memory = sum(each.memory_full_info().pss for each in whole)
    assert used < 6
    assert memory < 1.2 * 2**30
    assert "cifar10 loaded" in server.log
    assert "photo loaded" in server.log
    assert server.terminate(signal.SIGINT) == 0
    output = server.process.stdout.read()
    assert output == f"hvae-codec server listening on {server.address}\n"


def test_a_port_that_is_taken(server, capsys):
    port = server.address.rpartition(":")[2]
    assert hvae_codec.server.main(["--port", port]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        rf"hvae-codec server: cannot listen on 127.0.0.1:{port}: .+\n", captured.err
    )


def test_servers_that_share_a_port(start_server, selector, tiles, capsys):
    """One event loop bears so many calls; two servers on a port bear those of two."""
    servers = [start_server("--reuse-port")]
    port = servers[0].address.rpartition(":")[2]
    assert hvae_codec.server.main(["--port", port]) == 1  # not without the flag
    assert "cannot listen" in capsys.readouterr().err
    servers.append(start_server("--reuse-port", "--port", port))
    assert servers[1].address == servers[0].address
    request = codec_pb2.EncodeRequest(model=selector, images=[raw_image(tiles[0])])

    def call(_):
        alone = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
        with grpc.insecure_channel(servers[0].address, options=alone) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            return stub.Encode(request, timeout=30).results[0].encoded

    assert len({call(number) for number in range(32)}) == 1
    assert servers[0].terminate() == 0
    counts = [each.log.count("method=Encode code=OK") for each in servers]
    assert sum(counts) == 32
    assert min(counts) > 0
    assert len({call(number) for number in range(8)}) == 1  # by the other one


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "65536"],
        ["--max-items", "0"],
        ["--shutdown-grace-seconds", "-1"],
        ["--shutdown-grace-seconds", "nan"],
    ],
)
def test_flags_out_of_range(flags, capsys):
    with pytest.raises(SystemExit) as raised:
        hvae_codec.server.main(flags)
    assert raised.value.code == 2
    assert flags[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--preload", "none"], 1, "unknown model 'none'; available: cifar10"),
        (["--preload", "cifar10@77"], 1, "has no quality 77"),
        (["--preload", "cifar10@"], 2, "MODEL or MODEL@QUALITY, got 'cifar10@'"),
        (["--preload", "@3"], 2, "MODEL or MODEL@QUALITY"),
        (["--preload", "photo@-1"], 2, "MODEL or MODEL@QUALITY"),
        (["--models", "no/such/folder"], 2, "no/such/folder is not a directory"),
    ],
)
def test_models_that_are_not_there_end_the_start(flags, code, words, capsys):
    try:
        found = hvae_codec.server.main(["--port", "0", *flags])
    except SystemExit as error:
        found = error.code
    assert found == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("none", "unknown model 'none'"), ("cifar10@77", "no quality 77"), ("photo@101", "1..100")],
)
def test_models_to_be_warm_are_looked_for_before_any_is_loaded(wanted, words, capsys):
    flags = ["--port", "0", "--preload", "mnist", "--preload", wanted]
    assert hvae_codec.server.main(flags) == 1
    heard = capsys.readouterr().err
    assert words in heard
    assert "loaded" not in heard


def test_more_pixels_than_any_picture_has(capsys):
    assert hvae_codec.server.main(["--max-pixels", "100000001"]) == 2
    assert "100,000,000" in capsys.readouterr().err
