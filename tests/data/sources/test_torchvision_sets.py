"""torchvision's own readers on files of their layouts, and what is said when there are none."""

import functools
import hashlib
import http.server
import pickle
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy

from hvae_codec.data import DATASETS, default_root, load_dataset, search_roots
from hvae_codec.errors import DatasetError

RNG = np.random.default_rng(6)


@pytest.fixture
def datasets():
    """`torchvision.datasets`, which takes seconds to import."""
    return pytest.importorskip("torchvision").datasets


def write_svhn(path, images):
    """torchvision's layout of uint8 images [H, W, C, 4]."""
    labels = np.array([[1], [10], [2], [9]], np.uint8)
    scipy.io.savemat(path, {"X": images, "y": labels})


def write_mnist(root, images, labels):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        head = struct.pack(">IIII", 0x0803, *images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 0x0801, len(labels))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def test_mnist_in_torchvisions_layout_comes_before_the_packed_one(tmp_path):
    images = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.arange(6, dtype=np.uint8)
    write_mnist(tmp_path, images, labels)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "mnist.npz").write_bytes(b"never read")
    for split in ("train", "test"):
        loaded = load_dataset("mnist", split, tmp_path)
        np.testing.assert_array_equal(loaded.images[..., 0], images)
        np.testing.assert_array_equal(loaded.labels, labels)
        assert (loaded.name, loaded.split) == ("MNIST", split)


def test_damaged_mnist_file_is_reported(tmp_path):
    write_mnist(tmp_path, np.zeros((6, 28, 28), np.uint8), np.zeros(6, np.uint8))
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DatasetError, match="mnist cannot be read from"):
        load_dataset("mnist", "train", tmp_path)


def test_cifar10_in_torchvisions_layout(tmp_path, monkeypatch, datasets):
    """The files are torchvision's own format; only the checksums it compares with are replaced."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    planes = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)
    batch = pickle.dumps({"data": planes, "labels": [3, 1, 4, 1]})
    meta = pickle.dumps({"label_names": [str(digit) for digit in range(10)]})
    (folder / "data_batch_1").write_bytes(batch)
    (folder / "batches.meta").write_bytes(meta)
    listed = [["data_batch_1", hashlib.md5(batch).hexdigest()]]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", listed)
    checked = {**datasets.CIFAR10.meta, "md5": hashlib.md5(meta).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "meta", checked)
    loaded = load_dataset("cifar10", "train", tmp_path)
    assert loaded.images.shape == (4, 32, 32, 3)
    # A row holds the red plane, then green, then blue, each row by row.
    assert (
        loaded.images[2, 5, 7].tolist()
        == planes[2, [5 * 32 + 7 + c * 1024 for c in range(3)]].tolist()
    )
    assert loaded.labels.tolist() == [3, 1, 4, 1]
    assert loaded.name == "CIFAR-10"


def test_svhn_in_torchvisions_layout(tmp_path, monkeypatch, datasets):
    images = RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    path = tmp_path / "train_32x32.mat"
    write_svhn(path, images)
    parts = dict(datasets.SVHN.split_list)
    parts["train"] = ["unused", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", parts)
    loaded = load_dataset("svhn", "train", tmp_path)
    np.testing.assert_array_equal(loaded.images, images.transpose(3, 0, 1, 2))
    assert loaded.labels.tolist() == [1, 0, 2, 9]


def test_files_that_fail_their_checksum_are_not_taken(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for part in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        (folder / part).write_bytes(b"not the official file")
    with pytest.raises(DatasetError, match="data set cifar10 not found"):
        load_dataset("cifar10", "train", tmp_path)


def test_message_says_where_it_looked_and_how_to_download(tmp_path):
    with pytest.raises(DatasetError) as caught:
        load_dataset("svhn", "test", tmp_path)
    for part in (
        str(tmp_path),
        "torchvision's files",
        "svhn/svhn.npz",
        "download=True",
        "HVAE_DATA",
    ):
        assert part in str(caught.value)
    with pytest.raises(
        DatasetError, match=r"packed-mnist not found: .*load_dataset\('mnist', down"
    ):
        load_dataset("packed-mnist", "test", tmp_path)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A web server on the loopback that serves a folder; its address and the folder."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_download_goes_into_the_root_and_is_read_from_there(
    tmp_path, mirror, monkeypatch, datasets
):
    address, folder = mirror
    path = folder / "digits.mat"
    images = RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    write_svhn(path, images)
    listed = [f"{address}/{path.name}", "test.mat", hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", {"test": listed})
    root = tmp_path / "root"
    loaded = load_dataset("svhn", "test", root, download=True)
    np.testing.assert_array_equal(loaded.images, images.transpose(3, 0, 1, 2))
    path.unlink()
    np.testing.assert_array_equal(load_dataset("svhn", "test", root).images, loaded.images)


@pytest.mark.parametrize("name", ["absent.mat", "other.mat"])
def test_failed_download_is_a_dataset_error(tmp_path, mirror, monkeypatch, name, datasets):
    address, folder = mirror
    (folder / "other.mat").write_bytes(b"fails its checksum")
    listed = [f"{address}/{name}", "train.mat", "0" * 32]
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": listed})
    with pytest.raises(DatasetError, match=r"svhn cannot be downloaded into .*root"):
        load_dataset("svhn", "train", tmp_path / "root", download=True)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar100", "train", f"unknown data set 'cifar100'; there are {', '.join(DATASETS)}"),
        ("mnist", "valid", "mnist has the splits train and test, not 'valid'"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(name, split, message):
    with pytest.raises(DatasetError, match=message):
        load_dataset(name, split)


def test_roots(tmp_path, monkeypatch):
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    assert search_roots() == [tmp_path]
    assert default_root() == tmp_path
    assert search_roots("elsewhere") == [Path("elsewhere")]
    monkeypatch.delenv("HVAE_DATA")
    assert search_roots() == [Path.home() / ".cache" / "hvae_codec" / "data"]
    assert default_root() == search_roots()[0]
