"""Archives of real pictures: what goes in comes out, in order, by number and by name, and small."""

import resource
import tempfile
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import hvae_codec
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.codec.archive.info import PictureInfo
from hvae_codec.errors import (
    AlphaError,
    ArchiveError,
    HvaeCodecError,
    ImageError,
    NotAnHvaeFileError,
    UnknownModelError,
    WrongModelError,
)
from tests.photographs import load_sample_image

CHINA = load_sample_image("china.jpg")
CROPS = np.stack(
    [CHINA[y : y + 32, x : x + 32] for y in range(0, 416, 32) for x in range(0, 640, 32)]
)
MIXED = [CHINA[:40, :50], CHINA[:32, :32, :1], CROPS[0], CHINA[:40, :50, :1], CROPS[1], CROPS[2]]

pytestmark = pytest.mark.usefixtures("one_thread")


def tiled_codec():
    """It is loaded once, by the first test that needs it."""
    return hvae_codec.load("cifar10")


def decoded_block(images):
    return tiled_codec().decode_block(tiled_codec().encode_block(images))


def write(path, images, names=None, **options):
    with ArchiveWriter(path, tiled_codec(), **options) as writer:
        writer.extend(images, names)
    return path


def close_to(found, expected):
    """Whether pictures agree but for the rounding of networks that ran on other batches."""
    same_shape = found.shape == expected.shape
    return same_shape and np.abs(found.astype(int) - expected.astype(int)).max() <= 2


def test_pictures_come_back_as_the_codec_decodes_them(tmp_path):
    path = write(tmp_path / "a.hvaa", CROPS[:20], block_tiles=8)
    expected = tiled_codec().decode_batch(tiled_codec().encode_batch(CROPS[:20]))
    with Archive(path) as archive:
        assert len(archive) == 20
        assert archive.info.blocks == 3
        assert close_to(np.stack(list(archive)), expected)
        assert close_to(np.stack(archive.decode(range(20))), expected)
        assert close_to(archive[13], expected[13])
        assert close_to(archive[-1], expected[19])
        assert close_to(np.stack(archive[17:2:-4]), expected[17:2:-4])
        shuffled = [7, 19, 7, -20, 8]
        assert close_to(np.stack(archive.decode(shuffled)), expected[shuffled])
        assert archive.decode([]) == archive[20:] == []
        assert archive.names == [None] * 20
        assert archive.verify() == []


def test_sizes_colours_and_points_mix_in_the_order_they_were_added(
    codec, other_point, tiny_at_hand, tmp_path
):
    path = tmp_path / "a.hvaa"
    with ArchiveWriter(path, codec, block_tiles=40) as writer:
        writer.extend(MIXED[:4], ["a", "b", None, "d"])
    with ArchiveWriter(path, other_point, append=True) as writer:
        writer.extend(MIXED[4:], ["e", "f"])
    blobs = [codec.encode(image) for image in MIXED[:4]]
    blobs += [other_point.encode(image) for image in MIXED[4:]]
    expected = [codec.decode(blob) for blob in blobs]
    with Archive(path, codec) as archive:
        assert archive.verify() == []
        assert archive.info.blocks == 2
        assert archive.names == ["a", "b", None, "d", "e", "f"]
        for found, wanted in zip(archive, expected, strict=True):
            assert close_to(found, wanted)
        order = (5, 2, 0, 2)
        for found, number in zip(archive.decode(order), order, strict=True):
            assert close_to(found, expected[number])
        assert close_to(archive["e"], expected[4])
        sizes = [(info.height, info.width, info.channels) for info in archive.listing()]
        assert sizes == [image.shape for image in MIXED]
        np.testing.assert_allclose(
            archive.features([4, 1]).mean,
            codec.features_from_bytes([blobs[4], blobs[1]]).mean,
            rtol=1e-4,
            atol=1e-4,
        )
        layers = archive.layer_features()
        assert [len(layer.mean) for layer in layers] == [6] * len(codec.info.z_dims)


SHAPES = [(1, 7, 3), (1, 7, 1), (32, 32, 3), (32, 32, 1), (33, 64, 3), (32, 32, 3)]
POOL = [CHINA[9 : 9 + h, 80 : 80 + w, :c] for h, w, c in SHAPES]


