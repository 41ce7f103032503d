"""Archives that were damaged, cut or left by a killed writer: nothing is silently wrong."""

import shutil
import signal
import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hvae_codec
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.codec.archive.format import HEAD_BYTES, HEADER_BYTES, parse_head
from hvae_codec.codec.archive.index import RecoveredWarning
from hvae_codec.errors import BitstreamError, CorruptError, HvaeCodecError, NotAnHvaeFileError
from tests.photographs import load_sample_image

CHINA = load_sample_image("china.jpg")
PICTURES = [CHINA[y : y + 32, 300:332] for y in range(0, 160, 32)] + [CHINA[:20, :40, :1]] * 2
NAMES = ["a.png", "b.png", "c.png", None, "e.png", "f.png", "g.png"]
COUNT = len(PICTURES)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiled_codec():
    """It is loaded once, by the first test that needs it."""
    return hvae_codec.load("cifar10")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """An archive of three blocks, the second of two sizes, and where each begins and the index."""
    path = tmp_path_factory.mktemp("sound") / "sound.hvaa"
    with ArchiveWriter(path, tiled_codec(), block_tiles=3) as writer:
        for picture, name in zip(PICTURES, NAMES, strict=True):
            writer.add(picture, name)
    data = path.read_bytes()
    starts = [HEADER_BYTES]
    while data[starts[-1] :].startswith(b"\xf6BLK"):
        head = parse_head(data[starts[-1] : starts[-1] + HEAD_BYTES])
        starts.append(starts[-1] + HEAD_BYTES + head.directory_bytes + head.data_bytes)
    return data, starts


BLOCKS = [range(3), range(3, 6), range(6, 7)]


