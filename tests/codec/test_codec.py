"""The public codec on the shipped checkpoints: all pictures in, all bad input out."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import hvae_codec
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.images.limits import MAX_SIDE_PIXELS
from hvae_codec.codec.registry import codec_of
from hvae_codec.errors import (
    AlphaError,
    BitstreamError,
    CorruptError,
    HvaeCodecError,
    ImageError,
    ImageTooLargeError,
    NotAnHvaeFileError,
    TruncatedError,
    UnknownModelError,
    UnknownQualityError,
    UnsupportedVersionError,
    WrongModelError,
)
from hvae_codec.evaluation import psnr_db
from tests.photographs import load_sample_image

CODEC = hvae_codec.load("cifar10", quality=3)
CHINA = load_sample_image("china.jpg")
CROPS = np.stack(
    [CHINA[y : y + 32, x : x + 32] for y in range(200, 360, 32) for x in (0, 200, 400)]
)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 70), (31, 33), (32, 32), (33, 32), (64, 96), (100, 7)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back_in_its_shape(size, channels):
    picture = np.ascontiguousarray(CHINA[: size[0], : size[1], :channels])
    blob = CODEC.encode(picture)
    decoded = CODEC.decode(blob)
    assert decoded.shape == picture.shape
    assert decoded.dtype == np.uint8
    assert CODEC.picture_shape(blob) == (*picture.shape, 1)
    assert CODEC.preview(blob).shape == picture.shape


def test_the_picture_is_recognisably_the_picture():
    decoded = CODEC.decode(CODEC.encode(CHINA))
    assert psnr_db(CHINA, decoded) > 18.0
    assert psnr_db(CHINA, CHINA[::-1]) < 12.0


def test_header_of_a_tile_is_at_most_12_bytes():
    blobs = CODEC.encode_batch(CROPS)
    assert sorted({parse(blob).payload_at for blob in blobs})[0] <= 12


def test_all_kinds_of_one_picture_give_the_same_bytes(tmp_path):
    crop = CROPS[4]
    path = tmp_path / "crop.png"
    Image.fromarray(crop).save(path)
    expected = CODEC.encode(crop)
    assert CODEC.encode(Image.fromarray(crop)) == expected
    assert CODEC.encode(path) == expected
    assert CODEC.encode(str(path)) == expected
    assert CODEC.encode(torch.from_numpy(crop).permute(2, 0, 1)) == expected


def test_batch_equals_single_and_blocks_equal_batches():
    blobs = CODEC.encode_batch(CROPS)
    assert [len(CODEC.encode(crop)) for crop in CROPS] == [len(blob) for blob in blobs]
    pictures = CODEC.decode_batch(blobs)
    assert pictures.shape == CROPS.shape
    singles = np.stack([CODEC.decode(blob) for blob in blobs])
    assert np.abs(pictures.astype(int) - singles.astype(int)).max() <= 1
    block = CODEC.encode_block(CROPS)
    assert len(block) < sum(map(len, blobs)) - 11 * (len(blobs) - 2)
    assert np.abs(CODEC.decode_block(block).astype(int) - pictures.astype(int)).max() <= 1


def test_batches_mix_sizes_and_colours():
    pictures = [CHINA[:40, :50], CHINA[:32, :32, :1], CROPS[0], CHINA[:5, :100]]
    blobs = CODEC.encode_batch(pictures)
    decoded = CODEC.decode_batch(blobs)
    assert [picture.shape for picture in decoded] == [picture.shape for picture in pictures]


def test_empty_batches():
    assert CODEC.encode_batch([]) == []
    assert len(CODEC.decode_batch([])) == 0
    assert CODEC.features([]).mean.shape == (0, 32)
    assert CODEC.features_from_bytes([]).std.shape == (0, 32)
    with pytest.raises(ImageError, match="no image"):
        CODEC.encode_block([])


def test_features_of_bytes_are_the_rounded_features_of_the_picture():
    features = CODEC.features(CROPS)
    coded = CODEC.features_from_bytes(CODEC.encode_batch(CROPS))
    step = CODEC.model.step(0).numpy()
    assert features.mean.shape == coded.mean.shape == (len(CROPS), 32)
    # Uniform over a step: deviation step / sqrt(12); rounding moves a mean by half a step at most.
    np.testing.assert_allclose(
        features.std, np.tile(step / np.sqrt(12), (len(CROPS), 1)), rtol=1e-5
    )
    inside = np.abs(coded.mean - features.mean) <= 0.5001 * step
    assert inside.mean() > 0.99, "only symbols outside a table's support may be clipped"


def test_features_of_several_tiles_are_their_average():
    pair = np.concatenate([CROPS[0], CROPS[1]], axis=1)
    each, both = CODEC.features(CROPS[:2]), CODEC.features([pair])
    np.testing.assert_allclose(both.mean[0], each.mean.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(both.std[0], np.sqrt((each.std**2).sum(axis=0)) / 2, atol=1e-6)


def test_z2_is_read_from_a_prefix():
    blob = CODEC.encode(CROPS[0])
    whole, preview = CODEC.features_from_bytes(blob), CODEC.preview(blob)
    lengths = [n for n in range(len(blob)) if _readable(blob[:n])]
    assert lengths, "some proper prefix holds z2"
    assert lengths == list(range(lengths[0], len(blob))), "and then every longer one does"
    assert lengths[0] < 0.6 * len(blob)
    cut = blob[: lengths[0]]
    assert np.array_equal(CODEC.features_from_bytes(cut).mean, whole.mean)
    assert np.array_equal(CODEC.preview(cut), preview)
    with pytest.raises(CorruptError):
        CODEC.decode(cut)


def _readable(prefix):
    try:
        CODEC.features_from_bytes(prefix)
    except BitstreamError:
        return False
    return True


def test_samples_repeat_by_seed():
    first = CODEC.sample(3, seed=11)
    assert first.shape == (3, 32, 32, 3)
    assert np.array_equal(first, CODEC.sample(3, seed=11))
    assert not np.array_equal(first, CODEC.sample(3, seed=12))
    for arguments in [(0,), (1, -1), (1, 0, float("nan")), (1, 0, -1.0), ("1",), (1, "0")]:
        with pytest.raises(HvaeCodecError, match="must be"):
            CODEC.sample(*arguments)
    for top in ("x", ["x"] * 32, [None] * 32, torch.zeros(32, device="meta"), np.zeros(31)):
        with pytest.raises(HvaeCodecError, match="top"):
            CODEC.sample(1, top=top)
    with pytest.raises(HvaeCodecError, match="top must be finite"):
        CODEC.sample(1, top=[float("inf")] * 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effort": "1"}, "effort must be one of"),
        ({"effort": 3}, "effort must be one of"),
        ({"effort": 1, "trade": "2"}, "trade must be a number"),
        ({"effort": 1, "trade": b"2"}, "trade must be a number"),
        ({"effort": 1, "trade": 1000}, r"trade must be 0\.015625 to 64"),
        ({"effort": 1, "trade": [1.0, 1.0]}, "one for each of 1 images"),
        ({"trade": 2.0}, "with effort 0 it must be 1"),
    ],
)
def test_a_search_of_other_arguments_is_refused(arguments, message):
    with pytest.raises(HvaeCodecError, match=message):
        CODEC.encode(CROPS[0], **arguments)


def test_models_are_found_by_name_quality_and_id():
    listed = hvae_codec.models()
    assert [(m.name, m.quality) for m in listed] == sorted((m.name, m.quality) for m in listed)
    blob = CODEC.encode(CROPS[0])
    assert hvae_codec.codec_for(blob) is CODEC
    with pytest.raises(UnknownQualityError, match="no qualities by number"):
        codec_of(bytes.fromhex(CODEC.info.model_id), 3)
    assert np.array_equal(hvae_codec.decode(blob), CODEC.decode(blob))
    with pytest.raises(UnknownModelError, match=r"'cifar11'; available: .*cifar10"):
        hvae_codec.load("cifar11")
    with pytest.raises(UnknownQualityError, match="no quality 99; available: 1, 2"):
        hvae_codec.load("cifar10", quality=99)
    with pytest.raises(UnknownModelError, match="deadbeef"):
        hvae_codec.codec_for(blob[:3] + bytes.fromhex("deadbeef") + blob[7:])


def test_pictures_that_cannot_be_taken():
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
    for picture, error, message in cases:
        with pytest.raises(error, match=message):
            CODEC.encode(picture)
    with pytest.raises(AlphaError, match="image 1 of the batch"):
        CODEC.encode_batch([CROPS[0], rgba])
    with pytest.raises(ImageError, match="one shape"):
        CODEC.encode_block([CROPS[0], CHINA[:5, :5]])


def test_bytes_that_cannot_be_decoded():
    blob = CODEC.encode(CROPS[0])
    other = hvae_codec.load("cifar10", quality=1).encode(CROPS[0])
    version = b"\x03"
    cases = [
        (b"", NotAnHvaeFileError, "nothing"),
        (b"\x89PNG\r\n\x1a\n", NotAnHvaeFileError, "8950"),
        (blob[:8], TruncatedError, "8 bytes"),
        (blob[:-1], BitstreamError, "truncated|damaged"),
        (blob + b"\0", CorruptError, "damaged"),
        (other, WrongModelError, CODEC.info.model_id),
        (blob[:2] + version + blob[3:], UnsupportedVersionError, "version"),
        (CODEC.encode_block(CROPS[:2]), BitstreamError, "decode_block"),
    ]
    for data, error, message in cases:
        with pytest.raises(error, match=message):
            CODEC.decode(data)
    with pytest.raises(BitstreamError, match="file 1 of 2"):
        CODEC.decode_batch([blob, blob[:-1]])


def test_every_flipped_bit_is_noticed():
    for picture in (CROPS[0], CHINA[:40, :70]):
        blob = CODEC.encode(picture)
        for bit in range(8 * len(blob)):
            damaged = bytearray(blob)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(HvaeCodecError):
                CODEC.decode(bytes(damaged))


# Damage of many bits passes a 16-bit check once in 65,536 times: examples are always the same.
@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.integers(0, 60), st.booleans())
def test_random_bytes_never_become_a_picture(noise, keep, cut):
    blob = CODEC.encode(CROPS[0])
    data = blob[:keep] + noise + (b"" if cut else blob[keep:])
    if data == blob:
        return
    with pytest.raises(HvaeCodecError):
        CODEC.decode(data)


def test_mnist_binarises_and_refuses_colour():
    codec = hvae_codec.load("mnist")
    grey = CHINA[:28, :28, :1]
    decoded = codec.decode(codec.encode(grey))
    assert decoded.shape == (28, 28, 1)
    assert set(np.unique(decoded)) <= {0, 255}
    assert np.array_equal(codec.reference(grey), np.where(grey > 127, 255, 0))
    with pytest.raises(ImageError, match="codes grey images; got 3 channels"):
        codec.encode(CHINA[:28, :28])


def test_png_of_a_decoded_picture(tmp_path):
    decoded = CODEC.decode(CODEC.encode(CROPS[0]))
    buffer = io.BytesIO()
    Image.fromarray(decoded).save(buffer, "PNG")
    assert np.array_equal(np.asarray(Image.open(buffer)), decoded)
