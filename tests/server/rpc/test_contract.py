"""Every field of the contract against the codec in this process."""

import grpc
import numpy as np
import pytest

import hvae_codec
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.errors import HvaeCodecError, RateError
from hvae_codec.v1 import codec_pb2
from tests.server.messages import raw_image

RAW = codec_pb2.IMAGE_FORMAT_RAW
SECONDS = 60


def samples(message):
    raw = message.raw
    return np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width, raw.channels)


def encode(stub, picture, **fields):
    request = codec_pb2.EncodeRequest(images=[raw_image(picture)], **fields)
    (result,) = stub.Encode(request, timeout=SECONDS).results
    return result


def code_of(call, *args):
    with pytest.raises(grpc.RpcError) as ended:
        call(*args, timeout=SECONDS)
    return ended.value.code(), ended.value.details()


def test_a_quality_between_two(stub, codec, tiles):
    found = encode(stub, tiles[0], model={"name": "cifar10", "fine_quality": 2.5})
    assert found.encoded == hvae_codec.load("cifar10", 2.5).encode(tiles[0])
    whole = encode(stub, tiles[0], model={"name": "cifar10", "fine_quality": 3.0})
    assert whole.encoded == encode(stub, tiles[0], model={"name": "cifar10", "quality": 3}).encoded


def test_efforts(stub, codec, tiles, selector):
    plain, searched = (encode(stub, tiles[1], model=selector, effort=e).encoded for e in (0, 1))
    assert plain == codec.encode(tiles[1])
    assert searched == codec.encode(tiles[1], effort=1)
    assert len(searched) < len(plain)


def test_targets(stub, codec, tiles):
    """As `hvae_codec.encode` on one thread, by the same search."""
    found = encode(stub, tiles[2], model={"name": "cifar10", "target_bytes": 60}).encoded
    assert abs(len(found) - 60) <= 2
    assert found == hvae_codec.encode(tiles[2], "cifar10", target_bytes=60)
    found = encode(stub, tiles[2], model={"name": "cifar10", "target_psnr": 26.0}).encoded
    error = hvae_codec.decode(found).astype(float) - tiles[2]
    assert 10 * np.log10(255**2 / np.square(error).mean()) >= 26.0
    found = encode(stub, tiles[2], model={"name": "cifar10"}, max_bytes=50).encoded
    assert len(found) <= 50
    impossible = encode(stub, tiles[2], model={"name": "cifar10", "target_psnr": 90.0}).status
    assert impossible.code == grpc.StatusCode.OUT_OF_RANGE.value[0]
    assert impossible.reason == "RATE"
    with pytest.raises(RateError):
        hvae_codec.encode(tiles[2], "cifar10", target_psnr=90.0)


def test_auto_takes_the_model_that_suits_the_size(stub, smooth_picture):
    pictures = [smooth_picture(32, 32), smooth_picture(96, 128)]
    request = codec_pb2.EncodeRequest(model={"name": "auto"}, images=map(raw_image, pictures))
    small, large = stub.Encode(request, timeout=SECONDS).results
    names = [hvae_codec.codec_for(r.encoded).info.name for r in (small, large)]
    assert names == ["cifar10", "photo"]


def test_features_of_auto_are_those_of_the_model_of_each_size(stub, client, smooth_picture):
    pictures = [smooth_picture(32, 32), smooth_picture(96, 128)]
    file = hvae_codec.load("cifar10", 2).encode(pictures[0])
    sources = [*({"image": raw_image(picture)} for picture in pictures), {"encoded": file}]
    request = codec_pb2.ExtractFeaturesRequest(model={"name": "auto"}, sources=sources)
    found = [result.mean for result in stub.ExtractFeatures(request, timeout=SECONDS).results]
    expected = [
        hvae_codec.load(name).features([picture]).mean[0]
        for name, picture in zip(("cifar10", "photo"), pictures, strict=True)
    ]
    expected.append(hvae_codec.load("cifar10", 2).features_from_bytes([file]).mean[0])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    features = client.features(pictures[1:], model="auto")
    np.testing.assert_allclose(features.mean[0], expected[1], atol=1e-4)
    with pytest.raises(HvaeCodecError, match="of several models; name one"):
        client.features(pictures, model="auto")
    request.model.target_bytes = 60
    with pytest.raises(grpc.RpcError, match="target_bytes is for Encode and Evaluate only"):
        stub.ExtractFeatures(request, timeout=SECONDS)


