"""What the contract gained, by both clients, from the codec's own server: as in this process."""

import math
from decimal import Decimal

import numpy as np
import pytest

import hvae_codec
from hvae_codec.client import RemoteLimits
from hvae_codec.errors import (
    NotAnHvaeFileError,
    RateError,
    UnknownModelError,
    UnknownQualityError,
)
from hvae_codec.evaluation.metrics.psnr import psnr_db

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = {"model": "cifar10", "quality": 3}


def assert_close(found, expected):
    """Equal but for the last bits of floats, which depend on how many go through a network."""
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10", quality=3)


@pytest.fixture(scope="module")
def tiles():
    """12 pictures of slow waves, uint8 [12, 32, 32, 3]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:32, 0:32] / 32
    waves = [np.sin(a * y + b * x + c) for a, b, c in rng.uniform(-4, 4, (36, 3))]
    return (127.5 + 100 * np.stack(waves, -1).reshape(32, 32, 12, 3)).astype(np.uint8).swapaxes(
        0, 2
    ).copy()  # fmt: skip


@pytest.fixture(scope="module")
def blobs(codec, tiles):
    return codec.encode_batch(tiles)


def test_models_and_limits(ask, real):
    every = ask(real, "models")
    assert ask(real, "model", "cifar10", 3) == next(
        model for model in every if (model.name, model.quality) == ("cifar10", 3)
    )
    assert ask(real, "model", "photo").continuous
    limits = ask(real, "limits")
    assert isinstance(limits, RemoteLimits)
    assert min(limits) > 0
    with pytest.raises(UnknownModelError, match="nobody"):
        ask(real, "model", "nobody", 1)
    with pytest.raises(UnknownQualityError, match="77"):
        ask(real, "model", "cifar10", 77)


def test_streams_give_what_calls_give(ask, real, codec, tiles, blobs):
    assert ask(real, "encode_stream", tiles, **MODEL) == blobs
    np.testing.assert_array_equal(ask(real, "decode_stream", blobs), codec.decode_batch(blobs))
    previews = np.array([codec.preview(blob) for blob in blobs], np.int16)
    assert np.abs(previews - ask(real, "preview_stream", blobs)).max() <= 1
    rows = ask(real, "features_stream", tiles, **MODEL)
    assert_close([row.mean for row in rows], codec.features(tiles).mean)
    mixed = ask(real, "features_stream", [tiles[0], blobs[1]], **MODEL)
    expected = [codec.features(tiles[:1]).std[0], codec.features_from_bytes(blobs[1:2]).std[0]]
    assert_close([row.std for row in mixed], expected)


@pytest.mark.parametrize("method", ["decode", "decode_stream"])
def test_files_are_taken_in_any_buffer(ask, real, codec, blobs, method, tmp_path):
    (tmp_path / "x.hvae").write_bytes(blobs[3])
    array = np.frombuffer(blobs[1], np.uint8)
    given = [bytearray(blobs[0]), array, memoryview(blobs[2]), tmp_path / "x.hvae"]
    np.testing.assert_array_equal(ask(real, method, given), codec.decode_batch(blobs[:4]))
    with pytest.raises(NotAnHvaeFileError, match="an encoded image must be"):
        ask(real, method, [blobs[0], 7])


def test_qualities_are_numbers_of_any_kind(ask, real, codec, tiles):
    for quality in (np.int64(3), np.float32(3), Decimal(3)):
        found = ask(real, "encode", tiles[:2], model="cifar10", quality=quality)
        assert found == codec.encode_batch(tiles[:2])
    with pytest.raises(UnknownQualityError, match="a quality is a number; got str '3'"):
        ask(real, "encode", tiles[:2], model="cifar10", quality="3")


@pytest.mark.parametrize("method", ["decode", "decode_stream"])
def test_items_fail_alone(ask, real, codec, blobs, method):
    found = ask(real, method, [blobs[0], b"nothing", blobs[1]], on_error="return")
    assert isinstance(found[1], NotAnHvaeFileError)
    assert str(found[1]).startswith("encoded[1]: not a .hvae file")
    np.testing.assert_array_equal([found[0], found[2]], codec.decode_batch(blobs[:2]))
    with pytest.raises(NotAnHvaeFileError, match=r"^encoded\[1\]: "):
        ask(real, method, [blobs[0], b"nothing", blobs[1]])


def test_features_of_other_layers_moments_and_types(ask, real, codec, tiles, blobs):
    expected = codec.features(tiles)
    half = ask(real, "features", tiles, dtype="float16", **MODEL)
    assert half.mean.dtype == half.std.dtype == np.float16
    np.testing.assert_allclose(half.mean, expected.mean, rtol=1e-3, atol=1e-4)
    mean = ask(real, "features", tiles, std=False, **MODEL)
    assert_close(mean.mean, expected.mean)
    assert mean.std.shape == (12, 0)
    lowest = ask(real, "features", tiles, layer=1, **MODEL)
    assert lowest.mean.shape == (12, codec.info.z_dims[-1])
    top = ask(real, "features_from_bytes", blobs, layer=2)
    assert_close(top.mean, codec.features_from_bytes(blobs).mean)
    rows = ask(real, "features", [tiles[0], b"no picture"], on_error="return", **MODEL)
    assert_close(rows[0].mean, expected.mean[0])
    assert isinstance(rows[1], Exception)


@pytest.mark.parametrize("wrong", [{"layer": 0}, {"dtype": "float64"}])
def test_features_that_there_are_not(ask, real, tiles, wrong):
    with pytest.raises(ValueError, match="must be"):
        ask(real, "features", tiles, **MODEL, **wrong)


def test_sizes_and_qualities_as_targets(ask, real, tiles):
    options = {"model": "cifar10"}
    (sized,) = ask(real, "encode", tiles[:1], target_bytes=60, **options)
    assert abs(len(sized) - 60) <= 2
    (within,) = ask(real, "encode", tiles[:1], max_bytes=40, **options)
    assert len(within) <= 40
    (good,) = ask(real, "encode", tiles[:1], target_psnr=28.0, **options)
    (picture,) = ask(real, "decode", [good])
    assert psnr_db(tiles[0], picture) >= 28.0
    found = ask(real, "encode", tiles[:1], target_bytes=3, on_error="return", **options)
    assert isinstance(found[0], RateError)


def test_qualities_between_rungs_and_effort(ask, real, tiles):
    between = hvae_codec.load("cifar10", quality=2.5)
    assert ask(real, "encode", tiles[:2], model="cifar10", quality=2.5) == [
        between.encode(tile) for tile in tiles[:2]
    ]
    searched = hvae_codec.load("cifar10", quality=3, effort=1)
    assert ask(real, "encode", tiles[:2], effort=1, **MODEL) == searched.encode_batch(tiles[:2])


def test_samples_given_the_top_layer(ask, real, codec, tiles, blobs):
    latents = codec.features(tiles[:1]).mean[0]
    given = ask(real, "sample", 3, seed=5, given=latents, **MODEL)
    assert given.shape == (3, 32, 32, 3)
    of_picture = ask(real, "sample", 3, seed=5, given=tiles[0], **MODEL)
    of_file = ask(real, "sample", 3, seed=5, given=blobs[0], **MODEL)
    assert of_picture.shape == of_file.shape == given.shape
    assert (given != ask(real, "sample", 3, seed=5, **MODEL)).any()
    line = ask(real, "sample", 5, seed=5, temperature=0.0, between=(tiles[0], blobs[1]), **MODEL)
    ends = [
        ask(real, "sample", 1, seed=5, temperature=0.0, given=end, **MODEL)[0]
        for end in (tiles[0], blobs[1])
    ]
    np.testing.assert_array_equal(line[[0, 4]], ends)
    with pytest.raises(ValueError, match="exclude"):
        ask(real, "sample", 1, given=tiles[0], between=(tiles[0], tiles[1]), **MODEL)


def test_evaluation(ask, real, codec, tiles, blobs):
    found = ask(real, "evaluate", tiles[0], **MODEL)
    assert found.encoded == blobs[0]
    assert 0 < found.payload_bytes < len(blobs[0])
    np.testing.assert_array_equal(found.decoded, codec.decode(blobs[0]))
    assert math.isclose(found.psnr_db, psnr_db(tiles[0], found.decoded), rel_tol=1e-6)
    assert len(found.rates_nats) == len(codec.info.z_dims)
    assert (found.model.name, found.model.quality) == ("cifar10", 3)
