"""Photographs: which are held out, and random crops that depend on seed, epoch and index alone."""

import numpy as np
import pytest
from PIL import Image

import hvae_codec.data.random_crops as crops_module
from hvae_codec.data import RandomCrops, epoch_batches, load_dataset, load_training
from hvae_codec.data.sources.photographs import Photos
from hvae_codec.errors import DatasetError, SkippedFilesWarning


def marked(number, height=24, width=40):
    """A picture that holds in every pixel its row, its column and its number."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, number)], -1).astype(np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    """54 pictures in two folders, numbered in order, one of them grey, and one elsewhere."""
    for number in range(54):
        name = f"set_{'a' if number < 30 else 'b'}/deep/{number:03}.png"
        save(tmp_path / name, marked(number) if number != 26 else marked(26)[..., 2])
    save(tmp_path / "other" / "x.png", marked(99))
    return tmp_path


def numbers(crops):
    return sorted({int(crop[0, 0, 2]) for crop in crops})


def test_every_25th_picture_is_held_out(root):
    test = load_dataset("photos:set_*", "test", root, crop=8)
    train = load_dataset("photos:set_*", "train", root, crop=8)
    assert numbers(test.images) == [0, 25, 50]
    assert numbers(train.images) == sorted(set(range(54)) - {0, 25, 50})
    assert test.name == "8x8 crops of 3 of 54 images in set_a, set_b"
    assert (test.split, train.split) == ("test", "train")


def test_folders_are_listed_or_matched_and_count_once(root, monkeypatch):
    listed = load_dataset(f"photos:{root / 'set_a'},set_b,set_b/deep", "test", root, crop=8)
    assert numbers(listed.images) == [0, 25, 50]
    turned = load_dataset("photos:set_b,set_a", "test", root, crop=8)
    # 24 pictures, 30 to 53, then 30, 0 to 29: places 0, 25 and 50
    assert numbers(turned.images) == [1, 26, 30]
    monkeypatch.setenv("HVAE_DATA", str(root))
    assert numbers(load_dataset("photos:set_*", "test", crop=8).images) == [0, 25, 50]


def test_what_a_pattern_passes_over_is_counted(root):
    for name in ("a.bmp", "b.tif", "c.BMP", "notes.txt"):
        (root / "set_a" / "deep" / name).write_bytes(b"")
    message = r"set_a/deep/\*: skipped 2 \*\.bmp, 1 \*\.tif; files taken: "
    with pytest.warns(SkippedFilesWarning, match=message) as caught:
        load_dataset("photos:set_a/deep/*", "test", root, crop=8)
    assert len(caught) == 1


def test_fixed_crops_are_a_grid_in_the_centre(root):
    crops = load_dataset("photos:set_a", "test", root, crop=(7, 16)).images
    # 24 = 1 + 3 * 7 + 2 rows, 40 = 4 + 2 * 16 + 4 columns
    corners = [[row, column, 0] for row in (1, 8, 15) for column in (4, 20)]
    assert crops[:6, 0, 0].tolist() == corners
    np.testing.assert_array_equal(crops[0] - crops[0][0, 0], marked(0, 7, 16))


@pytest.fixture
def crops():
    generator = np.random.default_rng(1)
    sizes = ((40, 33), (16, 70), (64, 64))
    pictures = tuple(generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes)
    return RandomCrops(Photos(pictures, (16, 16), "noise", "train"), 64, seed=3)


def test_crops_follow_seed_epoch_and_index_alone(crops):
    order = list(epoch_batches(crops, 8, 3, 2))
    batches = list(crops.batches(2, order))
    assert all(batch.shape == (8, 16, 16, 3) and batch.dtype == np.uint8 for batch in batches)
    again = RandomCrops(crops.photos, 64, seed=3)
    for indices, batch in zip(reversed(order), reversed(batches), strict=True):
        np.testing.assert_array_equal(again.batch(2, indices), batch)
    for other in (crops.crop(3, 5), crops.crop(2, 8), RandomCrops(crops.photos, 64, 4).crop(2, 5)):
        assert not np.array_equal(other, crops.crop(2, 5))


def test_an_images_share_of_crops_is_its_share_of_pixels(monkeypatch):
    """Images of 1, 2 and 5 parts of the area, told apart by one colour each."""
    for name in ("FILLED", "RECOLOURED"):
        monkeypatch.setattr(crops_module, name, 0.0)
    sizes = ((20, 20), (20, 40), (40, 50))
    pictures = tuple(np.full((*size, 3), i, np.uint8) for i, size in enumerate(sizes))
    crops = RandomCrops(Photos(pictures, (8, 8), "parts", "train"), 100, seed=0)
    for first, count in ((0, 8), (0, 160), (3000, 160)):
        seen = [int(crops.crop(n // 100, n % 100)[0, 0, 0]) for n in range(first, first + count)]
        shares = np.bincount(seen, minlength=3) / count
        # Evenly spread: no share is off by more than some crops, however few are drawn.
        np.testing.assert_allclose(shares, [0.125, 0.25, 0.625], atol=2.0 / count)


def test_places_may_be_patterns_of_files(root):
    names = "photos:set_a/deep/00*.png,set_b"
    train = load_training(names, root, crop=(8, 8), crops=17).photos
    # 000 to 009, then 030 to 053: the first and the 26th of them are held out.
    assert numbers(train.pictures) == sorted({*range(1, 10), *range(30, 54)} - {45})
    assert train.name == "32 of 34 images in deep/00*.png, set_b"


def test_bad_images_are_named_and_skipped_where_asked(root):
    (root / "set_a" / "deep" / "003.png").write_bytes(b"no image")
    save(root / "set_a" / "deep" / "004.png", marked(4, height=5))
    skipped = []
    photos = load_training("photos:set_a", root, crop=(8, 8), crops=4, skip=skipped.append).photos
    assert numbers(photos.pictures) == sorted(set(range(30)) - {0, 25, 3, 4})
    assert photos.name == "26 of 30 images in set_a"
    assert [("003.png" in line, "004.png" in line) for line in skipped] == [(1, 0), (0, 1)]
    assert "smaller than a crop of 8x8" in skipped[1]
    with pytest.raises(DatasetError, match="none of 28 images of split train is usable"):
        load_training("photos:set_a", root, crop=(99, 8), crops=4, skip=skipped.append)


def test_the_fingerprint_is_that_of_all_images(crops):
    again = RandomCrops(crops.photos, 64, seed=3)
    assert again.fingerprint == crops.fingerprint
    assert len(crops.fingerprint) == 64
    for index in range(3):
        changed = [picture.copy() for picture in crops.photos.pictures]
        changed[index][-1, -1, -1] ^= 1
        other = RandomCrops(Photos(tuple(changed), (16, 16), "noise", "train"), 64, seed=3)
        assert other.fingerprint != crops.fingerprint


def test_what_is_done_to_crops_is_done_as_often_as_stated(monkeypatch):
    """On a picture whose channels rise with the row and with the column."""
    monkeypatch.setattr(crops_module, "FILLED", 0.0)
    ramp = np.repeat((np.mgrid[:60, :60] * 2 + 60).transpose(1, 2, 0), 2, axis=2)[..., :3]
    photos = Photos((ramp.astype(np.uint8),), (20, 20), "ramp", "train")
    crops = RandomCrops(photos, 2000, seed=0).batch(0, np.arange(2000)).astype(int)
    down = crops[:, -1, 10] - crops[:, 0, 10]
    right = crops[:, 10, -1] - crops[:, 10, 0]
    # Rows are in the first two channels and columns in the third.
    transposed = np.abs(right[:, 0]) > np.abs(down[:, 0])
    assert transposed.mean() == pytest.approx(0.15, abs=0.025)
    upright = ~transposed
    assert (right[upright, 2] < 0).mean() == pytest.approx(0.5, abs=0.04)
    assert (down[upright, 0] < 0).mean() == pytest.approx(0.15 / 0.85, abs=0.03)
    # Own colours: the first two channels are equal, and rise by 2 a row at least.
    own = np.abs(crops[..., 0] - crops[..., 1]).max((1, 2)) == 0
    assert own.mean() == pytest.approx(0.5, abs=0.04)
    rise = np.abs(down[upright & own, 0]) / 19
    assert (rise == 2.0).mean() == pytest.approx(0.3, abs=0.05)
    assert 3.9 < rise.max() < 4.7
    assert rise.min() == 2.0


def test_some_crops_have_a_rectangle_of_one_colour_on_them():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    photos = Photos((noise,), (20, 20), "noise", "train")
    crops = RandomCrops(photos, 2000, seed=0).batch(0, np.arange(2000)).astype(int)
    # The smallest rectangle has 4x4 pixels; noise, reduced or not, has no 3x3 of one colour.
    windows = np.lib.stride_tricks.sliding_window_view(crops, (3, 3), axis=(1, 2))
    flat = (windows.min((-1, -2)) == windows.max((-1, -2))).all(-1).any((1, 2))
    assert flat.mean() == pytest.approx(0.08, abs=0.02)


def test_a_share_of_crops_is_plain():
    """One colour, a gradient or an edge: each a third. Noise looks like none of them."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    photos = Photos((noise,), (20, 16), "noise", "train")
    crops = RandomCrops(photos, 3000, seed=0, plain=0.5).batch(0, np.arange(3000))
    colours = np.array([len(np.unique(crop.reshape(-1, 3), axis=0)) for crop in crops])
    steps = np.abs(np.diff(crops.astype(int), axis=1)).max((1, 2, 3))
    of_a_gradient = (colours > 2) & (steps <= 16)  # 255 levels over the shorter side, 16 pixels
    # Two colours in a plain crop are equal where both are white, or black: 2 of 64 times.
    assert (colours == 1).mean() == pytest.approx(0.5 * (1 / 3 + 2 / 3 * 2 / 64), abs=0.025)
    assert (colours == 2).mean() == pytest.approx(0.5 / 3 * 62 / 64, abs=0.02)
    assert of_a_gradient.mean() == pytest.approx(0.5 / 3 * 62 / 64, abs=0.02)
    assert crops[colours == 1].min() == 0
    assert crops[colours == 1].max() == 255