def symbols_of(path):
    """For each picture of an archive its symbols, or None where it cannot be read; the texts of
    warnings; and what `verify` says.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        archive = Archive(path, tiled_codec())
    with archive:
        found = []
        for i in range(len(archive)):
            try:
                entries = archive._index.by_entry(path, np.array([i]))
                (block,) = next(iter(archive._batches(entries, None)))
            except CorruptError:
                found.append(None)
            else:
                found.append([layer.tolist() for layer in block.symbols])
        return found, [str(warning.message) for warning in caught], archive.verify()


@pytest.fixture(scope="module")
def truth(sound, tmp_path_factory):
    path = tmp_path_factory.mktemp("truth") / "a.hvaa"
    path.write_bytes(sound[0])
    found, warned, damages = symbols_of(path)
    assert None not in found
    assert (warned, damages) == ([], [])
    assert [len(found[i]) for i in range(COUNT)] == [2] * COUNT
    return found


def block_of(position, starts):
    """Number of the block in which a byte lies; -1 for the header, len(BLOCKS) for the index."""
    return int(np.searchsorted(starts, position, "right")) - 1


def test_every_flipped_bit_is_noticed_and_costs_at_most_its_block(sound, truth, tmp_path):
    data, starts = sound
    path = tmp_path / "a.hvaa"
    assert len(starts) == len(BLOCKS) + 1
    # A bit of every third byte; test_archive_format takes all bits of heads, directories and index.
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position * 5 + 3) % 8
        path.write_bytes(damaged)
        found, warned, damages = symbols_of(path)
        assert len(found) == COUNT
        block = block_of(position, starts)
        if block in range(len(BLOCKS)):
            lost = [i for i in range(COUNT) if found[i] is None]
            assert set(lost) <= set(BLOCKS[block])
            assert [damage.first for damage in damages] == [BLOCKS[block].start]
            assert warned == []
        else:
            assert None not in found
            assert damages == []
            assert len(warned) == 1
        assert all(found[i] in (None, truth[i]) for i in range(COUNT))


def test_an_archive_cut_anywhere_keeps_all_whole_blocks(sound, truth, tmp_path):
    data, starts = sound
    path = tmp_path / "a.hvaa"
    for length in range(0, len(data), 5):
        path.write_bytes(data[:length])
        if length < HEADER_BYTES:
            with pytest.raises(BitstreamError):
                Archive(path)
            continue
        found, warned, damages = symbols_of(path)
        whole = [block for block, end in zip(BLOCKS, starts[1:], strict=True) if end <= length]
        assert found == truth[: whole[-1].stop if whole else 0]
        assert damages == []
        assert len(warned) == 1
        assert f"found {len(found)} images" in warned[0]


@pytest.mark.parametrize("lost", range(3))
def test_without_an_index_blocks_behind_a_damaged_head_are_found(sound, truth, tmp_path, lost):
    data, starts = sound
    path = tmp_path / "a.hvaa"
    damaged = bytearray(data[: starts[-1]])
    damaged[starts[lost] + 5] ^= 1
    path.write_bytes(damaged)
    found, warned, damages = symbols_of(path)
    if lost == 2:  # at the end it cannot be told from one that was never finished
        assert found == truth[:6]
        assert damages == []
        return
    assert found == [None if i in BLOCKS[lost] else truth[i] for i in range(COUNT)]
    assert f"of which {len(BLOCKS[lost])} are lost" in warned[0]
    assert [(d.first, d.count) for d in damages] == [(BLOCKS[lost].start, len(BLOCKS[lost]))]
    with pytest.warns(RecoveredWarning) as caught:
        archive = Archive(path)
    assert [warning.filename for warning in caught] == [__file__]
    with archive:
        first = BLOCKS[lost].start
        for use in (
            archive.__getitem__,
            lambda i: archive.decode([i]),
            lambda i: archive.features([i]),
        ):
            with pytest.raises(CorruptError, match=f"block of image {first} is lost"):
                use(first)
        for use in (archive.__iter__, archive.listing):
            with pytest.raises(CorruptError, match="is lost"):
                list(use())
        assert archive.number("g.png") == 6
    with pytest.raises(CorruptError, match="cannot be appended to"):
        ArchiveWriter(path, tiled_codec(), append=True)
    assert path.read_bytes() == damaged


def test_a_block_that_stands_in_the_wrong_place_is_not_taken(sound, truth, tmp_path):
    data, starts = sound
    path = tmp_path / "a.hvaa"
    a, b, c = (data[start:end] for start, end in pairwise(starts))
    header, index = data[:HEADER_BYTES], data[starts[-1] :]
    path.write_bytes(header + a + c + b)
    assert symbols_of(path)[0] == truth[:6]
    path.write_bytes(header + a + c)
    assert symbols_of(path)[0] == truth[:3]
    path.write_bytes(header + a + b + b + c)
    assert symbols_of(path)[0] == truth
    with pytest.raises(CorruptError, match="cannot be appended to"):
        ArchiveWriter(path, tiled_codec(), append=True)
    path.write_bytes(header + b + a + c + index)
    found, warned, damages = symbols_of(path)
    assert warned == []
    assert all(found[i] in (None, truth[i]) for i in range(COUNT))
    assert [damage.first for damage in damages] == [0, 3]
    path.write_bytes(header + a + bytes(70) + b + c)
    assert symbols_of(path)[0] == truth


@settings(max_examples=80, derandomize=True)
@given(data=st.data())
def test_damage_of_any_kind_is_an_error_a_warning_or_reported(sound, truth, data, tmp_path_factory):
    original, _ = sound
    path = tmp_path_factory.getbasetemp() / "damaged.hvaa"
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        kind = data.draw(st.sampled_from(["insert", "delete", "write", "move"]))
        size = data.draw(st.integers(1, 40))
        if kind == "insert":
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        elif kind == "delete":
            del damaged[at : at + size]
        elif kind == "write":
            damaged[at : at + size] = data.draw(st.binary(min_size=1, max_size=40))
        else:
            damaged[at:at] = original[-size:]
    path.write_bytes(damaged)
    try:
        found, warned, damages = symbols_of(path)
    except BitstreamError:
        return
    # Pictures keep their numbers, and are what they were or not there.
    assert all(symbols in (None, truth[i]) for i, symbols in enumerate(found))
    if bytes(damaged) != original:
        assert warned or damages
    if not warned:
        assert len(found) == COUNT


def test_what_a_killed_writer_left_is_read_and_gone_on_with(sound, truth, tmp_path):
    data, starts = sound
    path = tmp_path / "a.hvaa"
    path.write_bytes(data[: starts[2] + 40])
    with pytest.warns(RecoveredWarning, match="behind image 5") as warned:
        writer = ArchiveWriter(path, tiled_codec(), append=True, block_tiles=3)
    assert [warning.filename for warning in warned] == [__file__]
    with writer:
        writer.add(PICTURES[6], NAMES[6])
    assert path.read_bytes() == data
    path.write_bytes(data[: starts[2]])
    with pytest.warns(RecoveredWarning):
        ArchiveWriter(path, tiled_codec(), append=True).close()
    found, warned, _ = symbols_of(path)
    assert (found, warned) == (truth[:6], [])


WRITER = """
import sys, numpy as np, torch, hvae_codec
torch.set_num_threads(1)
pictures = np.load(sys.argv[2])
codec = hvae_codec.load("cifar10")
writer = hvae_codec.ArchiveWriter(sys.argv[1], codec, append=True, block_tiles=4)
while True:
    for picture in pictures:
        writer.add(picture, f"new/{len(writer)}")
    print(len(writer), flush=True)