@settings(max_examples=10, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=9),
    st.integers(1, 9),
    st.sets(st.integers(0, 8)),
    st.permutations(range(9)),
)
def test_any_mixture_comes_back(kinds, block_tiles, flushes, order):
    names = [f"{i:03d}.png" if named else None for i, (_, named) in enumerate(kinds)]
    order = [i for i in order if i < len(kinds)]
    decoded = tiled_codec().decode_batch(tiled_codec().encode_batch(POOL))
    expected = [decoded[which] for which, _ in kinds]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.hvaa"
        with ArchiveWriter(path, tiled_codec(), block_tiles=block_tiles) as writer:
            for i, (which, _) in enumerate(kinds):
                assert writer.add(POOL[which], names[i]) == i
                if i in flushes:
                    writer.flush()
        with Archive(path) as archive:
            assert archive.names == names
            assert archive.verify() == []
            assert all(map(close_to, archive, expected))
            assert all(map(close_to, archive.decode(order), [expected[i] for i in order]))
            named = [(i, name) for i, name in enumerate(names) if name]
            assert [archive.number(name) for _, name in named] == [i for i, _ in named]


def test_names(tmp_path):
    names = ["a/1.png", "a/2.png", None, "träume", "a/10.png"]
    path = write(tmp_path / "a.hvaa", CROPS[:5], names, block_tiles=2)
    with Archive(path) as archive:
        assert archive.names == names
        assert archive.info.named
        assert close_to(archive["träume"], archive[3])
        assert archive.number("a/10.png") == 4
        assert "a/2.png" in archive
        assert 4 in archive
        assert -6 not in archive
        assert "a/3.png" not in archive
        assert next(archive.listing()) == PictureInfo(0, "a/1.png", 32, 32, 3)
        assert [info.name for info in archive.listing(range(1, 4))] == names[1:4]
        assert archive.blocks == [range(2), range(2, 4), range(4, 5)]
        with pytest.raises(KeyError, match=r"no image named 'a/3\.png'"):
            archive["a/3.png"]


def test_a_name_is_taken_once(tmp_path):
    path = tmp_path / "a.hvaa"
    with ArchiveWriter(path, tiled_codec()) as writer:
        writer.add(CROPS[0], "cat")
        with pytest.raises(ArchiveError, match="named 'cat' already"):
            writer.add(CROPS[1], "cat")
        assert writer.add(CROPS[1], "dog") == 1
    with ArchiveWriter(path, tiled_codec(), append=True) as writer:
        with pytest.raises(ArchiveError, match="named 'dog' already"):
            writer.add(CROPS[1], "dog")
        with pytest.raises(ArchiveError, match="1 to 1024 bytes"):
            writer.add(CROPS[1], "")
        assert writer.add(CROPS[2], "owl") == 2
    with Archive(path) as archive:
        assert archive.names == ["cat", "dog", "owl"]


def test_names_of_equal_hashes_are_told_apart(tmp_path):
    names = ["plumless", "buckeroo"]  # the best known pair of words with one CRC-32
    path = write(tmp_path / "a.hvaa", CROPS[:2], names, block_tiles=1)
    with Archive(path) as archive:
        assert [archive.number(name) for name in names] == [0, 1]


def test_overhead_is_at_most_1_1_bytes_a_picture(tmp_path):
    pictures = CROPS[:256]
    information = tiled_codec().information_bits(pictures).sum() / 8
    plain = write(tmp_path / "plain.hvaa", pictures).stat().st_size
    assert (plain - information) / len(pictures) <= 0.6  # one block bears the archive's 57 bytes
    more = write(tmp_path / "more.hvaa", np.concatenate([pictures] * 2)).stat().st_size
    assert (more - plain - information) / len(pictures) <= 0.26
    half = write(tmp_path / "half.hvaa", pictures, block_tiles=64).stat().st_size
    assert (half - information) / len(pictures) <= 1.2
    names = [f"test/{i:05d}.png" for i in range(256)]
    named = write(tmp_path / "named.hvaa", pictures, names).stat().st_size
    assert (named - plain) / len(pictures) <= 8.5


