"""What X may be: numbers as grey levels, flat rows, files, archives; and what is refused."""

import json
import pickle

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import hvae_codec
from hvae_codec.errors import HvaeCodecError, ImageError, WrongModelError

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = np.random.default_rng(3)
PICTURES = RNG.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
PICTURES[::2] //= 3  # darker ones
LABELS = np.arange(30) % 2
BOTH = ("z2", "z1")


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10", quality=1)


@pytest.fixture(scope="module")
def blobs(codec):
    return codec.encode_batch(PICTURES)


@pytest.fixture(scope="module")
def archive(codec, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "thirty.hvaa"
    with hvae_codec.ArchiveWriter(path, codec, block_tiles=8) as writer:
        for number, picture in enumerate(PICTURES):
            writer.add(picture, f"{number}.png")
    return path


def grey_levels(values):
    from hvae_codec.features import inputs

    return inputs.grey_levels(values)


def features(**parameters):
    return hvae_codec.HVAEFeatures(quality=1, **parameters)


@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 20))))
def test_levels_survive_every_way_in_which_people_keep_them(levels):
    assert np.array_equal(grey_levels(levels), levels)
    fractions = levels.astype(np.float32) / 255
    if set(np.unique(levels)) <= {0, 255}:  # 0.0 and 1.0 alone
        if levels.any():
            with pytest.raises(ImageError, match="could be"):
                grey_levels(fractions)
    else:
        assert np.array_equal(grey_levels(fractions), levels)
    if levels.max() > 1 or not levels.any():
        for dtype in (np.int64, np.uint16, np.float32, np.float64):
            assert np.array_equal(grey_levels(levels.astype(dtype)), levels)
    elif levels.any():
        for dtype in (np.int64, np.float64):
            with pytest.raises(ImageError, match="could be"):
                grey_levels(levels.astype(dtype))


@given(arrays(np.float64, 12, elements=st.floats(0, 300)), st.lists(st.integers(0, 11), min_size=1))
def test_a_part_is_never_read_otherwise_than_the_whole(values, part):
    try:
        whole, some = grey_levels(values)[part], grey_levels(values[part])
    except ImageError:
        return
    assert np.array_equal(whole, some)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, np.nan], "NaN"),
        ([0.0, np.inf], "0..255"),
        ([-0.1, 0.5], "-0.1 to 0.5"),
        ([3.0, 256.0], "256"),
        ([0.5, 1.5], "standardised"),
        ([1j, 2.0], "complex"),
        ([True, False], "bool"),
    ],
)
def test_numbers_that_are_no_grey_levels(values, message):
    with pytest.raises(ImageError, match=message):
        grey_levels(np.array(values))


def test_flat_rows_are_pictures_in_the_order_height_width_channels(codec):
    expected = codec.features(PICTURES).mean
    flat = PICTURES.reshape(30, -1)
    for rows in (flat, flat / 255, flat.astype(float), flat.tolist(), list(flat), PICTURES / 255):
        np.testing.assert_array_equal(features().transform(rows), expected)
    grey = np.ascontiguousarray(PICTURES[..., :1])
    np.testing.assert_array_equal(
        features().transform(grey.reshape(30, -1)), codec.features(grey).mean
    )
    with pytest.raises(ImageError, match=r"784 features.*1024 \(32 x 32 x 1\), or 3072"):
        features().transform(np.zeros((2, 784), np.uint8))
    digits = np.zeros((2, 784), np.uint8)
    assert hvae_codec.HVAEFeatures("mnist").transform(digits).shape == (2, 20)


def test_planar_rows_are_those_of_cifars_files(codec):
    """All of red, then of green, then of blue, each row after row."""
    planes = [[*image[..., 0].flat, *image[..., 1].flat, *image[..., 2].flat] for image in PICTURES]
    expected = codec.features(PICTURES).mean
    planar = features(rows="planar")
    np.testing.assert_array_equal(planar.transform(np.array(planes)), expected)
    np.testing.assert_array_equal(planar.transform(PICTURES), expected)
    grey = np.ascontiguousarray(PICTURES[..., :1])
    np.testing.assert_array_equal(planar.transform(grey.reshape(30, -1)), codec.features(grey).mean)
    with pytest.raises(ImageError, match=r"3072 .* in the order channels, height, width"):
        planar.transform(np.zeros((2, 784), np.uint8))


def test_batches_and_kinds_of_pictures_give_the_same_rows(codec, tmp_path):
    expected = codec.layer_features(PICTURES)
    paths = [tmp_path / f"{number}.png" for number in range(30)]
    for path, picture in zip(paths, PICTURES, strict=True):
        Image.fromarray(picture).save(path)
    for given_as in (list(PICTURES), paths, np.array(list(map(str, paths)))[:, None]):
        rows = features(layers=("z1", "z2"), batch_size=7).transform(given_as)
        np.testing.assert_allclose(rows[:, :512], expected[1].mean, atol=1e-4)
        np.testing.assert_allclose(rows[:, 512:], expected[0].mean, atol=1e-4)


