"""z2 in scikit-learn's form: in pipelines, from pictures and from bytes."""

import pickle
from decimal import Decimal

import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec.codec.images.load import encode_png
from hvae_codec.data import load_dataset
from hvae_codec.errors import (
    CheckpointError,
    DatasetError,
    HvaeCodecError,
    ImageError,
    UnknownModelError,
    UnknownQualityError,
    WrongModelError,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10", quality=2)


@pytest.fixture
def features():
    return hvae_codec.HVAEFeatures(quality=2)


def two_kinds(count, seed=0):
    """Pictures uint8 [count, 32, 32, 3] that get lighter to the right or downwards, and which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    ramp = np.linspace(30, 220, 32)
    plane = np.where(labels[:, None, None] == 1, ramp[None, None, :], ramp[None, :, None])
    tint = rng.uniform(0.6, 1.0, (count, 1, 1, 3))
    noise = rng.normal(0, 10, (count, 32, 32, 3))
    return np.clip(plane[..., None] * tint + noise, 0, 255).astype(np.uint8), labels


def test_features_are_those_of_the_codec(codec, features):
    images, _ = two_kinds(5)
    expected = codec.features(images)
    np.testing.assert_array_equal(features.fit_transform(images), expected.mean)
    both = hvae_codec.HVAEFeatures(quality=2, statistics="mean+std").transform(images)
    assert both.dtype == np.float32
    np.testing.assert_array_equal(both, np.concatenate([expected.mean, expected.std], axis=1))


def test_features_from_bytes_are_the_decoded_symbols_times_the_step(codec, features):
    images, _ = two_kinds(6, seed=1)
    blobs = codec.encode_batch(images)
    symbols = [
        codec.file_coder.read_block(codec.encode_block([image]), layers=1).symbols[0]
        for image in images
    ]
    step = codec.model.step(0).detach().numpy().reshape(1, -1)
    expected = np.concatenate(symbols) * step
    np.testing.assert_allclose(features.transform(blobs), expected, rtol=1e-6)
    # Rounding moved no mean by more than half a step, in the tables' support.
    moved = np.abs(features.transform(blobs) - features.transform(images)) / step
    assert np.mean(moved <= 0.5 + 1e-3) > 0.98


@pytest.mark.parametrize("container", [list, tuple, lambda b: np.array(b, dtype=object)])
def test_many_encoded_pictures_in_any_sequence(codec, features, container):
    blobs = codec.encode_batch(two_kinds(3)[0])
    np.testing.assert_array_equal(
        features.transform(container(blobs)), codec.features_from_bytes(blobs).mean
    )


def test_paths_and_pictures_of_any_size(features, tmp_path):
    image = two_kinds(1)[0][0]
    (tmp_path / "a.png").write_bytes(encode_png(image))
    wide = np.concatenate([image, image], axis=1)
    rows = features.transform([tmp_path / "a.png", str(tmp_path / "a.png"), wide])
    np.testing.assert_allclose(rows, np.broadcast_to(rows[0], (3, rows.shape[1])), atol=1e-4)


@pytest.mark.parametrize("statistics", ["mean", "mean+std"])
def test_names_of_columns_match_the_matrix(codec, statistics):
    features = hvae_codec.HVAEFeatures(quality=2, statistics=statistics)
    (dims, _) = codec.info.z_dims
    names = features.get_feature_names_out()
    assert names[0] == "z2_mean_0"
    assert names[-1] == f"z2_{statistics.split('+')[-1]}_{dims - 1}"
    assert len(set(names)) == features.transform(two_kinds(1)[0]).shape[1] == len(names)


def test_no_pictures_give_no_rows(codec, features):
    assert features.transform([]).shape == (0, codec.info.z_dims[0])


def test_a_clone_has_the_parameters_and_a_pickle_is_small(features):
    from sklearn.base import clone

    images, _ = two_kinds(4)
    fitted = features.fit(images)
    copy = clone(fitted.set_params(statistics="mean+std"))
    assert copy.get_params() == {
        "model": "cifar10",
        "quality": 2,
        "layers": None,
        "statistics": "mean+std",
        "batch_size": 256,
        "rows": "interleaved",
    }
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(images), copy.transform(images))
    assert len(pickle.dumps(fitted)) < 1000


def test_a_classifier_on_z2_tells_pictures_apart_also_from_their_bytes(codec):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    images, labels = two_kinds(120)
    pipeline = make_pipeline(
        hvae_codec.HVAEFeatures(quality=2), StandardScaler(), LogisticRegression()
    )
    pipeline.fit(images[:80], labels[:80])
    assert pipeline.score(images[80:], labels[80:]) > 0.95
    blobs = codec.encode_batch(images[80:])
    # Coarsely rounded, z2 still tells them apart far better than chance.
    assert pipeline.score(blobs, labels[80:]) > 0.7
    names = pipeline[:-1].get_feature_names_out()
    assert list(names) == [f"z2_mean_{i}" for i in range(codec.info.z_dims[0])]
    assert cross_val_score(pipeline, list(codec.encode_batch(images)), labels, cv=3).min() > 0.9


def test_a_classifier_on_z2_of_real_pictures_beats_guessing():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    try:
        test = load_dataset("cifar10", "test")
    except DatasetError as error:
        pytest.skip(str(error))
    images, labels = test.images[:1500], test.labels[:1500]
    pipeline = make_pipeline(
        hvae_codec.HVAEFeatures(quality=2), StandardScaler(), LogisticRegression()
    )
    pipeline.fit(images[:1000], labels[:1000])
    commonest = np.bincount(labels[1000:]).max() / 500
    assert pipeline.score(images[1000:], labels[1000:]) > commonest + 0.05


@pytest.mark.parametrize(
    ("parameters", "plain"),
    [
        ({"quality": np.int64(3)}, {"quality": 3}),
        ({"quality": np.float32(2.5)}, {"quality": 2.5}),
        ({"quality": Decimal("2.5")}, {"quality": 2.5}),
        ({"batch_size": np.uint16(64)}, {"batch_size": 64}),
        ({"layers": np.array(["z1", "z2"])}, {"layers": ("z1", "z2")}),
        ({"model": np.str_("mnist"), "statistics": np.str_("mean+std")}, {"model": "mnist"}),
    ],
)
def test_parameters_of_a_grid_are_saved_as_plain_numbers(tmp_path, parameters, plain):
    path = tmp_path / "features.json"
    hvae_codec.HVAEFeatures(**parameters).save(path)
    loaded = hvae_codec.HVAEFeatures.load(path).get_params()
    assert {name: loaded[name] for name in plain} == plain
    assert {type(loaded[name]) for name in plain} == {type(value) for value in plain.values()}


def test_encoded_buffers_are_taken_as_their_bytes(codec, features):
    images, _ = two_kinds(3)
    blobs = codec.encode_batch(images)
    expected = features.transform(blobs)
    for kind in (bytearray, memoryview):
        np.testing.assert_array_equal(features.transform(list(map(kind, blobs))), expected)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"model": "none"}, UnknownModelError),
        ({"quality": 99}, UnknownQualityError),
        ({"statistics": "median"}, HvaeCodecError),
        ({"quality": "best"}, UnknownQualityError),
        ({"layers": "z3"}, UnknownQualityError),
        ({"layers": ()}, UnknownQualityError),
        ({"layers": np.array(3)}, UnknownQualityError),
        ({"layers": torch.tensor(3)}, UnknownQualityError),
        ({"layers": ("z1", "z1")}, HvaeCodecError),
        ({"batch_size": 0}, HvaeCodecError),
        ({"rows": "columns"}, HvaeCodecError),
        ({"rows": None}, HvaeCodecError),
        ({"model": "no/such.safetensors"}, CheckpointError),
        ({"model": "no/such.safetensors", "quality": 1}, HvaeCodecError),
    ],
)
def test_wrong_parameters_are_refused_by_fit_and_transform(parameters, error):
    with pytest.raises(error):
        hvae_codec.HVAEFeatures(**parameters).fit([])
    with pytest.raises(error):
        hvae_codec.HVAEFeatures(**parameters).transform([])


def test_wrong_input_is_refused(codec, features):
    images, _ = two_kinds(2)
    blobs = codec.encode_batch(images)
    for wrong in (images[0], list(images.astype(float)), "a.png", blobs[0], 5, np.array(blobs)):
        with pytest.raises(ImageError):
            features.transform(wrong)
    with pytest.raises(WrongModelError):
        hvae_codec.HVAEFeatures(quality=1).transform(blobs)
