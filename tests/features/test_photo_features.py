"""Latents of photographs of any size as features: maps averaged, equal however they are given."""

import numpy as np
import pytest

import hvae_codec
from hvae_codec.errors import HvaeCodecError, ImageError, UnknownQualityError
from tests.photographs import load_sample_image

pytestmark = pytest.mark.usefixtures("one_thread")

CHINA = load_sample_image("china.jpg")
PICTURES = [CHINA[:100, :120], CHINA[50:90, :33], CHINA[300:, 200:330], CHINA[:65, :70, :1]]


@pytest.fixture(scope="module")
def photo():
    return hvae_codec.load("photo", 30)


@pytest.fixture(scope="module")
def both_ends(photo):
    """The features of the top layer and of the bottom one."""
    layers = tuple(photo.model.spec.layer_name(index) for index in (0, -1 + len(photo.info.z_dims)))
    return hvae_codec.HVAEFeatures(
        "photo", quality=30, layers=layers, statistics="mean+std", batch_size=3
    )


def test_columns_are_channels_and_have_names(photo, both_ends):
    columns = both_ends.transform(PICTURES)
    names = list(both_ends.get_feature_names_out())
    top, bottom = photo.info.z_dims[0], photo.info.z_dims[-1]
    assert columns.shape == (4, 2 * (top + bottom)) == (4, len(names))
    count = len(photo.info.z_dims)
    assert [names[0], names[top], names[-1]] == [
        f"z{count}_mean_0",
        f"z{count}_std_0",
        f"z1_std_{bottom - 1}",
    ]
    expected = photo.layer_features(PICTURES)
    np.testing.assert_array_equal(columns[:, :top], expected[0].mean)
    np.testing.assert_array_equal(columns[:, -bottom:], expected[-1].std)


def test_pictures_files_and_archives_give_the_same(photo, both_ends, tmp_path):
    from hvae_codec.features import ArchivePictures

    columns = both_ends.transform(PICTURES)
    blobs = photo.encode_batch(PICTURES)
    paths = [tmp_path / f"{number}.hvae" for number in range(4)]
    for path, blob in zip(paths, blobs, strict=True):
        path.write_bytes(blob)
    with hvae_codec.ArchiveWriter(tmp_path / "a.hvaa", photo) as archive:
        archive.extend(PICTURES)
    for given in (blobs, paths, tmp_path / "a.hvaa"):
        np.testing.assert_allclose(both_ends.transform(given), columns, atol=1e-4)
    some = ArchivePictures(tmp_path / "a.hvaa")[[3, 1]]
    np.testing.assert_allclose(both_ends.transform(some), columns[[3, 1]], atol=1e-4)
    assert both_ends.transform([]).shape == (0, columns.shape[1])


def test_clones_pipelines_and_saved_copies(both_ends, tmp_path):
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    copy = clone(both_ends)
    assert copy.get_params() == both_ends.get_params()
    both_ends.save(tmp_path / "f.json")
    assert hvae_codec.HVAEFeatures.load(tmp_path / "f.json").get_params() == both_ends.get_params()
    crops = np.stack([CHINA[y : y + 48, x : x + 64] for y in (0, 300) for x in range(0, 560, 40)])
    below = np.repeat([False, True], len(crops) // 2)
    pipeline = make_pipeline(
        hvae_codec.HVAEFeatures("photo"), StandardScaler(), LogisticRegression()
    )
    search = GridSearchCV(pipeline, {"hvaefeatures__quality": [20, 80.5]}, cv=2).fit(crops, below)
    assert search.best_score_ > 0.9, "sky and trees are easily told apart"


def test_what_is_refused(photo):
    count = len(photo.info.z_dims)
    with pytest.raises(HvaeCodecError, match=rf"allowed: one or more of z{count}, .* z1, each"):
        hvae_codec.HVAEFeatures("photo", layers="z99").fit()
    with pytest.raises(UnknownQualityError, match=r"1\.\.100, not 200"):
        hvae_codec.HVAEFeatures("photo", quality=200).fit()
    with pytest.raises(ImageError, match=r"flat rows of 9216 .* it takes 16384 \(128 x 128 x 1\)"):
        hvae_codec.HVAEFeatures("photo").transform(np.zeros((2, 48 * 64 * 3), np.uint8))
