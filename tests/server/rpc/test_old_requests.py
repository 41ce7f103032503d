"""Clients built before the contract grew still get right answers, over their own bytes."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import hvae_codec
from hvae_codec.codec.images.load import decode_image_bytes

CONTENT = json.loads(Path(__file__).with_name("requests_v1.json").read_text())
GOLDEN = Path(__file__).parents[2] / "golden" / "cifar10-q3-61a0e1a1-tile.hvae"


@pytest.fixture(scope="module")
def old():
    """From the name of a message to its class, as generated from the contract of then."""
    pool = descriptor_pool.DescriptorPool()
    contract = base64.b64decode(CONTENT["contract"])
    for file in descriptor_pb2.FileDescriptorSet.FromString(contract).file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"hvae_codec.v1.{name}")
    )


@pytest.fixture
def ask(channel, old):
    """Sends the golden bytes of a call's request; the answer as its clients of then read it."""

    def call(method):
        send = channel.unary_unary(f"/hvae_codec.v1.CodecService/{method}")
        answer = send(bytes.fromhex(CONTENT["requests"][method]), timeout=60)
        return old(f"{method}Response").FromString(answer)

    return call


@pytest.fixture
def picture(old):
    """The picture in the requests."""
    request = old("EncodeRequest").FromString(bytes.fromhex(CONTENT["requests"]["Encode"]))
    raw = request.images[0].raw
    return np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width, raw.channels)


def test_encode(ask, codec, picture):
    assert [result.encoded for result in ask("Encode").results] == [codec.encode(picture)]


def test_decode(ask, codec):
    (result,) = ask("Decode").results
    raw = result.image.raw
    found = np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width, raw.channels)
    np.testing.assert_array_equal(found, codec.decode(GOLDEN.read_bytes()))


def test_features_come_as_floats_with_both_moments(ask, codec, picture):
    first, second = ask("ExtractFeatures").results
    for result, expected in [
        (first, codec.features([picture])),
        (second, codec.features_from_bytes([GOLDEN.read_bytes()])),
    ]:
        np.testing.assert_array_equal(np.float32(result.mean), expected.mean[0])
        np.testing.assert_array_equal(np.float32(result.std), expected.std[0])


def test_sample(ask, codec):
    found = [decode_image_bytes(result.image.file) for result in ask("Sample").results]
    np.testing.assert_array_equal(found, codec.sample(2, seed=7, temperature=0.5))


def test_list_models(ask):
    listed = ask("ListModels").models
    expected = [(info.name, info.quality, info.model_id) for info in hvae_codec.models()]
    assert [(model.name, model.quality, model.model_id) for model in listed] == expected


def test_every_call_of_then_has_its_request():
    contract = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(CONTENT["contract"]))
    (service,) = contract.file[0].service
    assert set(CONTENT["requests"]) == {method.name for method in service.method}
