"""Folders of pictures, cut to crops."""

import numpy as np
import pytest
from PIL import Image

from hvae_codec.data import load_dataset, load_folder, picture_paths
from hvae_codec.errors import DatasetError, SkippedFilesWarning


def coordinates(height, width, number):
    """RGB picture that holds in every pixel its row, its column and the picture's number."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, number)], -1).astype(np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "b.png", coordinates(20, 33, 2))
    save(tmp_path / "a.PNG", coordinates(17, 16, 1))
    save(tmp_path / "deeper" / "c.png", coordinates(16, 16, 3))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_grid_crops_in_order(folder):
    loaded = load_dataset(f"folder:{folder}", crop=16)
    corners = loaded.images[:, 0, 0].tolist()
    assert corners == [[0, 0, 1], [0, 0, 2], [0, 16, 2], [0, 0, 3]]
    for image, corner in zip(loaded.images, corners, strict=True):
        np.testing.assert_array_equal(image - np.uint8(corner), coordinates(16, 16, 0))
    assert loaded.labels is None
    assert loaded.name == f"16x16 crops of 3 images in {folder.name}"


def test_crops_need_not_be_square(folder):
    loaded = load_folder(folder, crop=(5, 16))
    assert loaded.images.shape == (3 + 4 * 2 + 3, 5, 16, 3)


def test_random_crops_follow_the_seed(folder):
    first = load_folder(folder, crop=8, crops=50, seed=4).images
    np.testing.assert_array_equal(first, load_folder(folder, crop=8, crops=50, seed=4).images)
    assert not np.array_equal(first, load_folder(folder, crop=8, crops=50, seed=5).images)
    numbers, counts = np.unique(first[:, 0, 0, 2], return_counts=True)
    assert numbers.tolist() == [1, 2, 3]
    assert sorted(counts) == [16, 17, 17]
    for image in first:
        np.testing.assert_array_equal(image - image[0, 0], coordinates(8, 8, 0))
    places = {tuple(corner) for corner in first[:, 0, 0].tolist()}
    assert len(places) > 30
    assert max(row for row, _, number in places if number == 2) <= 20 - 8


def test_fewer_crops_than_pictures(folder):
    assert load_folder(folder, crop=16, crops=2).images.shape == (2, 16, 16, 3)


def test_splits_are_subfolders(folder):
    save(folder / "test" / "d.png", coordinates(16, 16, 9))
    assert load_folder(folder, "test", crop=16).images[0, 0, 0].tolist() == [0, 0, 9]
    with pytest.raises(DatasetError, match="has no split 'train'"):
        load_folder(folder, "train", crop=16)  # all pictures would hold those of the test split
    save(folder / "train" / "e.png", coordinates(16, 16, 8))
    assert load_folder(folder, "train", crop=16).images[:, 0, 0].tolist() == [[0, 0, 8]]


def test_grey_stays_grey_unless_a_picture_is_rgb(tmp_path):
    save(tmp_path / "a.png", np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert load_folder(tmp_path, crop=4).images.shape == (1, 4, 4, 1)
    save(tmp_path / "b.png", coordinates(4, 4, 0))
    images = load_folder(tmp_path, crop=4).images
    assert images.shape == (2, 4, 4, 3)
    assert images[0, 1, 2].tolist() == [6, 6, 6]


def test_paths_are_sorted_and_only_pictures(folder):
    assert [path.name for path in picture_paths(folder)] == ["a.PNG", "b.png", "c.png"]


def test_pictures_behind_links_are_found(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    save(elsewhere / "d.png", coordinates(16, 16, 4))
    (folder / "link").symlink_to(elsewhere)
    (folder / "deeper" / "up").symlink_to(folder)
    assert load_folder(folder, crop=16).images[:, 0, 0, 2].tolist() == [1, 2, 2, 3, 4]


def test_pictures_of_other_suffixes_are_counted(folder):
    save(folder / "d.bmp", coordinates(16, 16, 4))
    with pytest.warns(SkippedFilesWarning, match=r"skipped 1 \*\.bmp; files taken: \*\.png"):
        assert len(picture_paths(folder)) == 3


def test_refusals_name_the_file_or_folder(folder):
    with pytest.raises(DatasetError, match=r"folder of images not found: .*absent"):
        load_dataset(f"folder:{folder / 'absent'}")
    with pytest.raises(DatasetError, match=r"a\.PNG: image of 17x16 .* smaller than a crop of 18"):
        load_folder(folder, crop=18)
    with pytest.raises(DatasetError, match="crop must be at least 1, got 0"):
        load_folder(folder, crop=0)
    with pytest.raises(DatasetError, match="crops must be at least 1, got 0"):
        load_folder(folder, crop=8, crops=0)
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:60])
    with pytest.raises(DatasetError, match=r"b\.png: truncated PNG"):
        load_folder(folder, crop=8)
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError, match=r"no image in .*empty: looked for files \*\.png"):
        load_folder(empty)
