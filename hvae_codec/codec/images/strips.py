"""PNG and PPM files written in strips, without the whole image in memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

PNM_SUFFIXES = (".ppm", ".pgm")

_PNG_COLOUR_TYPES = {1: 0, 3: 2}


@dataclass(frozen=True)
class Strips:
    """An image on its way to a file: `rows` gives strips uint8 [h, width, channels], channels 1 or
    3, from the top, `height` lines in all.
    """

    height: int
    width: int
    channels: int
    rows: Iterator[Pixels]


def write_ppm(file: BinaryIO, picture: Strips) -> None:
    """Write a PPM, or a PGM of a grey image."""
    kind = {1: "P5", 3: "P6"}[picture.channels]
    file.write(f"{kind}\n{picture.width} {picture.height}\n255\n".encode())
    for strip in picture.rows:
        file.write(np.ascontiguousarray(strip).data)


def write_png(file: BinaryIO, picture: Strips) -> None:
    """Write a PNG, every line with the filter of least absolute sum."""
    file.write(b"\x89PNG\r\n\x1a\n")
    header = picture.width.to_bytes(4) + picture.height.to_bytes(4)
    _chunk(file, b"IHDR", header + bytes([8, _PNG_COLOUR_TYPES[picture.channels], 0, 0, 0]))
    deflate = zlib.compressobj()
    above = np.zeros((1, picture.width, picture.channels), np.uint8)
    for strip in picture.rows:
        _chunk(file, b"IDAT", deflate.compress(_filtered(strip, above).tobytes()))
        above = strip[-1:]
    _chunk(file, b"IDAT", deflate.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, kind: bytes, body: bytes) -> None:
    if body or kind == b"IEND":
        file.write(len(body).to_bytes(4) + kind + body)
        file.write(zlib.crc32(body, zlib.crc32(kind)).to_bytes(4))


def _filtered(strip: Pixels, above: Pixels) -> Pixels:
    """Lines [h, 1 + W * C] as PNG has them: the number of the line's filter, then differences."""
    up = np.concatenate([above, strip[:-1]])
    left, corner = (np.pad(part[:, :-1], ((0, 0), (1, 0), (0, 0))) for part in (strip, up))
    predicted = np.stack([left, up, _paeth(left, up, corner)])
    differences = (strip - predicted).reshape(3, len(strip), -1)
    sums = np.abs(differences.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = sums.argmin(axis=0)
    lines: Pixels = np.empty((len(strip), 1 + differences.shape[2]), np.uint8)
    lines[:, 0] = np.array([1, 2, 4])[best]
    lines[:, 1:] = differences[best, np.arange(len(strip))]
    return lines


def _paeth(left: Pixels, up: Pixels, corner: Pixels) -> Pixels:
    """Whichever of the three is nearest to left + up - corner, in this order."""
    a, b, c = (part.astype(np.int16) for part in (left, up, corner))
    by_left, by_up, by_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearer = np.where(by_up <= by_corner, up, corner)
    return np.where((by_left <= by_up) & (by_left <= by_corner), left, nearer)
