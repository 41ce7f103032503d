"""Labels of an archive's images: their bytes, and what writer, reader and commands do with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from hvae_codec import Archive, ArchiveWriter
from hvae_codec.cli import main
from hvae_codec.codec.archive.blocks import code_block
from hvae_codec.codec.archive.labels import decode_labels, encode_labels
from hvae_codec.errors import ArchiveError, CorruptError
from tests.codec.archive.strategies import LABELS
from tests.codec.archive.test_archive import CROPS, MIXED, tiled_codec

pytestmark = pytest.mark.usefixtures("one_thread")

GIVEN = [3, None, {"class": "sign", "box": [1, 2.5, None]}, -1, np.int64(7), None]
READ = [3, None, {"class": "sign", "box": [1, 2.5, None]}, -1, 7, None]
NAMES = ["a/1.png", None, "b.png", None, None, "a/2.png"]


@given(st.lists(LABELS, max_size=20))
def test_labels_come_back(labels):
    data = encode_labels(labels)
    assert decode_labels(data, len(labels)) == tuple(labels)


def test_small_labels_are_short():
    assert [len(encode_labels([n])) for n in (0, 31, 32, 4095, 4096, -32, -33)] == [
        *(1, 1, 2, 2, 3, 1, 2)
    ]
    assert encode_labels([None, None]) == b""
    assert decode_labels(encode_labels([np.int64(7), 2**31 - 1, -(2**31)]), 3) == (
        *(7, 2**31 - 1, -(2**31)),
    )


@settings(derandomize=True)
@given(st.lists(LABELS, max_size=20), st.data())
def test_damaged_labels_are_read_in_bounds_or_refused(labels, data):
    mutable = bytearray(encode_labels(labels))
    for _ in range(data.draw(st.integers(1, 3)) if mutable else 0):
        mutable[data.draw(st.integers(0, len(mutable) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_labels(bytes(mutable), len(labels))
    except CorruptError:
        return
    assert len(found) == len(labels)
    for label in found:
        assert label is None or isinstance(label, dict) or -(2**31) <= label < 2**31


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("00", "do not fit"),
        ("03 00", "do not fit"),
        ("02", "no JSON object"),
        ("06 31", "no JSON object"),
        ("06 7B 7D 00", "do not fit"),
        ("08 7B 7D", "do not fit"),
        ("0A 5B 31 5D 20", "no JSON object"),
        ("14 7B 22 61 22 3A 4E 61 4E 7D", "no JSON object"),
        ("06 FF FF", "no JSON object"),
        ("84 80 08", "65537 bytes"),
        ("FF FF FF FF 7F", "label"),
    ],
)
def test_forged_labels_are_refused(text, message):
    with pytest.raises(CorruptError, match=message):
        decode_labels(bytes.fromhex(text), 1)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (True, "not bool True"),
        (2**31, "2147483648"),
        (-(2**31) - 1, "-2147483648..2147483647"),
        (1.0, "a whole number, a JSON object .* not float 1.0"),
        ("cat", "not str 'cat'"),
        ([1], "not list"),
        ({"a": float("nan")}, "cannot be written as JSON"),
        ({"a": b""}, "cannot be written as JSON"),
        ({"a": "\ud800"}, "cannot be written as JSON"),
        ({1: "a"}, "would not be read as it is"),
        ({"a": (1,)}, "would not be read as it is"),
        ({"a": "x" * 65_536}, "at most 65536 bytes as JSON; this one has 65544"),
    ],
)
def test_labels_that_an_archive_cannot_hold(label, message):
    with pytest.raises(ArchiveError, match=message):
        encode_labels([label])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """An archive of six images in two blocks, with labels and names."""
    path = tmp_path_factory.mktemp("labels") / "x.hvaa"
    with ArchiveWriter(path, tiled_codec(), labels=True) as writer:
        writer.extend(MIXED[:4], NAMES[:4], GIVEN[:4])
        writer.flush()
        for image, name, label in zip(MIXED[4:], NAMES[4:], GIVEN[4:], strict=True):
            writer.add(image, name, label)
    return path


def test_labels_are_read_as_they_were_written(labelled):
    with Archive(labelled) as archive:
        assert archive.info.labels
        assert archive.labels == READ
        assert archive.names == NAMES
        assert archive.verify() == []
        assert archive.number("a/2.png") == 5
        assert [type(label) for label in archive.labels if label is not None][2:] == [int, int]


def test_labels_are_found_without_the_index(labelled, tmp_path):
    cut = tmp_path / "cut.hvaa"
    data = labelled.read_bytes()
    offset = int.from_bytes(data[-12:-4], "big")
    cut.write_bytes(data[:offset])
    with pytest.warns(UserWarning, match="does not end with its index"):
        archive = Archive(cut)
    with archive:
        assert (archive.labels, archive.names) == (READ, NAMES)


def test_images_are_the_same_with_and_without_labels(labelled, tmp_path):
    with ArchiveWriter(tmp_path / "plain.hvaa", tiled_codec()) as writer:
        writer.extend(MIXED[:4], NAMES[:4])
        writer.flush()
        writer.extend(MIXED[4:], NAMES[4:])
    with Archive(tmp_path / "plain.hvaa") as plain, Archive(labelled) as archive:
        assert not plain.info.labels
        assert plain.labels == [None] * 6
        for one, other in zip(plain, archive, strict=True):
            assert np.array_equal(one, other)
        # Lengths of names; the labels 13, 0, 72 with the object, 3; the labels 29, 0.
        added = 2 + 4 + len('{"class":"sign","box":[1,2.5,null]}') + 2
        assert archive.info.file_bytes - plain.info.file_bytes == added


def test_a_label_of_a_caller_may_change_once_it_was_added(tmp_path):
    label = {"tags": ["a"]}
    with ArchiveWriter(tmp_path / "x.hvaa", tiled_codec(), labels=True) as writer:
        writer.add(CROPS[0], label=label)
        label["tags"].append("b")
    with Archive(tmp_path / "x.hvaa") as archive:
        assert archive.labels == [{"tags": ["a"]}]


def test_an_archive_without_room_for_labels_takes_none(tmp_path):
    path = tmp_path / "x.hvaa"
    with ArchiveWriter(path, tiled_codec()) as writer:
        writer.add(CROPS[0])
        with pytest.raises(ArchiveError, match=r"no room for labels: .* labels=True"):
            writer.add(CROPS[1], label=1)
        assert len(writer) == 1
    with pytest.raises(ArchiveError, match="was made without"):
        ArchiveWriter(path, tiled_codec(), append=True, labels=True)
    with ArchiveWriter(path, tiled_codec(), append=True) as writer:
        writer.add(CROPS[1])
    with Archive(path) as archive:
        assert archive.labels == [None, None]


def test_what_is_appended_has_labels_where_the_archive_has_room(labelled, tmp_path):
    path = tmp_path / "x.hvaa"
    path.write_bytes(labelled.read_bytes())
    with ArchiveWriter(path, tiled_codec(), append=True) as writer:
        assert writer.has_labels
        writer.add(CROPS[0], label=9)
        block = code_block(tiled_codec(), [CROPS[1]], [None], [{"k": 1}])
        writer.add_block(block)
    with Archive(path) as archive:
        assert archive.labels == [*READ, 9, {"k": 1}]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], "more images than labels: each image has one label, or None; 1 were added"),
        ([1, 2, 3], "more labels than images: .* 2 were added"),
        ({"a": 1}, "labels are a list, one label or None for each image; got one dict"),
        (3, "labels are a list, .* got one int"),
    ],
)
def test_labels_are_as_many_as_images(tmp_path, labels, message):
    with (
        ArchiveWriter(tmp_path / "x.hvaa", tiled_codec(), labels=True) as writer,
        pytest.raises(ArchiveError, match=message),
    ):
        writer.extend(CROPS[:2], labels=labels)


def test_blocks_hold_so_many_bytes_of_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("hvae_codec.codec.archive.blocks.MAX_BLOCK_LABEL_BYTES", 20)
    with ArchiveWriter(tmp_path / "x.hvaa", tiled_codec(), labels=True) as writer:
        for number in range(4):
            writer.add(CROPS[number], label={"n": number})  # 1 + 7 bytes
    with Archive(tmp_path / "x.hvaa") as archive:
        assert [len(block) for block in archive.blocks] == [2, 2]
        assert archive.labels == [{"n": number} for number in range(4)]


def test_commands_show_and_unpack_labels(labelled, tmp_path, capsys):
    assert main(["ls", str(labelled)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("a/1.png  3")
    assert lines[2].endswith('b.png  {"class": "sign", "box": [1, 2.5, null]}')
    assert lines[5].endswith("a/2.png")
    assert main(["ls", "--json", str(labelled)]) == 0
    assert [row["label"] for row in json.loads(capsys.readouterr().out)["listing"]] == READ
    assert main(["unpack", str(labelled), "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {
        "a/1.png": 3,
        "b.png": READ[2],
        "3.png": -1,
        "4.png": 7,
    }
    chosen = ["2", "4"]
    assert main(["unpack", str(labelled), *chosen, "--output", str(tmp_path / "two")]) == 0
    assert json.loads((tmp_path / "two" / "labels.json").read_text()) == {
        "b.png": READ[2],
        "4.png": 7,
    }


def test_unpack_writes_labels_beside_an_array(tmp_path):
    path, output = tmp_path / "x.hvaa", tmp_path / "x.npy"
    with ArchiveWriter(path, tiled_codec(), labels=True) as writer:
        writer.extend(CROPS[:3], labels=[5, None, 6])
    assert main(["unpack", str(path), "2", "0", "--output", str(output)]) == 0
    assert json.loads((tmp_path / "x.labels.json").read_text()) == [6, 5]
    assert len(np.load(output)) == 2


def test_pack_keeps_the_labels_of_a_data_set(tmp_path, monkeypatch, capsys):
    """Of MNIST's form, as torchvision writes it: big-endian counts, then bytes."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    images, labels = CROPS[:6, :28, :28, 0], [5, 0, 4, 1, 9, 2]
    for kind in ("train", "t10k"):
        head = np.array([0x803, 6, 28, 28], ">i4").tobytes()
        (folder / f"{kind}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = np.array([0x801, 6], ">i4").tobytes()
        (folder / f"{kind}-labels-idx1-ubyte").write_bytes(head + bytes(labels))
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    pack = ["pack", "--data", "mnist", "--model", "mnist", "--output"]
    assert main([*pack, str(tmp_path / "x.hvaa")]) == 0
    with Archive(tmp_path / "x.hvaa") as archive:
        assert archive.labels == labels
    assert main([*pack, str(tmp_path / "plain.hvaa"), "--no-labels"]) == 0
    with Archive(tmp_path / "plain.hvaa") as archive:
        assert not archive.info.labels
    capsys.readouterr()
    assert main([*pack, str(tmp_path / "plain.hvaa"), "--append"]) == 1
    assert "--no-labels" in capsys.readouterr().err


def test_pack_numbers_class_folders_as_torchvision_does(tmp_path, capsys):
    place, archive = tmp_path / "in", tmp_path / "x.hvaa"
    files = ["b/1.png", "B/x.png", "a/deep/2.png", "a/0.png", "ab/y.png"]
    for file, image in zip(files, CROPS, strict=False):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / file)
    pack = ["pack", str(place), "--model", "cifar10", "--folder-labels", "--output", str(archive)]
    assert main([*pack, "--json"]) == 0
    expected = ImageFolder(str(place))
    assert json.loads(capsys.readouterr().out)["classes"] == expected.classes
    named = {Path(path).relative_to(place).as_posix(): label for path, label in expected.samples}
    with Archive(archive) as packed:
        assert dict(zip(packed.names, packed.labels, strict=True)) == named
    with pytest.raises(SystemExit, match="2"):
        main([*pack, "--append"])
    assert "--append" in capsys.readouterr().err
    (place / "none").mkdir()  # which torchvision refuses, too
    with pytest.raises(FileNotFoundError, match="none"):
        ImageFolder(str(place))
    assert main([*pack, "--replace"]) == 1
    assert f"{place}/none holds no image" in capsys.readouterr().err
    Image.fromarray(CROPS[0]).save(place / "z.png")
    assert main([*pack, "--replace"]) == 1
    assert f"{place}/z.png lies in no class folder" in capsys.readouterr().err
    with Archive(archive) as packed:
        assert len(packed) == len(files)
