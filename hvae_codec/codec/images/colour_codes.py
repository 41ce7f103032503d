"""Codes of ITU-T H.273 that image files and ICC profiles state, which Pillow does not give out.

A PNG has them in its chunk cICP, an AVIF in a box nclx of its primary item. They are read from the
file behind an image, before its pixels are loaded or from its path.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image, ImageFile

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PARTS = 65_536
_MAX_META_BYTES = 1 << 24  # it may hold an ICC profile
_MAX_TAGS = 1024
_DAMAGED = (OSError, ValueError, struct.error, IndexError)  # which Pillow judges


class Cicp(NamedTuple):
    """Colour primaries, transfer function and matrix, and whether samples have the full range."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


def file_cicp(image: Image.Image) -> Cicp | None:
    """The codes of the file that an image was opened from; None if there are none, or it is gone.

    A copy that Pillow makes of an opened image knows of no file.
    """
    kept = image.info.get("cicp")  # of a copy that `images.upright_copy` made
    if isinstance(kept, Cicp):
        return kept
    stated = image.info.get("nclx_profile")  # of pillow-heif
    if isinstance(stated, dict) and "transfer_characteristics" in stated:
        primaries = int(stated.get("color_primaries", 2))
        return Cicp(primaries, int(stated["transfer_characteristics"]), 0, True)
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ("PNG", "AVIF"):
        return None
    read = _png_cicp if image.format == "PNG" else _avif_cicp
    # An image that was pickled has no `fp`; one in memory, once loaded, has its file as `_fp`.
    for place in ("fp", "_fp"):
        with suppress(*_DAMAGED):
            file = getattr(image, place, None)
            if file is not None and (found := _kept_position(file, read)) is not None:
                return found
    with suppress(*_DAMAGED):
        name = getattr(image, "filename", "")
        if name and (path := Path(os.fsdecode(name))).is_file():
            with path.open("rb") as file:
                return read(file)
    return None


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


def _kept_position(file: IO[bytes], read: Callable[[IO[bytes]], Cicp | None]) -> Cicp | None:
    position = file.tell()
    try:
        file.seek(0)
        return read(file)
    finally:
        file.seek(position)


def _png_cicp(file: IO[bytes]) -> Cicp | None:
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


def _avif_cicp(file: IO[bytes]) -> Cicp | None:
    """Of the primary item: others, such as gain maps, may state other codes."""
    for _ in range(_MAX_PARTS):
        size, kind = struct.unpack(">I4s", file.read(8))
        rest = size - 8
        if size == 1:
            rest = int.from_bytes(file.read(8)) - 16
        if kind == b"meta" and 4 <= rest <= _MAX_META_BYTES:
            return _nclx_of_primary(memoryview(file.read(rest))[4:])
        if rest < 0 or size == 0:
            return None
        file.seek(rest, os.SEEK_CUR)
    return None


def _nclx_of_primary(meta: memoryview) -> Cicp | None:
    boxes = dict(_boxes(meta))
    properties = dict(_boxes(boxes.get(b"iprp", memoryview(b""))))
    if not {b"ipco", b"ipma"} <= properties.keys() or b"pitm" not in boxes:
        return None
    primary = int.from_bytes(boxes[b"pitm"][4:])
    found = list(_boxes(properties[b"ipco"]))
    for index in _properties_of(properties[b"ipma"], primary):
        kind, body = found[index - 1] if 0 < index <= len(found) else (b"", memoryview(b""))
        if kind == b"colr" and bytes(body[:4]) == b"nclx":
            primaries, transfer = struct.unpack(">2H", body[4:8])
            return Cicp(primaries, transfer, 0, True)  # its decoder has seen to the rest
    return None


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
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
