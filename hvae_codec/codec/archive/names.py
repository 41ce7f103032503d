"""The names of an archive's images: which are allowed, and how a block stores them.

A name is stored as what it does not share with the one before it. Names such as files in a folder
have then cost 4 to 8 bytes each, and 4 more in the archive's index, where a hash finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from hvae_codec.codec.bitstream.varint import read_varint, write_varint
from hvae_codec.errors import ArchiveError, CorruptError

MAX_NAME_BYTES = 1024
"""Longest name, in UTF-8."""

MAX_BLOCK_NAME_BYTES = 1 << 20
"""Most bytes that the names of one block may have together, in UTF-8: bounds what a reader
allocates for a directory, whose bytes may stand for many more."""

_KIND = ".hvaa archive"


def check_name(name: str) -> bytes:
    """A name in UTF-8. Raises ArchiveError if an archive cannot hold it."""
    if not isinstance(name, str):
        raise ArchiveError(f"a name must be text, not {type(name).__name__}")
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise ArchiveError(f"the name {name!r} is not valid Unicode: {error.reason}") from error
    if not 1 <= len(encoded) <= MAX_NAME_BYTES:
        raise ArchiveError(
            f"a name has 1 to {MAX_NAME_BYTES} bytes in UTF-8; {name[:40]!r} has {len(encoded)}"
        )
    return encoded


def is_unicode(name: str) -> bool:
    """Whether text can be written in UTF-8; that of half a surrogate pair cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def name_hash(name: str) -> int:
    """What the index holds of a name: the CRC-32 of its UTF-8. That of no name is 0."""
    return crc32(name.encode())


def encode_names(names: Sequence[str | None]) -> bytes:
    """The names of a block's images; nothing if none has one."""
    if not any(names):
        return b""
    parts = []
    previous = b""
    for name in names:
        current = (name or "").encode()
        shortest = min(len(previous), len(current))
        prefix = _shared(previous, current, shortest)
        suffix = _shared(previous[::-1], current[::-1], shortest - prefix)
        middle = current[prefix : len(current) - suffix]
        parts += [write_varint(prefix), write_varint(suffix), write_varint(len(middle)), middle]
        previous = current
    return b"".join(parts)


def decode_names(data: bytes, count: int) -> tuple[str | None, ...]:
    """The inverse of `encode_names`: the names of `count` images. Raises CorruptError."""
    if not data:
        return (None,) * count
    names: list[str | None] = []
    previous = b""
    at = total = 0
    for _ in range(count):
        prefix, at = _length(data, at, len(previous))
        suffix, at = _length(data, at, len(previous) - prefix)
        middle, at = _length(data, at, min(MAX_NAME_BYTES, len(data)))
        end = at + middle
        tail = previous[len(previous) - suffix :]
        previous = previous[:prefix] + data[at:end] + tail
        total += len(previous)
        if end > len(data) or len(previous) > MAX_NAME_BYTES or total > MAX_BLOCK_NAME_BYTES:
            raise CorruptError(f"damaged {_KIND}: the names of a block are too long")
        names.append(_text(previous) or None)
        at = end
    if at != len(data) or not any(names):
        raise CorruptError(f"damaged {_KIND}: the names of a block do not fit its length")
    return tuple(names)


def _shared(one: bytes, other: bytes, most: int) -> int:
    """Length of the longest common beginning, at most `most`."""
    for length in range(most):
        if one[length] != other[length]:
            return length
    return most


def _length(data: bytes, at: int, most: int) -> tuple[int, int]:
    return read_varint(data, at, 0, most, name="length of a part of a name", kind=_KIND)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise CorruptError(f"damaged {_KIND}: a name is not UTF-8") from error
