"""Paths, durations, sets and objects that show nothing, where something else is documented: the
library's error, or, of what can be understood, the same result.
"""

import os

import numpy as np
import pytest
import torch
from PIL import Image

import hvae_codec
from hvae_codec import Archive, ArchiveWriter, HVAEFeatures
from hvae_codec.data import ImageDataset
from hvae_codec.errors import (
    ArchiveError,
    DatasetError,
    EvaluationError,
    HvaeCodecError,
    ImageError,
    NotAnHvaeFileError,
)
from hvae_codec.evaluation.metrics import anomaly
from hvae_codec.features import ArchivePictures

TILED = hvae_codec.load("cifar10", 3)
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
DURATION = np.timedelta64(3)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "a.hvaa"
    with ArchiveWriter(path, TILED) as writer:
        writer.extend([IMAGE, IMAGE], ["n", None])
    return path


class PathInBytes:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return os.fsencode(self.path)


class Unshown:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "call",
    [
        lambda: hvae_codec.load("cifar10", DURATION),
        lambda: hvae_codec.load("cifar10", effort=DURATION),
        lambda: TILED.sample(DURATION),
        lambda: TILED.sample(10**400),
        lambda: TILED.layer_features([IMAGE], np.timedelta64(1)),
        lambda: TILED.encode(IMAGE, effort=1, trade=np.timedelta64(2)),
        lambda: TILED.encode(IMAGE, effort=1, trade=memoryview(b"3")),
        lambda: TILED.encode(IMAGE, effort=1, trade=bytearray(b"3")),
        lambda: TILED.encode_batch([IMAGE], effort=1, trade=np.ma.masked_array([2.0], [True])),
        lambda: HVAEFeatures("cifar10", batch_size=DURATION).fit(),
        lambda: HVAEFeatures("cifar10", batch_size=Unshown()).fit(),
        lambda: HVAEFeatures("cifar10", layers=Unshown()).fit(),
        lambda: HVAEFeatures("cifar10", statistics=np.array("mean")).fit(),
        lambda: HVAEFeatures(Unshown()).fit(),
        lambda: hvae_codec.load(np.array("cifar10")),
        lambda: hvae_codec.load(Unshown()),
        lambda: hvae_codec.encode(IMAGE, np.array(3), max_bytes=500),
        lambda: hvae_codec.encode(IMAGE, torch.tensor(3), max_bytes=500),
        lambda: TILED.decode(Unshown()),
    ],
)
def test_other_numbers_names_and_what_shows_nothing(call):
    with pytest.raises(HvaeCodecError) as raised:
        call()
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("given", [5, None, 2.5, b"a.hvaa", "", "a\0b", ["a"]], ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        Archive,
        lambda path: ArchiveWriter(path, TILED),
        hvae_codec.load_file,
        ArchivePictures,
        HVAEFeatures("cifar10").save,
        HVAEFeatures.load,
    ],
)
def test_what_is_no_path(call, given):
    with pytest.raises(HvaeCodecError, match="must be a path"):
        call(given)


def test_paths_in_bytes_are_taken(archive, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "x.png")
    blob = TILED.encode(IMAGE)
    (tmp_path / "x.hvae").write_bytes(blob)
    assert TILED.encode(PathInBytes(tmp_path / "x.png")) == blob
    np.testing.assert_array_equal(
        TILED.decode(PathInBytes(tmp_path / "x.hvae")), TILED.decode(blob)
    )
    assert len(Archive(PathInBytes(archive))) == 2


@pytest.mark.parametrize(
    "given", [5, 1.0, None, "0", b"\0", {0, 1}, [0.5], ["n"], [None], torch.tensor(1)], ids=repr
)
def test_numbers_of_an_archive(archive, given):
    with Archive(archive) as opened:
        for call in (opened.decode, lambda x: list(opened.listing(x))):
            if given is not None or call == opened.decode:
                with pytest.raises(ArchiveError, match="a list of whole numbers"):
                    call(given)
        for key in (1.0, None, [0], slice("a"), Unshown(), torch.zeros(1, device="meta")):
            with pytest.raises(ArchiveError):
                opened[key]
        assert DURATION not in opened


@pytest.mark.parametrize("given", [{"x.png"}, frozenset(), memoryview(IMAGE), 5, None, IMAGE])
def test_what_is_no_batch_of_images(tmp_path, given):
    with pytest.raises(ImageError):
        TILED.encode_batch(given)
    with ArchiveWriter(tmp_path / "a.hvaa", TILED) as writer, pytest.raises(ImageError):
        writer.extend(given)
    with pytest.raises(ArchiveError, match="closed"):
        writer.reserve("n")


def test_files_without_order_and_released_buffers():
    with pytest.raises(NotAnHvaeFileError, match="order"):
        TILED.decode_batch({b"x"})
    view = memoryview(bytearray(TILED.encode(IMAGE)))
    view.release()
    with pytest.raises(NotAnHvaeFileError, match="released"):
        TILED.decode(view)


def test_a_device_without_an_end_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr("hvae_codec.codec.images.load._MAX_FILE_BYTES", 1 << 20)
    with pytest.raises(ImageError, match="at most 1,048,576"):
        TILED.encode("/dev/zero")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ([IMAGE.tolist()], None),
        (None, None),
        (np.ma.masked_array(IMAGE[None], IMAGE[None] > 9), None),
        (IMAGE[None], [0]),
        (IMAGE[None], np.ma.masked_array([0], [True])),
    ],
)
def test_arrays_of_a_data_set(images, labels):
    with pytest.raises(DatasetError, match="an array of NumPy"):
        ImageDataset(images, labels, "n", "train")


@pytest.mark.parametrize("scores", [[], [np.nan], ["1"], None, {1.0}, np.ones((1, 2)), Unshown()])
def test_scores_of_anomalies(scores):
    for call in (anomaly.roc, anomaly.distance_from_typical):
        for arguments in ((scores, [1.0]), ([1.0], scores)):
            with pytest.raises(EvaluationError, match="finite numbers"):
                call(*arguments)
    with pytest.raises(HvaeCodecError, match="codec"):
        anomaly.rate_bits("cifar10", [IMAGE])
