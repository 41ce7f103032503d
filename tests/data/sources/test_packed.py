"""Packed sets written here in their layout, and the real ones where they are present."""

import numpy as np
import pytest
from PIL import Image

from hvae_codec.data import ImageDataset, binarise, load_dataset
from hvae_codec.data.sources.roots import default_root
from hvae_codec.errors import DatasetError

RNG = np.random.default_rng(5)


def write_cifar10(root, train, test):
    """Sheets as the layout says, placed image by image rather than by reshaping."""
    labels = {}
    for split, images in (("train", train), ("test", test)):
        folder = root / "cifar10" / f"cifar10_{split}"
        folder.mkdir(parents=True)
        for start in range(0, len(images), 1024):
            sheet = Image.new("RGB", (1024, 1024))
            for place, image in enumerate(images[start : start + 1024]):
                sheet.paste(Image.fromarray(image), (place % 32 * 32, place // 32 * 32))
            sheet.save(folder / f"{start // 1024:03d}.webp", lossless=True, method=0, quality=0)
        labels[f"{split}_labels"] = (np.arange(len(images)) % 10).astype(np.uint8)
        labels[f"{split}_index"] = np.arange(len(images), dtype=np.int32)
    np.savez(root / "cifar10" / "meta.npz", **labels)


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    root = tmp_path_factory.mktemp("packed")
    noise = RNG.integers(0, 256, (1061, 4, 4, 3), dtype=np.uint8)
    train = np.kron(noise, np.ones((1, 8, 8, 1), np.uint8))
    write_cifar10(root, train, train[:3] // 2)
    return root, train


def test_cifar10_sheets_are_cut_in_order_and_the_padding_left_out(cifar10):
    root, train = cifar10
    loaded = load_dataset("packed-cifar10", "train", root)
    np.testing.assert_array_equal(loaded.images, train)
    assert loaded.labels.dtype == np.int64
    np.testing.assert_array_equal(loaded.labels, np.arange(1061) % 10)
    assert len(loaded) == 1061
    assert loaded.image_shape == (3, 32, 32)
    np.testing.assert_array_equal(load_dataset("cifar10", "test", root).images, train[:3] // 2)


def test_published_name_counts_what_is_missing(cifar10):
    for split in ("train", "test"):
        loaded = load_dataset("cifar10", split, cifar10[0])
        assert (loaded.name, loaded.split) == ("CIFAR-10 minus 58,936 images", split)


def test_mnist_and_svhn_arrays(tmp_path):
    digits = RNG.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    (tmp_path / "mnist").mkdir()
    np.savez(
        tmp_path / "mnist" / "mnist.npz",
        train_images=digits, train_labels=np.arange(5, dtype=np.uint8),
        test_images=digits[:2], test_labels=np.arange(2, dtype=np.uint8),
    )  # fmt: skip
    crops = RNG.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "svhn").mkdir()
    np.savez(
        tmp_path / "svhn" / "svhn.npz",
        images=crops, labels=np.arange(8, dtype=np.uint8),
        source_number=np.array([4, 5, 5, 6, 6, 9, 10, 11], np.int32),
    )  # fmt: skip
    mnist = load_dataset("packed-mnist", "train", tmp_path)
    np.testing.assert_array_equal(mnist.images[..., 0], digits)
    assert (mnist.name, mnist.image_shape) == ("MNIST", (1, 28, 28))
    train, test = (load_dataset("svhn", split, tmp_path) for split in ("train", "test"))
    np.testing.assert_array_equal(train.labels, [0, 3, 4, 5, 7])
    np.testing.assert_array_equal(test.labels, [1, 2, 6])
    np.testing.assert_array_equal(test.images, crops[[1, 2, 6]])
    assert test.name.startswith("SVHN, first 8 crops of the official training set")


def test_binarising_rounds_x_over_255():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(binarise(values), np.round(values / 255))
    assert binarise(values).dtype == np.uint8


def test_damaged_files_are_named(cifar10, tmp_path):
    write_cifar10(tmp_path, cifar10[1][:1], cifar10[1][:1])
    sheet = tmp_path / "cifar10" / "cifar10_train" / "000.webp"
    whole = sheet.read_bytes()
    sheet.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"000\.webp cannot be read as a sheet"):
        load_dataset("packed-cifar10", "train", tmp_path)
    Image.new("RGB", (64, 32)).save(sheet)
    with pytest.raises(DatasetError, match=r"000\.webp must be a 1024x1024 RGB sheet, got 64x32"):
        load_dataset("packed-cifar10", "train", tmp_path)
    sheet.unlink()
    with pytest.raises(DatasetError, match=r"000\.webp cannot be read"):
        load_dataset("packed-cifar10", "train", tmp_path)
    meta = tmp_path / "cifar10" / "meta.npz"
    for content in (b"", b"PK\3\4 and then nothing", meta.read_bytes()[:300]):
        meta.write_bytes(content)
        with pytest.raises(DatasetError, match=r"meta\.npz cannot be read as arrays train_labels"):
            load_dataset("packed-cifar10", "train", tmp_path)


def test_arrays_of_other_shapes_are_refused():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    for wrong in (images[..., :2], images[0], images[:0], images.astype(float)):
        with pytest.raises(DatasetError, match="images must be uint8"):
            ImageDataset(wrong, None, "wrong", "train")
    for labels in (np.zeros(3, np.int64), np.zeros(4, np.uint8)):
        with pytest.raises(DatasetError, match=r"labels must be int64 \[4\]"):
            ImageDataset(images, labels, "wrong", "train")


REAL = default_root()


@pytest.mark.skipif(not (REAL / "cifar10").is_dir(), reason=f"no packed data in {REAL}")
def test_real_packed_sets_have_their_published_sizes():
    sizes = {"cifar10": 9_827, "mnist": 10_000, "svhn": 223}
    for name, size in sizes.items():
        loaded = load_dataset(f"packed-{name}", "test")
        assert len(loaded) == size
        assert set(loaded.labels) == set(range(10))
        assert 60 < loaded.images.mean() < 140 or name == "mnist"
    # Neighbouring pixels of an image are alike; sheets cut at a wrong place would not be.
    images = load_dataset("packed-cifar10", "test").images.astype(np.int16)
    steps = np.abs(np.diff(images, axis=2)).mean(axis=(0, 1, 3))
    assert steps.max() < 1.6 * steps.min()
    assert load_dataset("packed-cifar10", "test").name == "CIFAR-10 minus 971 images"