"""


def test_kill_9_while_appending_loses_at_most_the_blocks_in_flight(sound, truth, tmp_path):
    data, _ = sound
    path = tmp_path / "a.hvaa"
    path.write_bytes(data)
    new = np.stack(PICTURES[:4])
    np.save(tmp_path / "new.npy", new)
    command = [sys.executable, "-c", WRITER, path, tmp_path / "new.npy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        added = [int(process.stdout.readline()) for _ in range(25)]
        process.send_signal(signal.SIGKILL)
        added += [int(line) for line in process.stdout.read().split()]
    assert process.returncode == -signal.SIGKILL
    shutil.copy(path, tmp_path / "copy.hvaa")
    with pytest.warns(RecoveredWarning, match="does not end with its index"):
        archive = Archive(path)
    with archive:
        # Of the blocks of 4 pictures, one was being written and one was not begun.
        assert len(archive) >= added[-1] - 4
        assert (len(archive) - COUNT) % 4 == 0
        assert archive.verify() == []
        assert archive.names[:COUNT] == NAMES
        assert archive.names[COUNT:] == [f"new/{i}" for i in range(COUNT, len(archive))]
        last = archive.decode(range(len(archive) - 4, len(archive)))
        expected = tiled_codec().decode_block(tiled_codec().encode_block(new))
        assert np.abs(np.stack(last).astype(int) - expected.astype(int)).max() <= 1
        count = len(archive)
    with pytest.warns(RecoveredWarning):
        writer = ArchiveWriter(path, tiled_codec(), append=True)
    with writer:
        assert writer.add(new[0]) == count
    found, warned, damages = symbols_of(path)
    assert found[:COUNT] == truth
    assert (len(found), warned, damages) == (count + 1, [], [])


def test_no_bytes_are_an_archive_by_chance(tmp_path):
    path = tmp_path / "a.hvaa"
    for noise in (b"", b"\xf6", b"\xf6ARC", b"\x89PNG\r\n\x1a\n" * 9, b"\xf6END" * 20):
        path.write_bytes(noise)
        with pytest.raises((NotAnHvaeFileError, CorruptError)) as raised:
            Archive(path)
        assert isinstance(raised.value, HvaeCodecError)
        assert str(path) in str(raised.value)
