"""The bytes of an archive's names: short, in bounds, and refused where they are none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.archive.names import (
    MAX_BLOCK_NAME_BYTES,
    MAX_NAME_BYTES,
    check_name,
    decode_names,
    encode_names,
)
from hvae_codec.errors import ArchiveError, CorruptError
from tests.codec.archive.strategies import NAMES


@given(NAMES)
def test_names_come_back(names):
    data = encode_names(names)
    if not any(names):
        assert data == b""
    assert decode_names(data, len(names)) == tuple(names)


def test_names_of_numbered_files_are_short():
    names = [f"train/cats/{number:05d}.png" for number in range(10_000)]
    assert len(encode_names(names)) <= 4.2 * len(names)
    assert decode_names(encode_names(names), len(names)) == tuple(names)


@settings(derandomize=True)
@given(NAMES, st.data())
def test_damaged_names_are_read_in_bounds_or_refused(names, data):
    mutable = bytearray(encode_names(names))
    for _ in range(data.draw(st.integers(1, 3)) if mutable else 0):
        mutable[data.draw(st.integers(0, len(mutable) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_names(bytes(mutable), len(names))
    except CorruptError:
        return
    assert len(found) == len(names)
    assert all(name is None or check_name(name) for name in found)


def test_names_that_would_grow_beyond_bounds_are_refused():
    longest = encode_names(["x" * MAX_NAME_BYTES])
    again = bytes([0x80, 0x08, 0, 0])  # 1,024 bytes of the name before
    most = MAX_BLOCK_NAME_BYTES // MAX_NAME_BYTES
    assert len(decode_names(longest + again * (most - 1), most)) == most
    with pytest.raises(CorruptError, match="too long"):
        decode_names(longest + again * most, most + 1)
    with pytest.raises(CorruptError, match="too long"):
        decode_names(longest + bytes([0x80, 0x08, 0, 1, 0x78]), 2)
    for damaged in (b"\0\0\1\xff", b"\0\0\2x", b"\0\0\0", b"\1\0\1x", b"\0\0\1x\0"):
        with pytest.raises(CorruptError):
            decode_names(damaged, 1)


def test_names_that_an_archive_cannot_hold():
    assert check_name("é" * 512) == ("é" * 512).encode()
    for name in ("", "é" * 513, "\udcff", b"bytes", 7):
        with pytest.raises(ArchiveError, match="name"):
            check_name(name)