def test_features_are_those_of_the_bytes(tmp_path):
    path = write(tmp_path / "a.hvaa", [*CROPS[:9], *MIXED], block_tiles=4)
    blobs = tiled_codec().encode_batch([*CROPS[:9], *MIXED])
    expected = tiled_codec().features_from_bytes(blobs)
    with Archive(path) as archive:
        every = archive.features()
        np.testing.assert_allclose(every.mean, expected.mean, atol=1e-6)
        np.testing.assert_allclose(every.std, expected.std, atol=1e-6)
        some = archive.features([12, 3, 12])
        np.testing.assert_allclose(some.mean, expected.mean[[12, 3, 12]], atol=1e-6)
        assert archive.features([]).mean.shape == (0, 32)


def test_appending_keeps_what_is_there_byte_for_byte(tmp_path):
    path = write(tmp_path / "a.hvaa", CROPS[:5], block_tiles=2)
    with Archive(path) as archive:
        end = archive.info.file_bytes - 16 - 10 - 1 - 3 * 4 - 12  # where the index begins
        before = path.read_bytes()
        with ArchiveWriter(path, tiled_codec(), append=True) as writer:
            assert len(writer) == 5
            assert writer.extend(CROPS[5:8]) == range(5, 8)
            assert len(writer) == 8
        assert len(archive) == 5
        assert len(list(archive)) == 5
    assert path.read_bytes()[:end] == before[:end]
    with Archive(path) as archive:
        assert close_to(
            np.stack(list(archive)),
            decoded_block(CROPS[:8]),
        )


def test_appending_nothing_changes_nothing(tmp_path):
    path = write(tmp_path / "a.hvaa", CROPS[:3])
    before = path.read_bytes()
    write(path, [], append=True)
    assert path.read_bytes() == before
    empty = write(tmp_path / "empty.hvaa", [])
    with Archive(empty) as archive:
        assert len(archive) == 0
        assert list(archive) == archive.names == archive.verify() == []
        with pytest.raises(IndexError, match="0 images, none of number 0"):
            archive[0]


def test_all_kinds_of_pictures_and_streams_are_taken(tmp_path):
    Image.fromarray(CROPS[3]).save(tmp_path / "crop.png")
    kinds = [
        CROPS[3],
        tmp_path / "crop.png",
        Image.fromarray(CROPS[3]),
        torch.tensor(CROPS[3]).permute(2, 0, 1),
    ]
    path = write(tmp_path / "a.hvaa", (kind for kind in kinds))
    expected = tiled_codec().decode(tiled_codec().encode(CROPS[3]))
    with Archive(path) as archive:
        assert [close_to(picture, expected) for picture in archive] == [True] * 4


def test_a_buffer_may_be_filled_anew(tmp_path):
    buffer = np.empty_like(CROPS[0])
    with ArchiveWriter(tmp_path / "a.hvaa", tiled_codec()) as writer:
        for crop in CROPS[:3]:
            buffer[:] = crop
            writer.add(buffer)
    with Archive(tmp_path / "a.hvaa") as archive:
        assert close_to(
            np.stack(list(archive)),
            decoded_block(CROPS[:3]),
        )


def test_what_was_added_before_an_error_is_kept(tmp_path):
    path = tmp_path / "a.hvaa"
    writer = ArchiveWriter(path, tiled_codec())
    writer.extend(CROPS[:3])
    with pytest.raises(AlphaError):
        writer.add(np.zeros((32, 32, 4), np.uint8))
    with pytest.raises(ImageError, match="2 dimensions"):
        writer.extend(np.zeros((32, 32), np.uint8))
    with pytest.raises(ArchiveError, match="more images than names"):
        writer.extend(CROPS[3:5], ["only"])
    with pytest.raises(RuntimeError, match="mine"), writer:
        raise RuntimeError("mine")
    with Archive(path) as archive:
        assert len(archive) == 4
    with pytest.raises(ValueError, match="closed"):
        writer.add(CROPS[0])
    writer.close()


