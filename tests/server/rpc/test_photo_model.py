"""Photographs whole, at any quality, over gRPC: as the codec in this process has them."""

import re

import grpc
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

import hvae_codec
from hvae_codec.client import Client, ServiceError
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.quality_scale import HIGHEST, LOWEST, quality_number
from hvae_codec.errors import ImageError, TruncatedError, UnknownQualityError
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

pytestmark = pytest.mark.usefixtures("one_thread")

CHINA = load_sample_image("china.jpg")
PHOTOGRAPHS = [CHINA[:90, :160], CHINA[200:290, 300:460], CHINA[100:165, :71, :1]]


@pytest.fixture(scope="module")
def photo():
    return hvae_codec.load("photo")


@pytest.fixture(scope="module")
def blobs(client):
    return client.encode(PHOTOGRAPHS, model="photo")


def assert_within_a_level(found, expected):
    """Equal but for the last bits of floats, which another number of threads changes."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).max() <= 1


def test_photographs_of_several_sizes_and_qualities(client, photo, blobs):
    assert blobs == photo.encode_batch(PHOTOGRAPHS)
    low, high = (client.encode(PHOTOGRAPHS, model="photo", quality=q) for q in (2, 97))
    for small, blob, large in zip(low, blobs, high, strict=True):
        assert len(small) < len(blob) < len(large)
        numbers = [parse(file).header.quality for file in (small, blob, large)]
        assert numbers == [quality_number(q) for q in (2, photo.info.quality, 97)]
    files = [*low, *blobs, *high]  # of several qualities in one call
    assert_within_a_level(client.decode(files), photo.decode_batch(files))


def test_previews_and_features(client, photo, blobs):
    assert_within_a_level(client.preview(blobs), [photo.preview(blob) for blob in blobs])
    begun = [blob[: len(blob) // 2] for blob in blobs]
    for found, expected in [
        (
            client.features(PHOTOGRAPHS, model="photo", quality=20),
            photo.at_quality(20).features(PHOTOGRAPHS),
        ),
        (client.features_from_bytes(begun), photo.features_from_bytes(blobs)),
    ]:
        assert found.mean.shape == (3, photo.info.z_dims[0])
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-4)
        np.testing.assert_allclose(found.std, expected.std, rtol=1e-5)
    with pytest.raises(TruncatedError, match=r"encoded\[0\]"):
        client.decode(begun)


def test_samples_have_the_size_of_training(client, photo):
    found = client.sample(2, model="photo", quality=30, seed=4)
    assert found.shape == (2, *photo.info.image_shape[1:], 3)
    assert_within_a_level(found, photo.at_quality(30).sample(2, seed=4))


def test_the_description_says_that_quality_is_continuous(channel, client):
    listed = codec_pb2_grpc.CodecServiceStub(channel).ListModels(codec_pb2.ListModelsRequest())
    (photo,) = [model for model in listed.models if model.name == "photo"]
    assert photo.continuous_quality
    assert photo.arithmetic == "float"
    assert LOWEST <= photo.quality <= HIGHEST
    continuous = [model.name for model in listed.models if model.continuous_quality]
    assert continuous == ["cifar10-maps", "photo"]
    assert [model.name for model in client.models() if model.continuous] == continuous


@pytest.mark.parametrize("quality", [0, 101, 4_000_000_000])
def test_qualities_that_there_are_not(client, quality):
    allowed = re.escape(f"{LOWEST:g}..{HIGHEST:g}, not {quality}")
    for call in (
        lambda: client.encode(PHOTOGRAPHS, model="photo", quality=quality),
        lambda: client.features(PHOTOGRAPHS, model="photo", quality=quality),
        lambda: client.sample(1, model="photo", quality=quality),
    ):
        with pytest.raises(UnknownQualityError, match=allowed):
            call()


def test_a_photograph_of_ordinary_size_fits_the_default_limits(client, photo):
    picture = np.ascontiguousarray(np.pad(CHINA, ((0, 85), (0, 128), (0, 0)), "reflect"))
    assert picture.shape == (512, 768, 3)
    (blob,) = client.encode([picture], model="photo", quality=10)
    for transfer in ("raw", "png"):
        (decoded,) = client.decode([blob], transfer=transfer)
        assert decoded.shape == picture.shape
    error = np.mean((decoded.astype(float) - picture) ** 2)
    assert error < picture.astype(float).var()  # it is that picture


def test_limits_hold_for_one_call_and_bad_pictures_are_named(start_server, client, photo, blobs):
    """Three pictures of 14,400 pixels or fewer, two of which no call may carry."""
    server = start_server("--max-pixels", "20000")
    selector = codec_pb2.ModelSelector(name="photo")
    sources = [codec_pb2.FeatureSource(encoded=blob) for blob in blobs]
    with grpc.insecure_channel(server.address) as channel, Client(server.address) as limited:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        for method, request in [
            (stub.Decode, codec_pb2.DecodeRequest(encoded=blobs)),
            (stub.ExtractFeatures, codec_pb2.ExtractFeaturesRequest(sources=sources)),
            (stub.Sample, codec_pb2.SampleRequest(model=selector, count=2)),  # of 128x128 each
        ]:
            with pytest.raises(grpc.RpcError, match="this server allows 20,000") as refused:
                method(request)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert limited.encode(PHOTOGRAPHS, model="photo") == blobs  # in several calls
        assert_within_a_level(limited.decode(blobs), photo.decode_batch(blobs))
        assert limited.features_from_bytes(blobs).mean.shape == (3, photo.info.z_dims[0])
        with pytest.raises(ServiceError, match="this server allows 20,000") as too_large:
            limited.encode([PHOTOGRAPHS[0], CHINA], model="photo")
        assert str(too_large.value).startswith("images[1]: ")
        assert too_large.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(ImageError, match=r"images\[1\]"):
        client.encode([PHOTOGRAPHS[0], b"no picture"], model="photo")
