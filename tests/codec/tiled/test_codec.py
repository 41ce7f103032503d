"""What tiled codecs alone do: small headers, a search, features of tiles; names of models."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import hvae_codec
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.registry import codec_of
from hvae_codec.errors import HvaeCodecError, ImageError, UnknownModelError, UnknownQualityError
from hvae_codec.evaluation import psnr_db
from tests.photographs import load_sample_image

pytestmark = pytest.mark.usefixtures("one_thread")

CHINA = load_sample_image("china.jpg")
CROPS = np.stack(
    [CHINA[y : y + 32, x : x + 32] for y in range(200, 360, 32) for x in (0, 200, 400)]
)


def test_the_picture_is_recognisably_the_picture(cifar10):
    decoded = cifar10.decode(cifar10.encode(CHINA))
    assert psnr_db(CHINA, decoded) > 18.0
    assert psnr_db(CHINA, CHINA[::-1]) < 12.0


def test_header_of_a_tile_is_at_most_12_bytes(cifar10):
    blobs = cifar10.encode_batch(CROPS)
    assert sorted({parse(blob).payload_at for blob in blobs})[0] <= 12


def test_batch_equals_single_and_blocks_equal_batches(cifar10):
    blobs = cifar10.encode_batch(CROPS)
    assert [len(cifar10.encode(crop)) for crop in CROPS] == [len(blob) for blob in blobs]
    pictures = cifar10.decode_batch(blobs)
    assert pictures.shape == CROPS.shape
    singles = np.stack([cifar10.decode(blob) for blob in blobs])
    assert np.abs(pictures.astype(int) - singles.astype(int)).max() <= 1
    block = cifar10.encode_block(CROPS)
    assert len(block) < sum(map(len, blobs)) - 11 * (len(blobs) - 2)
    assert np.abs(cifar10.decode_block(block).astype(int) - pictures.astype(int)).max() <= 1


def test_features_of_bytes_are_the_rounded_features_of_the_picture(cifar10):
    features = cifar10.features(CROPS)
    coded = cifar10.features_from_bytes(cifar10.encode_batch(CROPS))
    step = cifar10.model.step(0).numpy()
    assert features.mean.shape == coded.mean.shape == (len(CROPS), 32)
    # Uniform over a step: deviation step / sqrt(12); rounding moves a mean by half a step at most.
    np.testing.assert_allclose(
        features.std, np.tile(step / np.sqrt(12), (len(CROPS), 1)), rtol=1e-5
    )
    inside = np.abs(coded.mean - features.mean) <= 0.5001 * step
    assert inside.mean() > 0.99, "only symbols outside a table's support may be clipped"


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
def test_a_search_of_other_arguments_is_refused(cifar10, arguments, message):
    with pytest.raises(HvaeCodecError, match=message):
        cifar10.encode(CROPS[0], **arguments)


def test_models_are_found_by_name_quality_and_id(cifar10):
    listed = hvae_codec.models()
    assert [(m.name, m.quality) for m in listed] == sorted((m.name, m.quality) for m in listed)
    blob = cifar10.encode(CROPS[0])
    assert hvae_codec.codec_for(blob) is cifar10
    with pytest.raises(UnknownQualityError, match="no qualities by number"):
        codec_of(bytes.fromhex(cifar10.info.model_id), 3)
    assert np.array_equal(hvae_codec.decode(blob), cifar10.decode(blob))
    with pytest.raises(UnknownModelError, match=r"'cifar11'; available: .*cifar10"):
        hvae_codec.load("cifar11")
    with pytest.raises(UnknownQualityError, match="no quality 99; available: 1, 2"):
        hvae_codec.load("cifar10", quality=99)
    with pytest.raises(UnknownModelError, match="deadbeef"):
        hvae_codec.codec_for(blob[:3] + bytes.fromhex("deadbeef") + blob[7:])


def test_mnist_binarises_and_refuses_colour():
    codec = hvae_codec.load("mnist")
    grey = CHINA[:28, :28, :1]
    decoded = codec.decode(codec.encode(grey))
    assert decoded.shape == (28, 28, 1)
    assert set(np.unique(decoded)) <= {0, 255}
    assert np.array_equal(codec.reference(grey), np.where(grey > 127, 255, 0))
    with pytest.raises(ImageError, match="codes grey images; got 3 channels"):
        codec.encode(CHINA[:28, :28])


def test_png_of_a_decoded_picture(cifar10, tmp_path):
    decoded = cifar10.decode(cifar10.encode(CROPS[0]))
    buffer = io.BytesIO()
    Image.fromarray(decoded).save(buffer, "PNG")
    assert np.array_equal(np.asarray(Image.open(buffer)), decoded)


def test_tops_of_samples_that_are_none(cifar10):
    for top in ("x", ["x"] * 32, [None] * 32, torch.zeros(32, device="meta"), np.zeros(31)):
        with pytest.raises(HvaeCodecError, match="top"):
            cifar10.sample(1, top=top)
    with pytest.raises(HvaeCodecError, match="top must be finite"):
        cifar10.sample(1, top=[float("inf")] * 32)
