"""Images of a benchmark: folders with files that cannot be used, sizes, fingerprints."""

import numpy as np
import pytest
from PIL import Image

from hvae_codec.errors import DatasetError
from hvae_codec.evaluation.rate_distortion.image_set import load_image_set, read_chunk


def save(path, shape, value=100, mode=None):
    pixels = np.full(shape, value, np.uint8)
    Image.fromarray(pixels, mode).save(path)
    return pixels


@pytest.fixture
def mixed(tmp_path):
    """Two usable images, and three that are not: alpha, too small, no image."""
    save(tmp_path / "a.png", (40, 30, 3))
    save(tmp_path / "b.png", (20, 64))
    save(tmp_path / "c-alpha.png", (20, 20, 4))
    save(tmp_path / "d-tiny.png", (10, 20, 3))
    (tmp_path / "e-broken.png").write_bytes(b"no image")
    return tmp_path


def test_images_of_differing_sizes_and_grey_ones_are_taken(tmp_path):
    colour = save(tmp_path / "a.png", (40, 30, 3))
    grey = save(tmp_path / "b.png", (20, 70))
    images = load_image_set(str(tmp_path))
    assert images.shapes == ((40, 30, 3), (20, 70, 1))
    assert (images.sizes, images.shorter_side, images.pixels) == ("30x40 to 70x20", 20, 2600)
    assert not images.small
    assert not images.alike
    first, second = read_chunk(images.chunk(0, 2))
    np.testing.assert_array_equal(first, colour)
    np.testing.assert_array_equal(second[:, :, 0], grey)


@pytest.mark.parametrize("name", ["c-alpha.png", "d-tiny.png", "e-broken.png"])
def test_an_image_that_cannot_be_used_is_named(mixed, name):
    for path in mixed.iterdir():
        if path.name[0] in "cde" and path.name != name:
            path.unlink()
    with pytest.raises(DatasetError, match=name):
        load_image_set(str(mixed))


def test_images_that_cannot_be_used_are_left_out_if_asked(mixed):
    said = []
    images = load_image_set(str(mixed), skip=said.append)
    assert [path.name for path in images.images] == ["a.png", "b.png"]
    assert [line.split("/")[-1].split(":")[0] for line in said] == [
        "c-alpha.png",
        "d-tiny.png",
        "e-broken.png",
    ]
    for name in ("a.png", "b.png"):
        (mixed / name).unlink()
    with pytest.raises(DatasetError, match="none of 3 images is usable"):
        load_image_set(str(mixed), skip=said.append)


def test_a_folder_without_images_and_one_that_is_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no image in"):
        load_image_set(str(tmp_path / "empty"))
    with pytest.raises(DatasetError, match="nowhere"):
        load_image_set(str(tmp_path / "nowhere"))


def test_the_fingerprint_is_of_the_pixels(tmp_path):
    folders = [tmp_path / name for name in ("one", "same", "other")]
    for folder, suffix, value in zip(folders, ("png", "webp", "png"), (7, 7, 8), strict=True):
        folder.mkdir()
        pixels = np.full((20, 20, 3), value, np.uint8)
        Image.fromarray(pixels).save(folder / f"x.{suffix}", lossless=True)
    one, same, other = (load_image_set(str(folder)).fingerprint for folder in folders)
    assert one == same != other


def test_the_first_so_many(mixed):
    assert len(load_image_set(str(mixed), 1)) == 1
