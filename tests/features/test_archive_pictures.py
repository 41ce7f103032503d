"""Images of an archive: chosen by numbers, names or a mask, and read from that archive alone."""

import os
import pickle

import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.errors import ArchiveError
from hvae_codec.features import ArchivePicture, ArchivePictures

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = np.random.default_rng(5).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
OTHERS = IMAGES // 3
MASK = np.array([True, False, False, True, True, False])
NO_LIST = "given as a list of numbers or names, a slice or a mask"
NO_NUMBER = "given by a whole number or a name"


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10", quality=1)


def write(path, codec, images):
    with ArchiveWriter(path, codec) as writer:
        writer.extend(images, [f"n{number}" for number in range(len(images))])
    return path


@pytest.fixture(scope="module")
def path(codec, tmp_path_factory):
    return write(tmp_path_factory.mktemp("archive") / "six.hvaa", codec, IMAGES)


@pytest.fixture(scope="module")
def expected(codec):
    return codec.layer_features_from_bytes(codec.encode_batch(IMAGES))[0].mean


def transform(given):
    return hvae_codec.HVAEFeatures(quality=1).transform(given)


def test_an_open_archive_is_found_from_another_directory(
    codec, path, expected, tmp_path, monkeypatch
):
    write(tmp_path / path.name, codec, OTHERS)
    monkeypatch.chdir(path.parent)
    with Archive(path.name) as archive:
        monkeypatch.chdir(tmp_path)
        pictures = ArchivePictures(archive)
        assert pictures.path == path
        for given in (archive, pictures, list(pictures), pickle.loads(pickle.dumps(pictures))):
            np.testing.assert_allclose(transform(given), expected, atol=1e-5)


@pytest.mark.parametrize("images", [OTHERS, IMAGES[:5], OTHERS[[0, 1, 2, 3, 4, 5, 0]]])
def test_an_archive_that_was_replaced_is_refused(codec, tmp_path, images):
    path = write(tmp_path / "a.hvaa", codec, IMAGES)
    with Archive(path) as archive:
        pictures = ArchivePictures(path)
        os.replace(write(tmp_path / "b.hvaa", codec, images), path)
        for given in (archive, pictures, pictures[1:3], list(pictures), ArchivePictures(archive)):
            with pytest.raises(ArchiveError, match=r"a\.hvaa is no longer the archive that was op"):
                transform(given)
    np.testing.assert_array_equal(
        transform([ArchivePicture(path, 0)]), transform(path)[:1]
    )  # without a source it is whichever archive lies there


def test_archives_of_one_layout_are_told_apart(codec, tmp_path):
    files = {}
    for seed in range(200):  # until two single images take as many bytes
        image = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        path = write(tmp_path / f"{seed}.hvaa", codec, [image])
        if (first := files.setdefault(path.stat().st_size, path)) != path:
            break
    pictures = ArchivePictures(first)
    with Archive(first) as opened, Archive(path) as other:
        assert opened._index.entries == other._index.entries
    os.replace(path, first)
    with pytest.raises(ArchiveError, match="no longer the archive"):
        transform(pictures)


def test_an_archive_that_grew_is_the_same(codec, expected, tmp_path):
    path = write(tmp_path / "a.hvaa", codec, IMAGES)
    pictures = ArchivePictures(path)
    with ArchiveWriter(path, codec, append=True) as writer:
        writer.extend(OTHERS)
    np.testing.assert_allclose(transform(pictures), expected, atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        MASK,
        MASK.tolist(),
        tuple(MASK),
        torch.from_numpy(MASK),
        np.ma.array(MASK),
        [0, 3, 4],
        [np.int8(0), -3, "n4"],
        np.array([0, 3, 4], np.uint16),
        torch.tensor([0, 3, 4]),
        np.array(["n0", "n3", "n4"]),
        (number for number in (0, 3, 4)),
        {"n0": 1, "n3": 1, "n4": 1}.keys(),
    ],
)
def test_images_are_chosen_by_numbers_names_or_a_mask(path, given):
    with Archive(path) as archive:
        pictures = ArchivePictures(archive, given)
        assert pictures.numbers.tolist() == [0, 3, 4]
        if isinstance(given, np.ndarray) and given.dtype.kind in "bu":
            assert ArchivePictures(path)[given].numbers.tolist() == [0, 3, 4]


@pytest.mark.parametrize("given", [[], (), np.array([]), np.zeros(6, bool), slice(9, None)])
def test_no_image_at_all(path, given):
    pictures = ArchivePictures(path, given)
    assert pictures.numbers.dtype == np.intp
    assert len(pictures) == 0
    assert len(transform(pictures)) == 0


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("n3", ArchiveError, NO_LIST + "; got str 'n3'"),
        (b"n3", ArchiveError, NO_LIST),
        (3, ArchiveError, NO_LIST),
        (np.array(3), ArchiveError, NO_LIST),
        ({"n3", "n1"}, ArchiveError, NO_LIST + "; got set"),
        ([1.7], ArchiveError, NO_NUMBER + ".*got float 1.7"),
        (np.array([1.0]), ArchiveError, NO_NUMBER),
        ([None], ArchiveError, NO_NUMBER + ".*got NoneType None"),
        ([True, 3], ArchiveError, NO_NUMBER + ".*got bool True"),
        (np.argwhere(MASK), ArchiveError, NO_NUMBER + r".*got list \[0\]"),
        (MASK[None], ArchiveError, NO_NUMBER),
        (np.ma.array([1, 2], mask=[0, 1]), ArchiveError, NO_NUMBER + ".*got NoneType"),
        (np.ma.array(MASK, mask=MASK), ArchiveError, NO_NUMBER),
        (MASK[:5], IndexError, "has 6 images, the mask 5 values"),
        ([6], IndexError, "has 6 images, none of number 6"),
        (["n6"], KeyError, "no image named 'n6'"),
    ],
)
def test_what_chooses_no_image_is_refused(path, given, error, message):
    with pytest.raises(error, match=message):
        ArchivePictures(path, given)


@pytest.mark.parametrize(
    "key",
    [
        np.argwhere(MASK),
        None,
        [[1]],
        MASK[:5],
        [1.7],
        "n3",
        np.ma.array([1, 2], mask=[0, 1]),
        np.ma.array(MASK, mask=MASK),
    ],
)
def test_an_index_of_another_kind_is_refused(path, key):
    with pytest.raises(IndexError):
        ArchivePictures(path)[key]
