"""The codec for zarr 3, in arrays of the real library."""

import asyncio
import json
import pickle
from importlib.metadata import entry_points

import numpy as np
import pytest
import xarray
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.registry import get_codec_class

import hvae_codec
from hvae_codec.errors import (
    BitstreamError,
    CorruptError,
    HvaeCodecError,
    ImageError,
    UnknownModelError,
    UnknownQualityError,
    WrongModelError,
)
from hvae_codec.stores.zarr import NAME, HvaeCodec
from tests.codec.fully_convolutional.models import waves

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = HvaeCodec("cifar10", quality=3)
PHOTO = HvaeCodec("photo", quality=50)


def create(store, shape, chunks, codec=SMALL, **options):
    options = {"dtype": "uint8", "compressors": None, **options}
    return zarr.create_array(store, shape=shape, chunks=chunks, serializer=codec, **options)


def put(store, key, data):
    store[key] = default_buffer_prototype().buffer.from_bytes(data)


def near(found, expected):
    """Whether pixels agree but for the rounding of networks in other batches."""
    return np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def error_of(found, expected):
    return np.abs(found.astype(int) - expected.astype(int)).mean()


@pytest.fixture
def filled(images):
    """A store of ten images in chunks of four, and its array."""
    store = {}
    array = create(store, images.shape, (4, 32, 32, 3))
    array[:] = images
    return store, array


def test_chunks_are_blocks_of_the_fewest_bytes(filled, images, codec):
    store, array = filled
    assert near(
        array[:], np.concatenate([codec.decode(b)[None] for b in map(codec.encode, images)])
    )
    blocks = [store[f"c/{number}/0/0/0"].to_bytes() for number in range(3)]
    assert blocks[0] == codec.encode_block(images[:4])
    # Padding of the last chunk is not coded.
    assert codec.picture_shape(blocks[2]) == (32, 32, 3, 2)
    assert sum(map(len, blocks)) < sum(map(len, codec.encode_batch(images)))


def test_a_reader_finds_the_codec_by_its_name(filled):
    store, array = filled
    assert get_codec_class(NAME) is HvaeCodec
    (coded,) = json.loads(store["zarr.json"].to_bytes())["codecs"]
    model_id = hvae_codec.load("cifar10", 3).info.model_id
    assert coded == {
        "name": "hvae_codec",
        "configuration": {"model": "cifar10", "quality": 3, "model_id": model_id},
    }
    read = zarr.open_array(store, mode="r")
    np.testing.assert_array_equal(read[3:7, :5], array[:][3:7, :5])


def test_entry_points_name_the_codecs():
    for group in ("zarr.codecs", "numcodecs.codecs"):
        (found,) = [each for each in entry_points(group=group) if each.name == "hvae_codec"]
        assert found.load().__module__.startswith("hvae_codec.stores.")


@pytest.mark.parametrize(
    ("shape", "chunks", "codec"),
    [
        ((32, 32, 3), (32, 32, 3), SMALL),
        ((2, 3, 32, 32, 1), (1, 3, 32, 32, 1), SMALL),
        ((3, 28, 28, 1), (2, 28, 28, 1), HvaeCodec("mnist")),
        ((2, 64, 64, 3), (1, 32, 64, 3), HvaeCodec("cifar10", 2.5, effort=1)),
        ((40, 52, 3), (32, 32, 3), HvaeCodec("cifar10-maps", quality=30)),
    ],
)
def test_shapes_and_models(shape, chunks, codec):
    number, height, width = int(np.prod(shape[:-3])), *shape[-3:-1]
    images = np.stack([waves(height, width, shape[-1], i) for i in range(number)]).reshape(shape)
    array = create({}, shape, chunks, codec)
    array[:] = images
    flat = images.reshape(-1, *shape[-3:])
    direct = codec.open().decode_batch(codec.open().encode_batch(flat)).reshape(shape)
    assert error_of(array[:], images) < error_of(direct, images) + 2
    assert pickle.loads(pickle.dumps(codec)) == codec