@pytest.fixture
def small_disk():
    """Files of this process may have 2,000 bytes until the function that is given is called."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_and_earlier_blocks_survive(tmp_path, small_disk):
    path = tmp_path / "a.hvaa"
    writer = ArchiveWriter(path, tiled_codec(), block_tiles=4)
    with pytest.raises(OSError, match="too large"):
        writer.extend(CROPS[:100])
    with pytest.raises(OSError, match="too large"):
        writer.add(CROPS[0])
    small_disk()
    writer.close()
    with Archive(path) as archive:
        assert 4 <= len(archive) < 96
        assert archive.verify() == []
        assert close_to(archive[3], tiled_codec().decode(tiled_codec().encode(CROPS[3])))


def test_files_that_cannot_be_written_to(tmp_path):
    path = write(tmp_path / "a.hvaa", CROPS[:2])
    with pytest.raises(FileExistsError):
        ArchiveWriter(path, tiled_codec())
    with pytest.raises(WrongModelError, match=r"a\.hvaa is of model"):
        ArchiveWriter(path, hvae_codec.load("cifar10", quality=1), append=True)
    other = tmp_path / "other"
    other.write_bytes(b"something else entirely")
    with pytest.raises(NotAnHvaeFileError, match=r"736f6d65"):
        ArchiveWriter(other, tiled_codec(), append=True)
    assert other.read_bytes() == b"something else entirely"
    with (
        ArchiveWriter(path, tiled_codec(), append=True),
        pytest.raises(ArchiveError, match="another writer"),
    ):
        ArchiveWriter(path, tiled_codec(), append=True)
    for tiles in (0, 1 << 17, "3", None, 2.5, float("nan"), Decimal("NaN")):
        with pytest.raises(HvaeCodecError, match="block_tiles must"):
            ArchiveWriter(tmp_path / "new.hvaa", tiled_codec(), block_tiles=tiles)
    assert not (tmp_path / "new.hvaa").exists()
    grey = hvae_codec.load("mnist")
    with ArchiveWriter(tmp_path / "grey.hvaa", grey) as writer:
        with pytest.raises(ImageError, match="codes grey images"):
            writer.add(CROPS[0])
        writer.add(CHINA[:28, :28, :1])
    with Archive(tmp_path / "grey.hvaa") as archive:
        assert archive[0].shape == (28, 28, 1)
        assert archive.verify() == []


def test_files_that_cannot_be_read(tmp_path):
    path = write(tmp_path / "a.hvaa", CROPS[:2])
    with pytest.raises(WrongModelError, match=r"a\.hvaa"):
        Archive(path, hvae_codec.load("cifar10", quality=1))
    assert len(list(Archive(path, tiled_codec()))) == 2
    with pytest.raises(FileNotFoundError):
        Archive(tmp_path / "none.hvaa")
    blob = tmp_path / "a.hvae"
    blob.write_bytes(tiled_codec().encode(CROPS[0]))
    for file in (blob, tmp_path / "empty"):
        file.touch()
        with pytest.raises(NotAnHvaeFileError, match=file.name):
            Archive(file)
    with Archive(path) as archive:
        for index in (2, -3):
            with pytest.raises(IndexError, match=f"2 images, none of number {index}"):
                archive[index]
        with pytest.raises(ArchiveError):
            archive[0.5]
    path.write_bytes(b"\xf6AR?" + path.read_bytes()[4:18])
    with pytest.raises(NotAnHvaeFileError):
        Archive(path)


def test_an_archive_whose_model_is_not_at_hand_is_listed_and_verified(tmp_path, monkeypatch):
    path = write(tmp_path / "a.hvaa", CROPS[:2], ["a", "b"])
    model_id = tiled_codec().info.model_id
    monkeypatch.setenv("HVAE_MODELS", str(tmp_path))
    with Archive(path) as archive:
        assert archive.info.model_id == model_id
        assert archive.info.tile == (32, 32)
        assert archive.names == ["a", "b"]
        assert archive.verify() == []
        with pytest.raises(UnknownModelError, match=model_id):
            archive[0]


def test_threads_may_share_an_archive(tmp_path):
    path = write(tmp_path / "a.hvaa", CROPS[:12], block_tiles=4)
    with Archive(path) as archive:
        expected = list(archive)

        def read(seed):
            order = np.random.default_rng(seed).integers(0, 12, 6)
            return [close_to(archive[i], expected[i]) for i in order]

        with ThreadPoolExecutor(3) as pool:
            assert all(map(all, pool.map(read, range(3))))


def test_iteration_can_be_left(tmp_path):
    path = write(tmp_path / "a.hvaa", CROPS[:12], block_tiles=4)
    with Archive(path) as archive:
        assert close_to(next(iter(archive)), archive[0])
    with pytest.raises(ArchiveError, match="is closed"):
        archive[0]
