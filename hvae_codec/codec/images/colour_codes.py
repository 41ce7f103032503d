"""Codes of ITU-T H.273 that image files and ICC profiles state, which Pillow does not give out.

A PNG has them in its chunk cICP, an AVIF in a box nclx of its primary item.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PARTS = 65_536
MAX_META_BYTES = 1 << 24
"""Of a part that may hold an ICC profile."""
_MAX_TAGS = 1024


class Cicp(NamedTuple):
    """Colour primaries, transfer function and matrix, and whether samples have the full range."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


def profile_cicp(profile: bytes) -> Cicp | None:
    """The codes in the tag cicp of an ICC profile, if it has one."""
    count = int.from_bytes(profile[128:132])
    for position in range(132, 132 + 12 * min(count, _MAX_TAGS), 12):
        if profile[position : position + 4] == b"cicp":
            offset = int.from_bytes(profile[position + 4 : position + 8])
            body = profile[offset : offset + 12]
            return _cicp(body[8:]) if len(body) == 12 else None
    return None


def _cicp(codes: bytes) -> Cicp:
    primaries, transfer, matrix, full_range = codes[:4]
    return Cicp(primaries, transfer, matrix, bool(full_range & 1))


def png_cicp(file: IO[bytes]) -> Cicp | None:
    """Of the chunk cICP of a PNG, read from its beginning."""
    if file.read(8) != _PNG_SIGNATURE:
        return None
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"cICP" and length == 4:
            return _cicp(file.read(4))
        if kind in (b"IDAT", b"IEND"):
            return None
        file.seek(length + 4, os.SEEK_CUR)
    return None


def avif_cicp(file: IO[bytes]) -> Cicp | None:
    """Of the primary item of an AVIF: others, such as gain maps, may state other codes."""
    meta = box_of_file(file, b"meta")
    return None if meta is None or len(meta) < 4 else _nclx_of_primary(meta[4:])


def box_of_file(file: IO[bytes], wanted: bytes) -> memoryview | None:
    """The body of the first box of a kind at the top of a file, read from its beginning."""
    for _ in range(_MAX_PARTS):
        size, kind = struct.unpack(">I4s", file.read(8))
        rest = size - 8
        if size == 1:
            rest = int.from_bytes(file.read(8)) - 16
        if kind == wanted and 0 <= rest <= MAX_META_BYTES:
            return memoryview(file.read(rest))
        if rest < 0 or size == 0:
            return None
        file.seek(rest, os.SEEK_CUR)
    return None


def _nclx_of_primary(meta: memoryview) -> Cicp | None:
    parts = dict(boxes(meta))
    properties = dict(boxes(parts.get(b"iprp", memoryview(b""))))
    if not {b"ipco", b"ipma"} <= properties.keys() or b"pitm" not in parts:
        return None
    primary = int.from_bytes(parts[b"pitm"][4:])
    found = list(boxes(properties[b"ipco"]))
    for index in _properties_of(properties[b"ipma"], primary):
        kind, body = found[index - 1] if 0 < index <= len(found) else (b"", memoryview(b""))
        if kind == b"colr" and bytes(body[:4]) == b"nclx":
            primaries, transfer = struct.unpack(">2H", body[4:8])
            return Cicp(primaries, transfer, 0, True)  # its decoder has seen to the rest
    return None


def boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and body of the boxes in the body of another."""
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        if not 8 <= size <= len(data) - position:
            return
        yield kind, data[position + 8 : position + size]
        position += size


def _properties_of(associations: memoryview, item: int) -> Iterator[int]:
    """Numbers, from 1, of an item's properties in the box ipma."""
    id_bytes = 4 if associations[0] else 2
    width = 2 if associations[3] & 1 else 1
    position = 8
    for _ in range(int.from_bytes(associations[4:8])):
        number = int.from_bytes(associations[position : position + id_bytes])
        count = associations[position + id_bytes]
        position += id_bytes + 1
        if number == item:
            for entry in range(position, position + width * count, width):
                stated = int.from_bytes(associations[entry : entry + width])
                yield stated & (0x7FFF if width == 2 else 0x7F)
        position += width * count