@pytest.mark.parametrize("layers", [None, "z1", BOTH])
@pytest.mark.parametrize("statistics", ["mean", "mean+std"])
def test_bytes_files_and_archives_give_one_and_the_same(
    codec, blobs, archive, tmp_path, layers, statistics
):
    from hvae_codec.features import ArchivePictures

    model = features(layers=layers, statistics=statistics, batch_size=11)
    found = codec.layer_features_from_bytes(blobs)
    indices = {None: [0], "z1": [1], BOTH: [0, 1]}[layers]
    kinds = statistics.split("+")
    expected = np.concatenate([getattr(found[i], kind) for i in indices for kind in kinds], axis=1)
    paths = [tmp_path / f"{number}.hvae" for number in range(30)]
    for path, blob in zip(paths, blobs, strict=True):
        path.write_bytes(blob)
    everything = [blobs, paths, archive, str(archive), ArchivePictures(archive)]
    everything.append(list(ArchivePictures(archive)))
    for given_as in everything:
        np.testing.assert_allclose(model.transform(given_as), expected, atol=1e-4, rtol=1e-5)
    with hvae_codec.Archive(archive) as opened:
        np.testing.assert_allclose(model.transform(opened), expected, atol=1e-4, rtol=1e-5)
    names = model.get_feature_names_out()
    assert len(set(names)) == expected.shape[1] == len(names)


def test_pictures_of_an_archive_are_chosen_like_rows(archive):
    from sklearn.model_selection import train_test_split

    from hvae_codec.features import ArchivePictures

    pictures = ArchivePictures(archive)
    assert len(pictures) == 30
    assert pictures[3].number == pictures[3:9][0].number == 3
    assert list(ArchivePictures(archive, ["7.png", "2.png"]).numbers) == [7, 2]
    assert list(ArchivePictures(archive, [-1, 4]).numbers) == [29, 4]
    assert list(ArchivePictures(archive, slice(0, 9, 4)).numbers) == [0, 4, 8]
    assert list(pictures[LABELS == 1].numbers) == list(range(1, 30, 2))
    again = pickle.loads(pickle.dumps(pictures[[5, 1]]))
    assert [picture.number for picture in again] == [5, 1]
    rows = features().transform(pictures)
    np.testing.assert_array_equal(features().transform(again), rows[[5, 1]])
    parts = train_test_split(pictures, LABELS, random_state=0)
    assert len(parts[0]) == 22
    assert features().transform(pictures[:0]).shape == (0, 32)
    with pytest.raises(KeyError, match="cat"):
        ArchivePictures(archive, ["cat.png"])
    with pytest.raises(IndexError, match="30"):
        ArchivePictures(archive, [30])
    with pytest.raises(IndexError):
        pictures[30]


def test_a_search_over_layers_and_statistics_straight_from_an_archive(archive):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from hvae_codec.features import ArchivePictures

    pipeline = Pipeline(
        [("z", features()), ("scale", StandardScaler()), ("classify", LogisticRegression())]
    )
    grid = {"z__layers": ["z2", "z1", BOTH], "z__statistics": ["mean", "mean+std"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(ArchivePictures(archive), LABELS)
    assert len(search.cv_results_["params"]) == 6
    assert search.best_score_ > 0.9, "dark and light noise are easily told apart"
    assert search.predict(ArchivePictures(archive, [0, 1])).tolist() == [0, 1]
    assert cross_val_score(pipeline, ArchivePictures(archive), LABELS, cv=3).mean() > 0.9


def test_saved_as_json_it_comes_back_the_same(tmp_path, archive):
    saved = features(layers=BOTH, statistics="mean+std", batch_size=9)
    saved.save(tmp_path / "z.json")
    loaded = hvae_codec.HVAEFeatures.load(tmp_path / "z.json")
    assert loaded.get_params() == saved.get_params()
    np.testing.assert_array_equal(loaded.transform(archive), saved.transform(archive))
    written = json.loads((tmp_path / "z.json").read_text())
    assert written["model_id"] == hvae_codec.load("cifar10", 1).info.model_id
    written["parameters"]["quality"] = 2  # another model of that name
    (tmp_path / "z.json").write_text(json.dumps(written))
    with pytest.raises(WrongModelError, match=written["model_id"]):
        hvae_codec.HVAEFeatures.load(tmp_path / "z.json")
    for damage in ("[]", "{}", "nonsense", json.dumps({**written, "format": "other"})):
        (tmp_path / "z.json").write_text(damage)
        with pytest.raises(HvaeCodecError, match=r"z\.json"):
            hvae_codec.HVAEFeatures.load(tmp_path / "z.json")


def test_a_checkpoints_path_is_a_model(codec, blobs):
    path = hvae_codec.__path__[0] + "/checkpoints/cifar10-q1.safetensors"
    model = hvae_codec.HVAEFeatures(path, layers="z1")
    np.testing.assert_array_equal(
        model.transform(blobs), codec.layer_features_from_bytes(blobs)[1].mean
    )


def test_what_cannot_be_told_apart_or_read(blobs, archive):
    with pytest.raises(ImageError, match="encoded files and pictures"):
        features().transform([blobs[0], PICTURES[0]])
    with pytest.raises(ImageError, match="ArchivePictures"):
        features().transform([archive])
    with pytest.raises(ImageError, match="dtype S"):
        features().transform(np.array(blobs))
    with pytest.raises(ImageError, match="one length"):
        features().transform([[1, 2], [3]])
    with pytest.raises(ImageError, match="sparse"):
        features().fit(scipy.sparse.csr_array(np.eye(3)))
    with pytest.raises(ImageError, match="3 dimensions"):
        features().transform(PICTURES[0])
    with pytest.raises(WrongModelError):
        hvae_codec.HVAEFeatures(quality=2).transform(archive)
    with pytest.raises(FileNotFoundError):
        features().transform(["missing.hvae"])
