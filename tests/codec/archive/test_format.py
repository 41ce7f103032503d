"""The archive's bytes: the worked example by a second reader, names, directories, every damage."""

import json
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.archive.format import (
    HEAD_BYTES,
    HEADER_BYTES,
    TRAILER_BYTES,
    ArchiveHeader,
    Directory,
    Entry,
    Group,
    directory_hashes,
    parse_directory,
    parse_head,
    parse_header,
    parse_index,
    parse_trailer,
    write_block,
    write_index,
)
from hvae_codec.codec.bitstream.header import SizedHeader
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.bitstream.tiled_files import TiledFileCoder
from hvae_codec.codec.entropy.tables import TOTAL, LayerTables, SymbolTables
from hvae_codec.errors import (
    ArchiveError,
    BitstreamError,
    CorruptError,
    NotAnHvaeFileError,
    TruncatedError,
    UnsupportedVersionError,
)
from tests.codec.archive.strategies import LABELS, STEMS

SPECIFICATION = Path(__file__).parents[3] / "docs" / "ARCHIVE.md"
MODEL = bytes.fromhex("0badcafe")
HEADER = ArchiveHeader(MODEL, 32, 32, 3)
CAT, FLAT = ([[1, 0]], [[0, 4, 1]]), ([[0, -1]], [[1, 4, 0]])
BOTH = ([[1, 0], [0, -1]], [[0, 4, 1], [1, 4, 0]])


def ints(*values):
    return np.array(values, np.int32)


def example_files():
    """The model of docs/FORMAT.md, section 6."""
    half, quarter = TOTAL // 2, TOTAL // 4
    top = LayerTables(ints(0, -1), ints(2, 2), ints(half, half, quarter, 3 * quarter))
    frequency = ints(quarter, half, quarter, TOTAL, half, half)
    tables = SymbolTables([top, LayerTables(ints(-1, 4, 0), ints(3, 1, 2), frequency)])
    return TiledFileCoder(tables, MODEL, (32, 32))


FILES = example_files()


def example(kind="archive"):
    """A worked example of the specification: hexadecimal pairs before the explanation."""
    text = SPECIFICATION.read_text(encoding="utf-8")
    (block,) = re.findall(rf"```hex {kind}\n(.*?)```", text, re.DOTALL)
    pairs = [re.match(r"(?:[0-9A-F]{2} {0,2})*(?= |$)", line)[0] for line in block.splitlines()]
    return bytes.fromhex("".join(pairs))


def hvae(symbols, width, count, grey):
    layers = [np.array(layer, np.int32) for layer in symbols]
    header = SizedHeader(MODEL, width, 32, grey=grey)
    return FILES.write(SymbolBatch(range(count), [header] * count, layers, block=True))[0]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def read_by_the_page(data):
    """A reader written from docs/ARCHIVE.md: [(name, width, height, channels, symbols, label)]."""
    assert data[:4] == bytes.fromhex("f6415243")
    assert struct.unpack(">I", data[14:18])[0] == zlib.crc32(data[:14])
    offset, end = struct.unpack(">Q4s", data[-12:])
    assert end == b"\xf6END"
    marker, length, check = struct.unpack(">4sQI", data[offset : offset + 16])
    body = data[offset + 16 : -12]
    assert (marker, length, check) == (b"\xf6IDX", len(body), zlib.crc32(body))
    assert body[:10] == data[4:14]
    blocks, at = varint(body, 10)
    pictures, position = [], 18
    for _ in range(blocks):
        directory_length, at = varint(body, at)
        data_length, at = varint(body, at)
        pictures_and_flag, at = varint(body, at)
        head = data[position : position + 32]
        stop = position + 32 + directory_length
        directory, files = data[position + 32 : stop], data[stop : stop + data_length]
        fields = struct.unpack(">4sIIQIII", head)
        lengths = (directory_length, data_length)
        checks = (zlib.crc32(directory), zlib.crc32(head[:28]))
        count = pictures_and_flag // 2
        assert fields == (b"\xf6BLK", *lengths, len(pictures), count, *checks)
        found = read_block_by_the_page(directory, files, count, data[4])
        assert any(name for name, *_ in found) == bool(pictures_and_flag % 2)
        pictures += found
        position = stop + data_length
    assert position == offset
    return pictures, body[at:]