@pytest.mark.parametrize(
    ("shape", "chunks", "options", "reason"),
    [
        ((8, 32, 32), (4, 32, 32), {}, r"got uint8 \[8, 32, 32\]"),
        ((8, 3, 32, 32), (4, 3, 32, 32), {}, r"are uint8 \[..., H, W, 3\]"),
        ((8, 32, 32, 4), (4, 32, 32, 4), {}, r"for grey; got"),
        ((8, 32, 32, 3), (4, 32, 32, 3), {"dtype": "float32"}, "got float32"),
        ((8, 32, 32, 3), (4, 32, 32, 3), {"dtype": "int8"}, "got int8"),
        ((32, 3), (32, 3), {}, r"got uint8 \[32, 3\]"),
        ((8, 32, 32, 3), (4, 32, 32, 1), {}, "a chunk has all channels"),
        ((70_000, 8, 3), (70_000, 8, 3), {}, "image of 8x70000 pixels"),
        ((8, 50, 32, 3), (4, 32, 32, 3), {}, "height and width of chunks divide"),
        ((8, 28, 28, 3), (4, 28, 28, 3), {"codec": HvaeCodec("mnist")}, "codes grey images"),
        ((8, 32, 32), (4, 32, 32), {"shards": (8, 32, 32)}, r"got uint8 \[4, 32, 32\]"),
    ],
)
def test_other_arrays_are_refused_when_they_are_created(shape, chunks, options, reason):
    store = {}
    with pytest.raises(ImageError, match=reason):
        create(store, shape, chunks, **options)
    assert store == {}


def test_padding_of_photographs_harms_no_pixel():
    """An edge chunk is coded as the image that it holds, and keeps fill value behind it."""
    photo = np.full((70, 90, 3), 250, np.uint8) - waves(70, 90, 3, 1) // 4
    store = {}
    array = create(store, photo.shape, (64, 64, 3), PHOTO)
    array[:] = photo
    alone = hvae_codec.load("photo", 50)
    corner = alone.decode(alone.encode(photo[64:, 64:]))
    assert near(array[64:, 64:], corner)
    array.resize((128, 128, 3))
    assert near(array[64:70, 64:90], corner)
    assert array[70:].max() == array[:, 90:].max() == 0


@pytest.mark.parametrize("codec", [SMALL, PHOTO])
def test_chunks_that_are_all_fill_value(codec):
    array = create({}, (2, 32, 32, 3), (2, 32, 32, 3), codec, config={"write_empty_chunks": True})
    array[:] = 0
    assert array.nchunks_initialized == 1
    assert array[:].max() < 12
    filled = create({}, (3, 32, 32, 3), (2, 32, 32, 3), codec, fill_value=200)
    filled[0] = waves(32, 32, 3, 0)
    assert (filled[1:] == 200).all()


def test_an_array_that_grows(filled, images):
    _, array = filled
    array.append(images[:3])
    assert array.shape == (13, 32, 32, 3)
    assert error_of(array[10:], images[:3]) < 25


def test_single_images_are_coded_together(images, monkeypatch):
    calls = []
    encode_batch = hvae_codec.Codec.encode_batch
    decode_batch = hvae_codec.Codec.decode_batch

    def counted(method):
        return lambda self, given: calls.append(len(given)) or method(self, given)

    monkeypatch.setattr(hvae_codec.Codec, "encode_batch", counted(encode_batch))
    monkeypatch.setattr(hvae_codec.Codec, "decode_batch", counted(decode_batch))
    with zarr.config.set({"codec_pipeline.batch_size": 16}):
        array = create({}, images.shape, (1, 32, 32, 3))
        array[:] = images
        assert len(array[:]) == 10
    assert calls == [10, 10]


def test_chunks_within_shards(images):
    store = {}
    array = create(store, images.shape, (2, 32, 32, 3), shards=(8, 32, 32, 3))
    array[:] = images
    read = zarr.open_array(store, mode="r")
    assert error_of(read[5:9], images[5:9]) < 25
    assert sorted(store) == ["c/0/0/0/0", "c/1/0/0/0", "zarr.json"]


def test_missing_chunks_stay_none():
    async def both():
        return await SMALL.encode([(None, None)]), await SMALL.decode([(None, None)])

    assert asyncio.run(both()) == ([None], [None])


def flipped(data):
    changed = bytearray(data)
    changed[-1] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (flipped, CorruptError, "check sum"),
        (lambda data: data[:-3], BitstreamError, "truncated"),
        (lambda data: b"", BitstreamError, "not a .hvae file"),
        (lambda data: b"\x89PNG\r\n\x1a\n" + data, BitstreamError, "not a .hvae file"),
    ],
)
def test_damaged_chunks(filled, change, error, reason):
    store, array = filled
    put(store, "c/1/0/0/0", change(store["c/1/0/0/0"].to_bytes()))
    with pytest.raises(error, match=f"zarr codec 'hvae_codec', model 'cifar10', .*{reason}"):
        array[:]
    assert array[:4].shape == (4, 32, 32, 3)