def test_a_share_of_plain_crops_is_named_and_leaves_the_others_alone(crops):
    named = RandomCrops(crops.photos, 64, seed=3, plain=0.25)
    assert "64 an epoch, 25 % plain, of " in named.name
    assert "plain" not in crops.name
    none = RandomCrops(crops.photos, 64, seed=3, plain=0.0)
    assert np.array_equal(none.crop(2, 5), crops.crop(2, 5))
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(DatasetError, match="plain crops must lie between 0 and 1"):
            RandomCrops(crops.photos, 64, seed=3, plain=share)


def test_a_window_is_never_larger_than_its_picture():
    picture = np.full((16, 18, 3), 7, np.uint8)
    crops = RandomCrops(Photos((picture,), (16, 16), "small", "train"), 50, seed=0)
    for index in range(50):
        assert crops.crop(0, index).shape == (16, 16, 3)
    wide = RandomCrops(Photos((picture,), (8, 16), "small", "train"), 50, seed=0)
    assert all(wide.crop(0, index).shape == (8, 16, 3) for index in range(50))


def test_the_thread_ends_with_its_reader_and_passes_errors_on(crops):
    batches = crops.batches(0, epoch_batches(crops, 8, 0, 0))
    next(batches)
    batches.close()  # waits for the thread
    broken = iter([np.array([0]), np.array([-1])])  # a negative index seeds nothing
    with pytest.raises(ValueError):
        list(crops.batches(0, broken))


