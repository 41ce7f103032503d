"""Archives and codecs that are copied or sent to processes: by reference, against the originals."""

import copy
import gc
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import hvae_codec
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.codec.checkpoint import load_checkpoint, save_checkpoint
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.registry import load_file_once
from hvae_codec.errors import ArchiveError, CheckpointError, WrongModelError

IMAGES = np.random.default_rng(7).integers(0, 256, (6, 32, 32, 3), np.uint8)
MODELS = ("cifar10", "cifar10-maps", "mnist", "photo")


def open_files():
    return len(os.listdir("/proc/self/fd"))


def encoded(codec, image):
    """Runs in another process."""
    return codec.encode(image), codec.point


def picture_of(archive, number):
    """Runs in another process."""
    return archive[number], len(archive)


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        yield processes


@pytest.fixture
def path(tmp_path):
    with ArchiveWriter(tmp_path / "a.hvaa", hvae_codec.load("cifar10", 3)) as writer:
        writer.extend(IMAGES)
    return tmp_path / "a.hvaa"


@pytest.mark.parametrize("name", MODELS)
def test_a_codec_at_hand_travels_as_a_few_bytes(name):
    codec = hvae_codec.load(name)
    sent = pickle.dumps(codec)
    assert len(sent) < 500
    assert codec.info.model_id.encode() in sent
    assert pickle.loads(sent) is codec


def test_codecs_code_alike_in_another_process(pool):
    gray = IMAGES[0][:, :, :1]
    for codec, image in (
        (hvae_codec.load("cifar10", 2.5), IMAGES[0]),
        (hvae_codec.load("cifar10", 2, effort=1), IMAGES[0]),
        (hvae_codec.load("photo", 30), IMAGES[0]),
        (hvae_codec.load("mnist"), gray),
    ):
        found = pool.submit(encoded, codec, image).result()
        assert found == (codec.encode(image), codec.point)


def test_copies_share_the_networks_and_keep_their_settings():
    codec = hvae_codec.load("cifar10", 3)
    for made in (copy.copy(codec), copy.deepcopy(codec), copy.deepcopy([codec])[0]):
        assert made is not codec
        assert made.transform.networks is codec.transform.networks
        assert made.encode(IMAGES[0]) == codec.encode(IMAGES[0])
    photo = hvae_codec.load("photo", 20)
    for made in (copy.deepcopy(photo), pickle.loads(pickle.dumps(photo))):
        assert (made.quality, made.model) == (photo.quality, photo.model)


@pytest.fixture
def checkpoint(tmp_path):
    """The path of a model that is not at hand."""
    codec = hvae_codec.load("cifar10", 1)
    return saved(tmp_path / "own.safetensors", codec)


def saved(path: Path, codec: Codec) -> Path:
    loaded = codec.checkpoint
    card = {name: value for name, value in loaded.card.items() if name != "sha256"}
    save_checkpoint(path, loaded.model, loaded.tables, card, replace=True)
    return path


def test_a_codec_of_a_file_travels_as_its_path(pool, checkpoint, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    codec = hvae_codec.load_file(checkpoint.name).tuned(1)
    assert len(pickle.dumps(codec)) < 500
    monkeypatch.chdir("/")
    assert pool.submit(encoded, codec, IMAGES[0]).result()[0] == codec.encode(IMAGES[0])
    again = pickle.loads(pickle.dumps(codec))
    assert again.transform.networks is load_file_once(checkpoint).transform.networks


def test_another_model_in_the_file_is_refused(checkpoint):
    sent = pickle.dumps(hvae_codec.load_file(checkpoint))
    other = hvae_codec.load("cifar10", 2)
    saved(checkpoint, other)
    with pytest.raises(WrongModelError, match=rf"own\.safetensors here is {other.info.model_id}"):
        pickle.loads(sent)
    checkpoint.unlink()
    with pytest.raises(CheckpointError, match=r"own\.safetensors"):
        pickle.loads(sent)


def test_another_model_at_hand_is_refused(tmp_path, monkeypatch):
    sent = pickle.dumps(hvae_codec.load("cifar10", 3))
    loaded = hvae_codec.load("cifar10", 2).checkpoint
    card = {name: value for name, value in loaded.card.items() if name != "sha256"}
    save_checkpoint(tmp_path / "m.safetensors", loaded.model, loaded.tables, card | {"quality": 3})
    monkeypatch.setenv("HVAE_MODELS", str(tmp_path))
    with pytest.raises(WrongModelError, match=f"here is {loaded.model_id.hex()}"):
        pickle.loads(sent)


def test_a_codec_made_in_memory_says_that_it_has_no_source(checkpoint):
    codec = Codec(load_checkpoint(checkpoint))
    with pytest.raises(CheckpointError, match="made in memory: save its checkpoint"):
        pickle.dumps(codec)
    assert copy.deepcopy(codec).encode(IMAGES[0]) == codec.encode(IMAGES[0])


def test_an_archive_is_read_in_another_process(pool, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with Archive(path.name) as archive, Archive(path.name, hvae_codec.load("cifar10", 3)) as given:
        monkeypatch.chdir("/")
        for one in (archive, given):
            found, count = pool.submit(picture_of, one, 4).result()
            np.testing.assert_array_equal(found, archive[4])
            assert count == 6


@pytest.mark.parametrize(
    "made", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_a_copy_of_an_archive_has_its_own_file(path, made):
    first = Archive(path)
    second = made(first)
    expected = first[2]
    sent = pickle.dumps(first)
    first.close()
    np.testing.assert_array_equal(second[2], expected)
    # The number of the first one's file goes to another one, which nothing may read or close.
    with path.with_name("other").open("w+b", buffering=0) as stranger:
        first.close()
        with pickle.loads(sent) as third:
            np.testing.assert_array_equal(third[2], expected)
        second.close()
        assert stranger.write(b"y") == 1
    assert second.path == path


def test_dropped_copies_leave_no_file_open(path):
    archive = Archive(path)
    archive[0]
    gc.collect()
    before = open_files()
    for _ in range(5):
        copy.copy(archive)
    gc.collect()
    assert open_files() == before
    archive.close()
    assert open_files() == before - 1


def test_an_archive_that_was_replaced_is_refused_and_one_that_grew_is_not(path):
    codec = hvae_codec.load("cifar10", 3)
    sent = pickle.dumps(Archive(path))
    with ArchiveWriter(path, codec, append=True) as writer:
        writer.add(IMAGES[0])
    with pickle.loads(sent) as archive:
        assert len(archive) == 7
    path.unlink()
    before = open_files()
    with pytest.raises(FileNotFoundError):
        pickle.loads(sent)
    with ArchiveWriter(path, codec) as writer:
        writer.extend(IMAGES[:5])
    with pytest.raises(ArchiveError, match="no longer the archive that was opened, pickled"):
        pickle.loads(sent)
    assert open_files() == before


def test_a_closed_archive_says_so(path):
    archive = Archive(path)
    archive[0]
    archive.close()
    for use in (
        lambda: archive[0],
        lambda: archive.decode([0]),
        lambda: list(archive),
        lambda: archive.info,
        lambda: archive.names,
        lambda: "x" in archive,
        lambda: archive.features(),
        archive.verify,
    ):
        with pytest.raises(ArchiveError, match=r"a\.hvaa is closed; open it again"):
            use()


@pytest.mark.parametrize("made", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_writer_has_no_copies(path, made):
    with (
        ArchiveWriter(path, hvae_codec.load("cifar10", 3), append=True) as writer,
        pytest.raises(ArchiveError, match="neither copied nor sent"),
    ):
        made(writer)