def test_one_bad_item_does_not_fail_its_neighbours(stub, codec, selector, tiles):
    wrong = raw_image(tiles[1])
    wrong.raw.width = 31
    images = [
        raw_image(tiles[0]),
        wrong,
        codec_pb2.Image(),
        codec_pb2.Image(file=b"no"),
        raw_image(tiles[2]),
    ]
    request = codec_pb2.EncodeRequest(model=selector, images=images)
    results = stub.Encode(request, timeout=SECONDS).results
    assert [r.status.code for r in results] == [0, 3, 3, 3, 0]
    assert [r.encoded for r in results[::4]] == codec.encode_batch(tiles[[0, 2]])
    assert results[1].status.message.startswith("images[1]: a raw image of height 32, width 31")
    assert results[1].status.reason == "IMAGE"
    files = [results[0].encoded, results[4].encoded[:-3], b"", results[4].encoded]
    request = codec_pb2.DecodeRequest(encoded=files, format=RAW)
    decoded = stub.Decode(request, timeout=SECONDS).results
    assert [r.status.code for r in decoded] == [0, 15, 3, 0]
    np.testing.assert_array_equal(samples(decoded[3].image), codec.decode(files[3]))
    sources = [codec_pb2.FeatureSource(encoded=file) for file in files]
    sources[1:2] = [codec_pb2.FeatureSource(), codec_pb2.FeatureSource(image=raw_image(tiles[0]))]
    request = codec_pb2.ExtractFeaturesRequest(model=selector, sources=sources)
    features = stub.ExtractFeatures(request, timeout=SECONDS).results
    assert [r.status.code for r in features] == [0, 3, 0, 3, 0]
    assert len(features[2].mean) == 32


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_features_of_any_layer_in_every_form(stub, codec, selector, tiles, layer):
    files = codec.encode_batch(tiles[:3])
    index = {0: 0, 2: 0, 1: 1}[layer]
    pictures = codec.layer_features(tiles[:3])[index]
    coded = codec.layer_features_from_bytes(files)[index]
    for expected, sources in (
        (pictures, [codec_pb2.FeatureSource(image=raw_image(tile)) for tile in tiles[:3]]),
        (coded, [codec_pb2.FeatureSource(encoded=file) for file in files]),
    ):
        for encoding, dtype, tolerance in (
            (codec_pb2.FEATURE_ENCODING_FLOATS, None, 1e-6),
            (codec_pb2.FEATURE_ENCODING_FLOAT32, "<f4", 1e-6),
            (codec_pb2.FEATURE_ENCODING_FLOAT16, "<f2", 2e-3),
        ):
            request = codec_pb2.ExtractFeaturesRequest(
                model=selector, sources=sources, layer=layer, encoding=encoding
            )
            results = stub.ExtractFeatures(request, timeout=SECONDS).results
            for row, found in enumerate(results):
                mean = found.mean if dtype is None else np.frombuffer(found.mean_bytes, dtype)
                std = found.std if dtype is None else np.frombuffer(found.std_bytes, dtype)
                np.testing.assert_allclose(mean, expected.mean[row], rtol=tolerance, atol=tolerance)
                np.testing.assert_allclose(std, expected.std[row], rtol=tolerance, atol=tolerance)
    request.moments = codec_pb2.FEATURE_MOMENTS_MEAN
    (found, *_) = stub.ExtractFeatures(request, timeout=SECONDS).results
    assert len(found.mean_bytes) == 2 * codec.info.z_dims[index]
    assert not found.std_bytes


def test_samples_below_given_latents(stub, codec, selector, tiles):
    features = codec.features(tiles[:2])
    file = codec.encode(tiles[1])
    coded = codec.features_from_bytes(file).mean[0]

    def drawn(count, **given):
        request = codec_pb2.SampleRequest(
            model=selector, count=count, seed=5, temperature=0.5, format=RAW, given=given
        )
        results = stub.Sample(request, timeout=SECONDS).results
        return np.stack([samples(result.image) for result in results])

    def expected(count, top):
        return codec.sample(count, 5, 0.5, top=top)

    first, second = features.mean
    np.testing.assert_array_equal(drawn(3, values={"values": first.tolist()}), expected(3, first))
    source = codec_pb2.FeatureSource(image=raw_image(tiles[0]))
    np.testing.assert_array_equal(drawn(2, source=source), expected(2, first))
    end = codec_pb2.FeatureSource(encoded=file)
    way = np.linspace(first, coded, 5)
    np.testing.assert_array_equal(
        drawn(5, between={"first": source, "last": end}), expected(5, way)
    )
    assert (expected(3, first) != codec.sample(3, 5, 0.5)).any()
    # What the top layer says is seen: at temperature 0 the mode is near the picture it came from.
    near = codec.sample(1, 0, 0.0, top=second)[0].astype(float)
    errors = [np.abs(near - tile).mean() for tile in tiles[:2]]
    assert errors[1] < errors[0]


