"""Every call over loopback gives what the codec in this process gives, byte for byte."""

import asyncio
import io

import grpc
import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.client import AsyncClient
from hvae_codec.codec.images.load import decode_image_bytes
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

MIXED_SIZES = [(32, 32), (1, 1), (33, 31), (64, 96), (5, 200), (32, 32)]


def image_file(array, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def assert_same_pictures(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)


def test_many_pictures_in_one_call(client, codec, model, tiles):
    blobs = client.encode(tiles, **model)
    assert blobs == codec.encode_batch(tiles)
    assert_same_pictures(client.decode(blobs), codec.decode_batch(blobs))


def test_pictures_of_mixed_sizes_keep_their_order(client, codec, model, smooth_picture):
    pictures = [smooth_picture(*size, seed=n) for n, size in enumerate(MIXED_SIZES)]
    blobs = client.encode(pictures, **model)
    assert blobs == codec.encode_batch(pictures)
    decoded = client.decode(blobs)
    assert [picture.shape[:2] for picture in decoded] == MIXED_SIZES
    assert_same_pictures(decoded, list(codec.decode_batch(blobs)))


def test_files_of_many_models_in_one_call(client, codec, other_rung, tiles, smooth_picture):
    other = hvae_codec.load(other_rung.name, quality=other_rung.quality)
    channels, height, width = other_rung.image_shape
    pictures = [smooth_picture(height, width, channels, seed) for seed in range(3)]
    blobs, other_blobs = codec.encode_batch(tiles[:3]), other.encode_batch(pictures)
    decoded = client.decode([b for pair in zip(blobs, other_blobs, strict=True) for b in pair])
    assert_same_pictures(decoded[0::2], codec.decode_batch(blobs))
    assert_same_pictures(decoded[1::2], other.decode_batch(other_blobs))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {"quality": 90}), ("WEBP", {"lossless": True}), ("WEBP", {})],
)
def test_picture_files_are_decoded_by_the_server(
    client, codec, model, smooth_picture, kind, options, tmp_path
):
    file = image_file(smooth_picture(48, 40), kind, **options)
    path = tmp_path / "picture"
    path.write_bytes(file)
    expected = codec.encode(decode_image_bytes(file))
    assert client.encode([file], **model) == [expected]
    assert client.encode([path], **model) == [expected]


def test_grey_pictures_stay_grey(client, codec, model, smooth_picture):
    grey = smooth_picture(40, 40, channels=1)
    [blob] = client.encode([grey], **model)
    assert blob == codec.encode(grey)
    assert_same_pictures(client.decode([blob]), [codec.decode(blob)])
    assert client.decode([blob])[0].shape == (40, 40, 1)


@pytest.mark.parametrize("call", ["decode", "preview"])
def test_png_and_raw_answers_hold_the_same_picture(client, codec, tiles, call):
    blobs = codec.encode_batch(tiles[:4])
    raw = getattr(client, call)(blobs, transfer="raw")
    assert_same_pictures(getattr(client, call)(blobs, transfer="png"), raw)


def test_png_is_the_format_unless_another_is_asked_for(channel, codec, tiles):
    stub = codec_pb2_grpc.CodecServiceStub(channel)
    blob = codec.encode(tiles[0])
    [result] = stub.Decode(codec_pb2.DecodeRequest(encoded=[blob])).results
    assert result.image.file.startswith(b"\x89PNG\r\n\x1a\n")
    np.testing.assert_array_equal(decode_image_bytes(result.image.file), codec.decode(blob))


def test_preview(client, codec, tiles):
    blobs = codec.encode_batch(tiles[:5])
    assert_same_pictures(client.preview(blobs), [codec.preview(blob) for blob in blobs])
    assert any((one != two).any() for one, two in zip(client.preview(blobs), tiles, strict=False))


