"""Starting, being watched, being stopped."""

import io
import re
import signal
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

import hvae_codec.server
from hvae_codec.client import Client, ServiceError

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
        "Encode",
        "Decode",
        "ExtractFeatures",
        "Sample",
        "ListModels",
    ]


def test_a_deadline_that_passes_leaves_the_server_well(client, model, smooth_picture, tiles):
    large = smooth_picture(1_100, 1_100)
    for _ in range(3):
        with pytest.raises(ServiceError, match=r"no answer from .* within 0\.05 s") as raised:
            client.encode([large], timeout=0.05, **model)
        assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(client.encode(tiles[:2], **model)) == 2


def test_sigterm_lets_calls_in_flight_finish(start_server, codec, model, smooth_picture):
    """Four calls are under way; all are answered, new ones are refused, and the exit code is 0."""
    server = start_server("--grace", "60")
    pictures = [smooth_picture(1_000, 1_000, seed=seed) for seed in range(4)]
    with Client(server.address) as client, ThreadPoolExecutor(4) as pool:
        client.encode(pictures[0][None, :32, :32], **model)
        health = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]))
        assert next(watch).status == SERVING
        calls = [pool.submit(client.encode, [picture], **model) for picture in pictures]
        wait(calls, return_when=FIRST_COMPLETED)
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        assert not all(call.done() for call in calls)
        with Client(server.address) as late, pytest.raises(ServiceError) as raised:
            late.models()
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE
        blobs = [call.result()[0] for call in calls]
    assert blobs == [codec.encode(picture) for picture in pictures]
    assert server.process.wait(timeout=30) == 0
    assert not server.port_file.exists()
    assert "Traceback" not in server.log


def test_the_grace_ends(start_server, model, tiles):
    """With no grace a call in flight is given up, and the server still exits with 0."""
    server = start_server("--grace", "0")
    file = io.BytesIO()
    Image.new("RGB", (2_900, 2_900)).save(file, "JPEG")
    with Client(server.address) as client, ThreadPoolExecutor(1) as pool:
        client.encode(tiles[:1], **model)
        call = pool.submit(client.encode, [file.getvalue()], **model)
        with pytest.raises(TimeoutError):
            call.result(timeout=0.1)
        assert server.terminate() == 0
        with pytest.raises(ServiceError):
            call.result()
    assert "Traceback" not in server.log


def test_one_line_says_where_it_listens(start_server):
    server = start_server()
    assert server.terminate(signal.SIGINT) == 0
    output = server.process.stdout.read()
    assert output == f"hvae-codec server listening on {server.address}\n"


def test_limits_can_be_set(start_server, model):
    server = start_server(
        "--max-items", "3", "--max-pixels", "3000", "--max-message-bytes", "100000"
    )
    with Client(server.address) as client:
        for pictures, limit in [((4, 8, 8, 3), "3"), ((3, 32, 32, 3), "3,000")]:
            with pytest.raises(ServiceError, match=f"allows {limit}") as raised:
                client.encode(np.zeros(pictures, np.uint8), **model)
            assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(ServiceError, match="larger than max"):
            client.decode([bytes(100_001)])


def test_a_port_that_is_taken(server, capsys):
    port = server.address.rpartition(":")[2]
    assert hvae_codec.server.main(["--port", port]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        rf"hvae-codec server: cannot listen on 127.0.0.1:{port}: .+\n", captured.err
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_open_address_is_refused_unless_it_is_asked_for(host, capsys):
    assert hvae_codec.server.main(["--host", host]) == 2
    assert "--insecure" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--port", "65536"], ["--max-items", "0"], ["--grace", "-1"], ["--grace", "nan"]]
)
def test_flags_out_of_range(flags, capsys):
    with pytest.raises(SystemExit) as raised:
        hvae_codec.server.main(flags)
    assert raised.value.code == 2
    assert flags[0] in capsys.readouterr().err


def test_more_pixels_than_any_picture_has(capsys):
    assert hvae_codec.server.main(["--max-pixels", "100000001"]) == 2
    assert "100,000,000" in capsys.readouterr().err
