"""The service on Ray Serve, in a real cluster: the tests of the plain server's calls, and more."""

import socket

import grpc
import numpy as np
import psutil
import pytest
import yaml

from hvae_codec.client import Client
from hvae_codec.errors import ImageError, UnknownModelError
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.scale.test_deploy import DEPLOY

# The plain server's own tests; here their `client` is connected to Ray.
from tests.server.rpc.test_methods import (  # noqa: F401
    test_files_of_many_models_in_one_call,
    test_grey_pictures_stay_grey,
    test_many_pictures_in_one_call,
    test_pictures_of_mixed_sizes_keep_their_order,
)
from tests.server.token_tables import token_table

TOKEN = "a-token-of-at-least-thirty-two-letters"
CONFIG = yaml.safe_load((DEPLOY / "ray_serve.yaml").read_text())


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def address(cluster, tmp_path_factory):
    """Where Ray's gRPC proxy listens; the application takes calls of one token."""
    from ray import serve

    from hvae_codec.server.ray_serve import Arguments, build

    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(token_table("tester", TOKEN))
    tokens.chmod(0o600)
    port = free_port()
    grpc_options = CONFIG["grpc_options"] | {"port": port}
    http_options = {"host": "127.0.0.1", "port": free_port()}
    serve.start("HeadOnly", http_options, grpc_options=grpc_options)
    application = build(Arguments(coding_processes=0, token_file=str(tokens)))
    serve.run(application, name="hvae-codec", route_prefix="/")
    yield f"127.0.0.1:{port}"
    serve.shutdown()


@pytest.fixture(scope="module")
def client(address):
    with Client(address, token=TOKEN) as connected:
        yield connected


@pytest.fixture(scope="module")
def channel(address):
    with grpc.insecure_channel(address) as connected:
        yield connected


def test_the_config_file_is_one():
    from ray.serve.schema import ServeDeploySchema

    from hvae_codec.server.ray_serve import Arguments, build

    schema = ServeDeploySchema.model_validate(CONFIG)
    (application,) = schema.applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    arguments = Arguments.model_validate(application.args)
    assert build(arguments)._bound_deployment.name == application.deployments[0].name


def test_models_features_samples_and_evaluation(client, codec, model, tiles):
    assert {info.name for info in client.models()} >= {"cifar10", "photo"}
    found = client.features(tiles[:3], **model)
    assert abs(found.mean - codec.features(tiles[:3]).mean).max() < 1e-4
    (drawn,) = client.sample(1, seed=3, **model)
    assert (drawn == codec.sample(1, seed=3)[0]).all()
    assert client.evaluate(tiles[0], **model).encoded == codec.encode(tiles[0])


def test_streams(client, channel, codec, model, tiles):
    files = list(client.encode_stream(tiles, **model))
    assert files == codec.encode_batch(tiles)
    pictures = list(client.decode_stream(files))
    np.testing.assert_array_equal(pictures, codec.decode_batch(files))
    found = np.stack([each.mean for each in client.features_stream(files, **model)])
    np.testing.assert_allclose(found, codec.features_from_bytes(files).mean, atol=1e-5)
    stub = codec_pb2_grpc.CodecServiceStub(channel)
    selector = codec_pb2.ModelSelector(name=model["model"], quality=model["quality"])
    raw = codec_pb2.IMAGE_FORMAT_RAW
    messages = [
        codec_pb2.StreamSampleRequest(
            request=codec_pb2.SampleRequest(model=selector, count=2, seed=seed, format=raw)
        )
        for seed in (3, 4)
    ]
    token = (("authorization", f"Bearer {TOKEN}"),)
    answers = stub.StreamSample(iter(messages), timeout=120, metadata=token)
    drawn = [
        np.frombuffer(result.image.raw.data, np.uint8)
        for answer in answers
        for result in answer.response.results
    ]
    expected = np.concatenate([codec.sample(2, seed=seed) for seed in (3, 4)])
    np.testing.assert_array_equal(drawn, expected.reshape(4, -1))


def test_errors_have_their_status_and_its_details(client, tiles):
    with pytest.raises(UnknownModelError):
        client.encode(tiles[:1], model="nobody")
    with pytest.raises(ImageError):
        client.encode([b"no picture"], model="cifar10")


def test_a_call_without_a_token_is_refused(channel):
    stub = codec_pb2_grpc.CodecServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListModels(codec_pb2.ListModelsRequest())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "grpc-status-details-bin" in dict(caught.value.trailing_metadata())


def test_a_killed_replica_is_replaced_while_its_caller_tries_again(client, codec, model, tiles):
    replicas = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeReplica")
    ]
    assert len(replicas) == 1
    replicas[0].kill()
    assert client.encode(tiles, timeout=120, **model) == codec.encode_batch(tiles)