def test_refusals_say_what_was_looked_for(root):
    with pytest.raises(
        DatasetError, match=r"no folder or image found at 'absent'; looked in \. or "
    ):
        load_dataset("photos:set_a,absent", "test", root)
    with pytest.raises(DatasetError, match="found at ''"):
        load_dataset("photos:", "test", root)
    with pytest.raises(DatasetError, match="have the splits train and test, not 'val'"):
        load_dataset("photos:set_a", "val", root)
    with pytest.raises(DatasetError, match=r"000\.png: image of 24x40 .* crop of 32x32"):
        load_dataset("photos:set_a", "test", root)
    with pytest.raises(DatasetError, match="one image is too few"):
        load_training("photos:other", root, crop=(8, 8), crops=4)
    with pytest.raises(DatasetError, match="such as --crops-per-epoch 20000"):
        load_training("photos:set_a", root, crop=(8, 8))
    with pytest.raises(DatasetError, match="only photos:PATH takes crops"):
        load_training(f"folder:{root / 'set_a'}", crop=(8, 8), crops=4)
    (root / "set_a" / "deep" / "003.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"003\.png"):
        load_training("photos:set_a", root, crop=(8, 8), crops=4)
    (root / "empty").mkdir()
    with pytest.raises(DatasetError, match="no image in"):
        load_dataset("photos:empty", "test", root)
