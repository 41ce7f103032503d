"""Masked values, sets and numbers of any kind, in X and in the parameters of a transformer."""

import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import hvae_codec
from hvae_codec.client.messages import sample_request
from hvae_codec.errors import HvaeCodecError, ImageError, UnknownQualityError

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = np.random.default_rng(6).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
MASKED = np.ma.array(IMAGES, mask=IMAGES > 200)
ROWS = MASKED.reshape(3, -1)


def features(**parameters):
    return hvae_codec.HVAEFeatures(**{"quality": 1, **parameters})


@pytest.mark.parametrize(
    "given",
    [
        MASKED,
        ROWS,
        ROWS.astype(np.float32),
        list(MASKED),
        list(ROWS),
        [IMAGES[0].ravel(), ROWS[1]],
        [[*IMAGES[0].ravel().tolist()[1:], np.ma.masked]],
    ],
)
def test_masked_values_are_no_image(given):
    with pytest.raises(ImageError, match="masked array has samples without a value"):
        features().transform(given)


def test_masked_arrays_without_masked_values_are_arrays():
    expected = features().transform(IMAGES)
    for given in (
        np.ma.array(IMAGES),
        np.ma.array(IMAGES).reshape(3, -1),
        list(np.ma.array(IMAGES)),
    ):
        np.testing.assert_array_equal(features().transform(given), expected)


@pytest.mark.parametrize("as_list", [False, True])
def test_masked_latents_are_not_given_to_samples(as_list):
    codec = hvae_codec.load("cifar10", 1)
    top = np.ma.zeros((2, codec.info.z_dims[0]), np.float32)
    plain = codec.sample(2, top=top.data, seed=1)
    np.testing.assert_array_equal(codec.sample(2, top=list(top) if as_list else top, seed=1), plain)
    top[0, 1] = np.ma.masked
    with pytest.raises(HvaeCodecError, match="top must have a value everywhere; some are masked"):
        codec.sample(2, top=list(top) if as_list else top)


def test_masked_latents_are_not_sent_to_a_server():
    def request(given):
        return sample_request(1, "cifar10", None, 0, 1.0, "raw", given, None)

    top = np.ma.array([0.5, 2.0, 3.0], np.float32)
    assert list(request(top).given.values.values) == [0.5, 2.0, 3.0]
    top[1] = np.ma.masked
    with pytest.raises(HvaeCodecError, match="given must have a value everywhere"):
        request(top)


@pytest.mark.parametrize("kind", [set, frozenset])
def test_what_has_no_order_is_refused(kind, tmp_path):
    with pytest.raises(UnknownQualityError, match="have no order"):
        features(layers=kind(["z1", "z2"])).fit()
    with pytest.raises(UnknownQualityError, match="have no order"):
        features(layers=kind(["z1", "z2"])).save(tmp_path / "f.json")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ImageError, match="no order"):
        features().transform(kind(["a.hvae", "b.hvae"]))
    keys = {"z1": 0, "z2": 0}.keys()  # which have one
    names = features(layers=keys).get_feature_names_out()
    assert names[0].startswith("z1")


@pytest.mark.parametrize(
    ("quality", "written"),
    [
        (Fraction(5, 2), 2.5),
        (np.longdouble(2.5), 2.5),
        (np.float32(2.5), 2.5),
        (Decimal("2.5"), 2.5),
        (Fraction(2), 2),
        (np.int64(2), 2),
        (None, None),
    ],
)
def test_any_number_is_saved(tmp_path, quality, written):
    saved = hvae_codec.HVAEFeatures("photo", None if quality is None else quality * 10)
    saved.set_params(batch_size=np.uint8(9)).save(tmp_path / "f.json")
    parameters = json.loads((tmp_path / "f.json").read_text())["parameters"]
    assert parameters["quality"] == (None if written is None else written * 10)
    assert parameters["batch_size"] == 9
    loaded = hvae_codec.HVAEFeatures.load(tmp_path / "f.json")
    assert loaded.get_params()["quality"] == parameters["quality"]