def test_what_is_known_of_a_model(stub, codec, selector):
    found = stub.GetModel(codec_pb2.GetModelRequest(model=selector), timeout=SECONDS)
    listed = stub.ListModels(codec_pb2.ListModelsRequest(), timeout=SECONDS)
    assert found.model in listed.models
    assert found.model.model_id == codec.info.model_id
    assert found.limits == listed.limits
    assert found.limits.items == 4096
    assert found.limits.message_bytes == 4 * 1024 * 1024
    assert len(listed.models) == len(hvae_codec.models())


@pytest.mark.parametrize("name", ["cifar10", "photo"])
def test_evaluation_of_one_picture(stub, smooth_picture, name):
    codec = hvae_codec.load(name)
    picture = smooth_picture(*codec.info.image_shape[1:])
    request = codec_pb2.EvaluateRequest(model={"name": name}, image=raw_image(picture), format=RAW)
    found = stub.Evaluate(request, timeout=SECONDS)
    assert found.encoded == codec.encode(picture)
    decoded = samples(found.decoded)
    assert np.abs(decoded.astype(int) - codec.decode(found.encoded)).max() <= 1
    assert found.payload_bytes == len(found.encoded) - parse(found.encoded).payload_at
    nats = np.log(2) * codec.information_bits([picture])[0]
    np.testing.assert_allclose(found.rates_nats, nats, rtol=1e-6)
    # The rates are the payload: within what a range coder adds.
    assert abs(sum(found.rates_nats) / np.log(2) / 8 - found.payload_bytes) < 3
    error = np.square(decoded.astype(float) - picture).mean()
    assert found.psnr_db == pytest.approx(10 * np.log10(255**2 / error))
    assert found.model.name == name


def test_requests_that_are_wrong_as_a_whole(stub, selector, tiles):
    one = [raw_image(tiles[0])]
    target = codec_pb2.ModelSelector(name="cifar10", target_bytes=50)
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    source = codec_pb2.FeatureSource(image=one[0])
    for call, request, message in (
        (stub.Encode, codec_pb2.EncodeRequest(images=one), "the name is missing"),
        (stub.Encode, codec_pb2.EncodeRequest(model=selector, images=one, effort=3), "0 to 2"),
        (
            stub.Encode,
            codec_pb2.EncodeRequest(model=selector, images=one, max_bytes=9),
            "by itself",
        ),
        (stub.Encode, codec_pb2.EncodeRequest(model=target, images=one, effort=0), "1 or 2"),
        (
            stub.Encode,
            codec_pb2.EncodeRequest(model={"name": "cifar10", "target_psnr": -1}, images=one),
            "above 0",
        ),
        (
            stub.Encode,
            codec_pb2.EncodeRequest(model={"name": "photo"}, images=one, effort=1),
            "no effort",
        ),
        (
            stub.ExtractFeatures,
            codec_pb2.ExtractFeaturesRequest(model=target, sources=[source]),
            "for Encode and Evaluate",
        ),
        (
            stub.ExtractFeatures,
            codec_pb2.ExtractFeaturesRequest(model=selector, sources=[source], layer=3),
            "z1 to z2, not z3",
        ),
        (
            stub.ExtractFeatures,
            codec_pb2.ExtractFeaturesRequest(model=selector, sources=[source], encoding=9),
            "unknown value 9",
        ),
        (
            stub.Sample,
            codec_pb2.SampleRequest(
                model=selector, count=1, given={"values": {"values": [0.0] * 31}}
            ),
            r"[31]",
        ),
        (
            stub.Sample,
            codec_pb2.SampleRequest(
                model=selector, count=1, given={"between": {"first": source, "last": source}}
            ),
            "2 images or more",
        ),
        (
            stub.Sample,
            codec_pb2.SampleRequest(model={"name": "photo"}, count=1, given={"source": source}),
            "maps as its top layer",
        ),
        (stub.Sample, codec_pb2.SampleRequest(model=selector, count=1, given={}), "empty"),
    ):
        code, details = code_of(call, request)
        assert code is invalid, details
        assert message in details
    selector.quality = 99
    code, _ = code_of(stub.GetModel, codec_pb2.GetModelRequest(model=selector))
    assert code is grpc.StatusCode.NOT_FOUND