def test_features_of_pictures_and_of_bytes(client, codec, model, tiles):
    blobs = codec.encode_batch(tiles)
    for found, expected in [
        (client.features(tiles, **model), codec.features(tiles)),
        (client.features_from_bytes(blobs), codec.features_from_bytes(blobs)),
    ]:
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.std, expected.std)
        assert found.mean.dtype == found.std.dtype == np.float32
        assert found.mean.shape == (len(tiles), codec.info.z_dims[0])


def test_features_of_pictures_and_bytes_mixed_in_one_call(channel, codec, rung, tiles):
    blob = codec.encode(tiles[1])
    raw = codec_pb2.RawImage(height=32, width=32, channels=3, data=tiles[0].tobytes())
    request = codec_pb2.ExtractFeaturesRequest(
        model=codec_pb2.ModelSelector(name=rung.name, quality=rung.quality),
        sources=[
            codec_pb2.FeatureSource(encoded=blob),
            codec_pb2.FeatureSource(image=codec_pb2.Image(raw=raw)),
        ],
    )
    first, second = codec_pb2_grpc.CodecServiceStub(channel).ExtractFeatures(request).results
    np.testing.assert_array_equal(np.float32(first.mean), codec.features_from_bytes([blob]).mean[0])
    np.testing.assert_array_equal(np.float32(second.mean), codec.features(tiles[:1]).mean[0])


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_sample(client, codec, model, temperature):
    found = client.sample(6, seed=11, temperature=temperature, **model)
    np.testing.assert_array_equal(found, codec.sample(6, seed=11, temperature=temperature))


def test_samples_depend_on_the_seed_alone(client, model):
    first, again = (client.sample(3, seed=5, **model) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != client.sample(3, seed=6, **model)).any()


def test_models_are_those_of_the_package(client):
    for found, expected in zip(client.models(), hvae_codec.models(), strict=True):
        assert found == tuple(getattr(expected, field) for field in found._fields)


def test_calls_at_the_same_time_get_their_own_answers(client, codec, model, tiles):
    async def encode_all(address):
        async with AsyncClient(address) as async_client:
            calls = [async_client.encode(tiles[n : n + 1], **model) for n in range(20)]
            return [blob for blobs in await asyncio.gather(*calls) for blob in blobs]

    assert asyncio.run(encode_all(client.target)) == [codec.encode(tile) for tile in tiles[:20]]


def test_async_client_has_the_same_face(client, model, tiles):
    async def calls(address):
        async with AsyncClient(address) as async_client:
            blobs = await async_client.encode(tiles[:3], **model)
            return [
                await async_client.models(),
                await async_client.decode(blobs),
                await async_client.preview(blobs),
                (await async_client.features(tiles[:3], **model)).mean,
                (await async_client.features_from_bytes(blobs)).std,
                await async_client.sample(2, seed=1, **model),
            ]

    found = asyncio.run(calls(client.target))
    blobs = client.encode(tiles[:3], **model)
    assert found[0] == client.models()
    assert_same_pictures(found[1], client.decode(blobs))
    assert_same_pictures(found[2], client.preview(blobs))
    np.testing.assert_array_equal(found[3], client.features(tiles[:3], **model).mean)
    np.testing.assert_array_equal(found[4], client.features_from_bytes(blobs).std)
    np.testing.assert_array_equal(found[5], client.sample(2, seed=1, **model))


def test_async_client_raises_the_same_errors(client, model):
    async def call(address):
        async with AsyncClient(address) as async_client:
            await async_client.decode([b"not a file"])

    with pytest.raises(hvae_codec.errors.NotAnHvaeFileError, match=r"encoded\[0\]"):
        asyncio.run(call(client.target))


def test_a_stranger_with_the_proto_alone_can_call(channel, tiles):
    """A client that knows only method names and wire bytes: ListModels takes no fields."""
    listing = channel.unary_unary("/hvae_codec.v1.CodecService/ListModels")(b"")
    assert codec_pb2.ListModelsResponse.FromString(listing).models
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/hvae_codec.v1.CodecService/Transcode")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
