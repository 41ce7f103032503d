"""The codec for numcodecs, by itself and in arrays of zarr's version 2 format."""

import json
import pickle

import numcodecs
import numpy as np
import pytest
import zarr

import hvae_codec
from hvae_codec.errors import CorruptError, HvaeCodecError, ImageError, WrongModelError
from hvae_codec.stores.numcodecs import HvaeNumcodec

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def chunk_codec():
    return HvaeNumcodec("cifar10", quality=3)


def test_configuration(chunk_codec):
    model_id = hvae_codec.load("cifar10", 3).info.model_id
    config = {"id": "hvae_codec", "model": "cifar10", "quality": 3, "model_id": model_id}
    assert chunk_codec.get_config() == json.loads(json.dumps(config)) == config
    assert numcodecs.get_codec(config) == chunk_codec == pickle.loads(pickle.dumps(chunk_codec))
    assert repr(chunk_codec) == f"HvaeNumcodec(model='cifar10', quality=3, model_id='{model_id}')"
    with pytest.raises(WrongModelError, match="the one available here is"):
        numcodecs.get_codec({**config, "model_id": "00c0ffee"})
    with pytest.raises(HvaeCodecError, match="unknown: depth"):
        numcodecs.get_codec({**config, "depth": 2})


def test_chunks(chunk_codec, codec, images):
    block = chunk_codec.encode(images)
    assert block == codec.encode_block(images)
    np.testing.assert_array_equal(chunk_codec.decode(block), codec.decode_block(block))
    file = chunk_codec.encode(images[:1])
    assert file == codec.encode(images[0]) == chunk_codec.encode(images[0])
    out = np.zeros((1, 32, 32, 3), np.uint8)
    assert chunk_codec.decode(bytearray(file), out) is out
    np.testing.assert_array_equal(out[0], codec.decode(file))


def test_what_is_no_chunk(chunk_codec, codec, images):
    for wrong, reason in (
        (images.astype(float), "got float64"),
        (images[..., 0], "are uint8"),
        (images.tobytes(), "got bytes, which has no shape"),
        (np.asfortranarray(images), "chunks are in C order"),
    ):
        with pytest.raises(ImageError, match=f"numcodecs codec 'hvae_codec', .*{reason}"):
            chunk_codec.encode(wrong)
    block = chunk_codec.encode(images)
    out = np.zeros(images.nbytes - 3, np.uint8)
    with pytest.raises(CorruptError, match=r"10 images \[32, 32, 3\], 30720 bytes; .* has 30717"):
        chunk_codec.decode(block, out)
    with pytest.raises(CorruptError, match="numcodecs codec 'hvae_codec', model 'cifar10'"):
        chunk_codec.decode(block[:-1] + bytes([block[-1] ^ 1]))


def test_arrays_of_zarr_2(chunk_codec, images):
    store = {}
    options = {"shape": images.shape, "chunks": (4, 32, 32, 3), "dtype": "uint8", "zarr_format": 2}
    array = zarr.create_array(store, compressors=chunk_codec, **options)
    array[:] = images
    read = zarr.open_array(store, mode="r")
    assert read.compressors == (chunk_codec,)
    assert np.abs(read[3:9].astype(int) - images[3:9]).mean() < 25
    turned = zarr.create_array({}, compressors=chunk_codec, order="F", **options)
    with pytest.raises(ImageError, match='order="C"'):
        turned[:] = images


def test_files_that_exist_are_chunks(tmp_path, chunk_codec, codec, images):
    """As kerchunk refers to them: metadata beside files that another program has written."""
    for number, image in enumerate(images):
        (tmp_path / f"{number}.0.0.0").write_bytes(codec.encode(image))
    metadata = {
        "zarr_format": 2,
        "shape": images.shape,
        "chunks": (1, 32, 32, 3),
        "dtype": "|u1",
        "compressor": chunk_codec.get_config(),
        "fill_value": 0,
        "filters": None,
        "order": "C",
    }
    (tmp_path / ".zarray").write_text(json.dumps(metadata))
    array = zarr.open_array(tmp_path, mode="r")
    np.testing.assert_array_equal(array[4], codec.decode(codec.encode(images[4])))
