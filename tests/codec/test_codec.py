"""The codec of either family: all images in and out, alone and together; all bad input refused."""

import numpy as np
import pytest
import torch
from PIL import Image

import hvae_codec
from hvae_codec.codec.bitstream.header import read_header
from hvae_codec.codec.images.limits import MAX_SIDE_PIXELS
from hvae_codec.errors import (
    AlphaError,
    BitstreamError,
    CorruptError,
    HvaeCodecError,
    ImageError,
    ImageTooLargeError,
    NotAnHvaeFileError,
    RateError,
    TruncatedError,
    UnsupportedVersionError,
    WrongModelError,
)
from hvae_codec.evaluation import psnr_db
from tests.codec.fully_convolutional.models import EVEN, TINY, assert_same_image, waves

pytestmark = pytest.mark.usefixtures("one_thread")

DIMS = {"cifar10": (32, 512), "tiny": TINY.dims, "integers": EVEN.dims}
"""Symbols of an image of the model's own size, layer by layer."""
QUALITY_NUMBER = {"cifar10": None, "tiny": 126, "integers": 126}  # of 50: round(49 / 99 * 255)
SIZES = [(1, 1), (1, 70), (31, 33), (32, 32), (33, 32), (33, 65), (64, 64), (100, 7), (128, 128)]
MIXED = [((40, 50), 3), ((32, 32), 3), ((40, 50), 1), ((7, 9), 1), ((40, 50), 3), ((32, 32), 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_holds_the_symbols_of_its_image(codec, size, channels):
    image = waves(*size, channels)
    blob = codec.encode(image)
    block = codec.quantise_block([image])
    symbols = codec.symbols([blob])
    for found, expected in zip(symbols, block.rows(), strict=True):
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)
    header = read_header(blob)
    assert header.quality == QUALITY_NUMBER[codec.info.name]
    assert (header.width is None) == (size == (32, 32))
    tiles = -(-size[0] // 32) * -(-size[1] // 32)
    assert [layer.size for layer in symbols] == [tiles * dim for dim in DIMS[codec.info.name]]
    assert {len(layer) for layer in symbols} == {tiles if codec.number is None else 1}
    decoded = codec.decode(blob)
    assert decoded.shape == image.shape
    assert_same_image(codec, decoded, codec.images_of([block])[0])
    assert_same_image(codec, codec.decode_block(codec.file_coder.write(block)[0])[0], decoded)
    assert codec.picture_shape(blob) == (*image.shape, 1)
    assert codec.preview(blob).shape == image.shape


def test_all_kinds_of_one_image_give_the_same_bytes(codec, tmp_path):
    image = waves(32, 32)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    expected = codec.encode(image)
    for kind in (Image.fromarray(image), path, str(path), torch.tensor(image).permute(2, 0, 1)):
        assert codec.encode(kind) == expected


def test_a_batch_is_its_images_one_by_one(codec, other_point):
    """Sizes, grey and colour, operating points mixed."""
    images = [waves(*size, channels, seed=n) for n, (size, channels) in enumerate(MIXED)]
    blobs = codec.encode_batch(images)
    alone = [codec.encode(image) for image in images]
    if codec.number is None:  # networks round otherwise in batches of tiles
        assert all(abs(len(a) - len(b)) <= 3 for a, b in zip(blobs, alone, strict=True))
    else:
        assert blobs == alone
    blobs[4] = other_point.encode(images[4])
    decoded = codec.decode_batch(blobs)
    assert isinstance(decoded, list)
    for found, blob, image in zip(decoded, blobs, images, strict=True):
        assert found.shape == image.shape
        assert_same_image(codec, found, codec.decode(blob))
    same = codec.decode_batch([blobs[0], blobs[4]])
    assert isinstance(same, np.ndarray)
    joined = codec.symbols([blobs[2], blobs[0], blobs[2]])
    parts = zip(*(codec.symbols([blobs[n]]) for n in (2, 0, 2)), strict=True)
    for found, expected in zip(joined, map(np.concatenate, parts), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_empty_batches(codec):
    assert codec.encode_batch([]) == []
    assert codec.decode_batch([]) == []
    assert [layer.shape for layer in codec.symbols([])] == [(0, d) for d in DIMS[codec.info.name]]
    with pytest.raises(ImageError, match="no image"):
        codec.encode_block([])


def test_samples_repeat_by_seed(codec):
    images = codec.sample(3, seed=5)
    assert images.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(images, codec.sample(3, seed=5))
    assert (images != codec.sample(3, seed=6)).any()
    assert (images[0] != images[1]).any()
    cold = codec.sample(3, seed=1, temperature=0.0)
    assert_same_image(codec, cold[0], cold[2])
    for temperature in (0.0, 1e-300):
        np.testing.assert_array_equal(cold, codec.sample(3, seed=2, temperature=temperature))
    wrong = [(0,), ("1",), (1, "0"), (1, -1), (1, 2**63)]
    wrong += [(1, 0, float("nan")), (1, 0, -0.1), (1, 0, -1.0)]
    for arguments in wrong:
        with pytest.raises(HvaeCodecError, match="must be"):
            codec.sample(*arguments)


def test_images_that_cannot_be_taken(codec):
    rgba = np.zeros((32, 32, 4), np.uint8)
    cases = [
        (rgba, AlphaError, "alpha"),
        (Image.fromarray(rgba), AlphaError, "alpha"),
        (np.zeros((32, 32, 3), np.float32), ImageError, "float32"),
        (np.zeros((0, 32, 3), np.uint8), ImageError, "32x0"),
        (np.zeros((2, 32, 32, 3), np.uint8), ImageError, r"\[2, 32, 32, 3\]"),
        (np.broadcast_to(np.uint8(0), (1, MAX_SIDE_PIXELS + 1)), ImageTooLargeError, "65,535"),
        (object(), ImageError, "object"),
        (__file__, ImageError, "test_codec.py"),
    ]
    for image, error, message in cases:
        with pytest.raises(error, match=message):
            codec.encode(image)
    with pytest.raises(AlphaError, match="image 1 of the batch"):
        codec.encode_batch([waves(8, 8), rgba])
    for other in (waves(8, 9), waves(8, 8, 1)):
        with pytest.raises(ImageError, match="one shape"):
            codec.encode_block([waves(8, 8), other])


def test_bytes_that_cannot_be_decoded(codec):
    blob = codec.encode(waves(32, 32))
    other = hvae_codec.load("cifar10", quality=1).encode(waves(32, 32))
    cases = [
        (b"", NotAnHvaeFileError, "nothing"),
        (b"\x89PNG\r\n\x1a\n", NotAnHvaeFileError, "8950"),
        (blob[:8], TruncatedError, "8 bytes"),
        (blob[:-1], BitstreamError, "truncated|damaged"),
        (blob + b"\0", CorruptError, "damaged"),
        (other, WrongModelError, codec.info.model_id),
        (blob[:2] + b"\x03" + blob[3:], UnsupportedVersionError, "version"),
    ]
    for data, error, message in cases:
        with pytest.raises(error, match=message):
            codec.decode(data)


def test_a_block_is_no_file_of_one_image(codec):
    block = codec.encode_block([waves(8, 8)] * 2)
    for call in (codec.decode, codec.preview, codec.decode_rows, codec.features_from_bytes):
        with pytest.raises(BitstreamError, match="a block of 2 images; use decode_block"):
            call(block)
    with pytest.raises(BitstreamError, match="the file is a block"):
        codec.decode_batch([codec.encode(waves(8, 8)), block])


def test_errors_say_which_file(codec):
    good = codec.encode(waves(100, 100))
    cut = good[:30]
    with pytest.raises(BitstreamError, match="file 1 of 2"):
        codec.decode_batch([good, good[:-1]])
    with pytest.raises(TruncatedError, match="file 2 of 3"):
        codec.decode_batch([good, good, cut])
    with pytest.raises(BitstreamError, match="file 1 of 3"):
        codec.features_from_bytes([good, cut, good])


def test_limits_on_bytes_and_psnr_hold_or_are_refused_with_the_nearest(codec):
    image = waves(32, 32, seed=1)
    with pytest.raises(RateError, match="no file of at most 12 bytes") as small:
        hvae_codec.encode(image, [codec], max_bytes=12)
    fits = hvae_codec.encode(image, [codec], max_bytes=int(small.value.nearest))
    assert len(fits) == small.value.nearest
    with pytest.raises(RateError, match=r"reaches 90\.00 dB; the best has") as good:
        hvae_codec.encode(image, [codec], target_psnr=90.0)
    nearly = good.value.nearest - 0.5
    blob = hvae_codec.encode(image, [codec], target_psnr=nearly)
    assert psnr_db(image, codec.decode(blob)) >= nearly
    with pytest.raises(RateError, match=f"within {len(fits)} bytes"):
        hvae_codec.encode(image, [codec], target_psnr=90.0, max_bytes=len(fits))