def test_sizes_are_checked_before_anything_is_decoded(filled, codec, images, monkeypatch):
    store, array = filled
    monkeypatch.setattr(hvae_codec.Codec, "decode_block", None)
    monkeypatch.setattr(hvae_codec.Codec, "decode_batch", None)
    others = (
        codec.encode_block(np.zeros((5, 32, 32, 3), np.uint8)),
        codec.encode(np.zeros((33, 32, 3), np.uint8)),
        codec.encode(np.zeros((16, 32, 3), np.uint8)),
        codec.encode(np.zeros((32, 32, 1), np.uint8)),
    )
    for other in others:
        put(store, "c/1/0/0/0", other)
        with pytest.raises(CorruptError, match=r"not those of a chunk \[4, 32, 32, 3\]"):
            array[4:8]
    put(store, "c/1/0/0/0", hvae_codec.load("cifar10", 2).encode(images[0]))
    with pytest.raises(WrongModelError, match="zarr codec 'hvae_codec', model 'cifar10'"):
        array[4:8]


def test_a_chunk_that_cannot_be_coded_is_not_written():
    store = {}
    array = create(store, (2, 32, 32, 3), (1, 32, 32, 3), HvaeCodec("cifar10", 3, effort=9))
    with pytest.raises(ValueError, match="effort"):
        array[:] = 7
    assert list(store) == ["zarr.json"]


def test_other_weights_and_settings(filled):
    store, _ = filled
    metadata = store["zarr.json"].to_bytes()
    own = hvae_codec.load("cifar10", 3).info.model_id.encode()
    for old, new, error, reason in (
        (own, b"00c0ffee", WrongModelError, "id '00c0ffee'; the one available here is"),
        (b'"cifar10"', b'"absent"', UnknownModelError, "'absent'; available: "),
        (b'"quality": 3', b'"quality": 77', UnknownQualityError, "no quality 77"),
        (b'"quality": 3', b'"depth": 3', HvaeCodecError, "unknown: depth"),
        (b'"model": "cifar10",', b"", HvaeCodecError, "model is missing"),
    ):
        put(store, "zarr.json", metadata.replace(old, new))
        with pytest.raises(error, match=reason):
            zarr.open_array(store, mode="r")


def test_arguments():
    assert HvaeCodec("photo").quality == hvae_codec.load("photo").quality
    assert HvaeCodec("cifar10").quality == hvae_codec.load("cifar10").quality
    assert HvaeCodec("photo", np.float32(12.5)).settings["quality"] == 12.5
    for wrong in ({"model": "none"}, {"model": "photo", "quality": 101}, {"model": 3}):
        with pytest.raises((UnknownModelError, UnknownQualityError)):
            HvaeCodec(**wrong)
    with pytest.raises(HvaeCodecError, match="effort must be a whole number"):
        HvaeCodec("cifar10", 3, effort="much")


def test_arrays_are_sent_to_workers(tmp_path, images):
    array = create(tmp_path / "a.zarr", images.shape, (4, 32, 32, 3))
    array[:] = images
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[:], array[:])


def test_xarray(tmp_path, images):
    dataset = xarray.Dataset(
        {"image": (("n", "y", "x", "channel"), images), "label": ("n", np.arange(10))}
    )
    coding = {"serializer": SMALL, "compressors": None, "chunks": (4, 32, 32, 3)}
    options = {"zarr_format": 3, "consolidated": False}
    dataset.to_zarr(tmp_path / "a.zarr", encoding={"image": coding}, **options)
    read = xarray.open_zarr(tmp_path / "a.zarr", chunks=None, consolidated=False)
    assert read["image"].dtype == np.uint8
    assert error_of(read["image"].values, images) < 25
    assert read["image"].encoding["serializer"] == SMALL
    assert read["image"].isel(n=slice(3, 6)).shape == (3, 32, 32, 3)
    with pytest.raises(ImageError, match="chunks of images are uint8"):
        dataset.astype("float32").to_zarr(
            tmp_path / "b.zarr", encoding={"image": coding}, **options
        )