def read_label_by_the_page(directory, at):
    code, at = varint(directory, at)
    if code % 2:
        z = (code - 1) // 2
        return (z // 2 if z % 2 == 0 else -(z + 1) // 2), at
    end = at + max(0, code // 2 - 1)
    return (json.loads(directory[at:end]) if code else None), end


def read_block_by_the_page(directory, files, count, version):
    sizes, at = varint(directory, 0)
    listed = []
    for _ in range(sizes):
        width, at = varint(directory, at)
        height, at = varint(directory, at)
        channels = directory[at]
        length, at = varint(directory, at + 1)
        listed.append((width, height, channels, length))
    bits = (sizes - 1).bit_length()
    packed = -(-count * bits // 8)
    stream = "".join(f"{byte:08b}" for byte in directory[at : at + packed])
    at += packed
    which = [int(stream[i * bits : (i + 1) * bits] or "0", 2) for i in range(count)]
    names, before = [], b""
    length, at = varint(directory, at) if version == 2 else (len(directory) - at, at)
    behind = at + length
    while at < behind:
        p, at = varint(directory, at)
        s, at = varint(directory, at)
        m, at = varint(directory, at)
        before = before[:p] + directory[at : at + m] + before[len(before) - s :]
        at += m
        names.append(before.decode())
    names = names or [""] * count
    assert at == behind
    labels = []
    while at < len(directory):
        label, at = read_label_by_the_page(directory, at)
        labels.append(label)
    labels = labels or [None] * count
    symbols, start = [], 0
    for *_, length in listed:
        (header,), layers = FILES.read_symbols([files[start : start + length]])
        symbols.append([np.split(layer, header.count) for layer in layers])
        start += length
    found = []
    for picture, size in enumerate(which):
        row = which[:picture].count(size)
        parts = [part[row] for part in symbols[size]]
        found.append((names[picture], *listed[size][:3], parts, labels[picture]))
    return found


def test_the_example_is_read_by_a_reader_written_from_the_page():
    pictures, hashes = read_by_the_page(example())
    expected = [
        ("cat-1", 32, 32, 3, CAT),
        ("cat-2", 32, 32, 3, FLAT),
        ("sign", 40, 32, 1, BOTH),
        ("", 32, 32, 3, CAT),
    ]
    assert [picture[:4] for picture in pictures] == [picture[:4] for picture in expected]
    for found, wanted in zip(pictures, expected, strict=True):
        assert [layer.tolist() for layer in found[4]] == list(wanted[4])
    assert struct.unpack(">3I", hashes) == tuple(map(zlib.crc32, (b"cat-1", b"cat-2", b"sign")))


def test_the_example_with_labels_is_read_by_a_reader_written_from_the_page():
    pictures, hashes = read_by_the_page(example("archive with labels"))
    assert [(name, label) for name, *_, label in pictures] == [
        ("a", 3),
        ("", None),
        ("", {"k": -1}),
    ]
    for found, wanted in zip(pictures, (CAT, FLAT, CAT), strict=True):
        assert [layer.tolist() for layer in found[4]] == list(wanted)
    assert struct.unpack(">3I", hashes) == (zlib.crc32(b"a"), 0, 0)


def test_the_example_with_labels_is_written_to_the_byte():
    header = replace(HEADER, version=2)
    three = ([[1, 0], [0, -1], [1, 0]], [[0, 4, 1], [1, 4, 0], [0, 4, 1]])
    file = hvae(three, 32, 3, False)
    labels = (3, None, {"k": -1})
    directory = Directory(
        (Group(32, 32, 3, len(file)),), np.zeros(3, int), ("a", None, None), labels
    )
    front, data = write_block(header, 0, directory, [file])
    entry = Entry(18, len(front) - HEAD_BYTES, len(data), 0, 3, True)
    index = write_index(header, [entry], directory_hashes(directory))
    expected = example("archive with labels")
    assert (header.to_bytes() + front + data + index).hex(" ") == expected.hex(" ")
    assert parse_header(expected[:HEADER_BYTES]) == header
    found = parse_directory(header, front[HEAD_BYTES:], parse_head(front))
    assert (found.names, found.labels) == (directory.names, labels)
    with pytest.raises(ArchiveError, match="version 1 has no room for labels"):
        write_block(HEADER, 0, directory, [file])


def test_the_example_is_written_to_the_byte():
    rgb, grey, one = hvae(BOTH, 32, 2, False), hvae(BOTH, 40, 1, True), hvae(CAT, 32, 1, False)
    groups = (Group(32, 32, 3, len(rgb)), Group(32, 40, 1, len(grey)))
    first = Directory(groups, np.array([0, 0, 1]), ("cat-1", "cat-2", "sign"), (None,) * 3)
    second = Directory((Group(32, 32, 3, len(one)),), np.array([0]), (None,), (None,))
    parts = [HEADER.to_bytes(), *write_block(HEADER, 0, first, [rgb, grey])]
    parts += write_block(HEADER, 3, second, [one])
    entries = [Entry(18, len(parts[1]) - 32, len(parts[2]), 0, 3, True)]
    entries.append(Entry(entries[0].end, len(parts[3]) - 32, len(parts[4]), 3, 1, False))
    index = write_index(HEADER, entries, directory_hashes(first))
    data = example()
    assert b"".join([*parts, index]).hex(" ") == data.hex(" ")
    offset = parse_trailer(data[-TRAILER_BYTES:])
    header, found, hashes = parse_index(data[offset:-TRAILER_BYTES], offset)
    assert (header, found) == (HEADER, entries)
    assert np.array_equal(hashes, directory_hashes(first))
    assert parse_header(data[:HEADER_BYTES]) == HEADER
    head = parse_head(parts[1])
    assert (head.first, head.count) == (0, 3)
    directory = parse_directory(HEADER, parts[1][HEAD_BYTES:], head)
    assert (directory.groups, directory.names) == (first.groups, first.names)
    assert directory.members(0).tolist() == [0, 1]
    assert directory.members(1).tolist() == [2]
    assert directory.file_offset(1) == len(rgb)


@st.composite
def directories(draw):
    sides, lengths = st.integers(1, 300), st.integers(16, 500)
    groups = draw(
        st.lists(
            st.builds(Group, sides, sides, st.sampled_from([1, 3]), lengths), min_size=1, max_size=9
        )
    )
    order = list(range(len(groups)))
    for _ in range(draw(st.integers(0, 40))):
        shown = draw(st.integers(0, len(groups) - 1))
        order.insert(draw(st.integers(order.index(shown) + 1, len(order))), shown)
    names = draw(st.one_of(st.none(), st.lists(STEMS, min_size=len(order), max_size=len(order))))
    labels = draw(st.lists(LABELS, min_size=len(order), max_size=len(order)))
    names = tuple(names or [None] * len(order))
    return Directory(tuple(groups), np.array(order), names, tuple(labels))


@settings(max_examples=50)
@given(directories(), st.integers(0, 2**48 - 1), st.sampled_from([1, 2]))
def test_directories_come_back(directory, first, version):
    header = replace(HEADER, version=version)
    if version == 1:
        directory = replace(directory, labels=(None,) * len(directory.names))
    files = [bytes(group.file_bytes) for group in directory.groups]
    front, data = write_block(header, first, directory, files)
    head = parse_head(front)
    assert (head.first, head.count) == (first, len(directory.names))
    assert head.data_bytes == len(data)
    found = parse_directory(header, front[HEAD_BYTES:], head)
    assert (found.groups, found.names) == (directory.groups, directory.names)
    assert found.labels == directory.labels
    assert np.array_equal(found.group_of, directory.group_of)
    members = np.concatenate([found.members(group) for group in range(len(found.groups))])
    assert sorted(members.tolist()) == list(range(len(directory.names)))


def test_every_flipped_bit_of_head_directory_header_and_index_is_noticed():
    data = example()
    readers = [
        (data[:18], parse_header),
        (data[18:79], lambda part: parse_directory(HEADER, part[HEAD_BYTES:], parse_head(part))),
        (data[166:211], lambda part: parse_index(part, 166)),
    ]
    for original, reader in readers:
        reader(original)
        for bit in range(8 * len(original)):
            damaged = bytearray(original)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(BitstreamError):
                reader(bytes(damaged))
        for length in range(len(original)):
            with pytest.raises(BitstreamError):
                reader(original[:length])


def checked(part):
    """The part with the CRC-32 that it should have in its last four bytes."""
    return part[:-4] + struct.pack(">I", zlib.crc32(part[:-4]))


def test_headers_that_are_none():
    data = HEADER.to_bytes()
    cases = [
        (b"", NotAnHvaeFileError, "nothing"),
        (b"\xf6H\x81" + bytes(15), NotAnHvaeFileError, "f6488100"),
        (data[:17], TruncatedError, "17 of 18"),
        (checked(data[:4] + b"\x03" + data[5:]), UnsupportedVersionError, "version 3"),
        (checked(data[:9] + b"\0\0" + data[11:]), CorruptError, "0 x 32"),
        (checked(data[:13] + b"\2" + data[14:]), CorruptError, "32 x 32 x 2"),
    ]
    for damaged, error, message in cases:
        with pytest.raises(error, match=message):
            parse_header(damaged)


def head_of(directory, data_bytes, first=0, count=1):
    """A sound head for a directory given as bytes."""
    fields = (b"\xf6BLK", len(directory), data_bytes, first, count, zlib.crc32(directory))
    return checked(struct.pack(">4sIIQII", *fields) + bytes(4))


def test_forged_heads_and_directories_are_refused():
    for first, count, size in [(0, 0, 99), (0, 8 * (99 + 16) + 1, 99), (2**48, 1, 99)]:
        with pytest.raises(CorruptError, match=f"{count} images from {first} in {size} bytes"):
            parse_head(head_of(b"", size, first, count))
    directories = {
        "02 01 01 01 09 01 01 01 09 00": "number of sizes",
        "01 01 01 01 0a": "add up",
        "01 01 01 02 09": "1 x 1 x 2",
        "01 01 00 01 09": "height 0",
        "01 ff ff 03 ff ff 03 01 09": "65535 x 65535",
        "01 81 00 01 01 09": "shortest form",
        "01 01 01 01 09 00": "names|truncated",
        "01 01 01 01": "truncated",
    }
    for text, message in directories.items():
        listed = bytes.fromhex(text)
        with pytest.raises(CorruptError, match=message):
            parse_directory(HEADER, listed, parse_head(head_of(listed, 9)))
    two = "02 01 01 01 04 02 01 01 05"
    for bits, message in {"80": "order", "00": "order", "41": "list of sizes", "": "list"}.items():
        listed = bytes.fromhex(two + bits)
        with pytest.raises(CorruptError, match=message):
            parse_directory(HEADER, listed, parse_head(head_of(listed, 9, count=2)))
    listed = bytes.fromhex(two + "40")
    assert parse_directory(
        HEADER, listed, parse_head(head_of(listed, 9, count=2))
    ).group_of.tolist() == [
        0,
        1,
    ]


def index_of(fields, hashes=b""):
    body = HEADER.description() + bytes.fromhex(fields) + hashes
    return struct.pack(">4sQI", b"\xf6IDX", len(body), zlib.crc32(body)) + body


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("ff ff ff ff 0f", "number of blocks"),
        ("01 05 10", "truncated"),
        ("01 05 10 00", "number of images 0"),
        ("01 05 10 ff 07", "number of images 1023"),
        ("01 05 11 02", "add up"),
        ("01 05 10 03", "add up"),
        ("02 05 10 02 05 10 02", "add up"),
        ("01 05 10 02 00", "add up"),
    ],
)
def test_forged_indices_are_refused(fields, message):
    parse_index(index_of("01 05 10 02"), 18 + 32 + 5 + 16)
    parse_index(index_of("01 05 10 03", bytes(4)), 18 + 32 + 5 + 16)
    with pytest.raises(CorruptError, match=message):
        parse_index(index_of(fields), 18 + 32 + 5 + 16)
