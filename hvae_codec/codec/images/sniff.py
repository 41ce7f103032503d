"""What PNG, JPEG and WebP bytes say about themselves, read before any pixel is decoded.

A decoder may reserve memory for the whole image as soon as it opens a file, and it may fill in
what is missing. So the structure is walked here first: the true size, whether the file is whole,
and whether so few bytes can hold so many pixels at all.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hvae_codec.codec.bitstream.magic import hint_of
from hvae_codec.errors import ImageError

Format = Literal["PNG", "JPEG", "WEBP"]

MAX_PARTS = 65_536
"""Most chunks of a PNG or segments of a JPEG: far above what writers make, it bounds the walk."""

MAX_JPEG_SCANS = 32
"""Most scans of a JPEG; progressive ones have about 10, and every scan visits the whole image."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEFLATE_MAX_RATIO = 1032  # 258 bytes from a length code and a distance code of one bit each
# A block of 8 x 8 samples takes at least one bit; a fourth of the samples may be coded.
_JPEG_MAX_PIXELS_PER_BYTE = 8 * 64 * 4
# Lossless WebP can say "all alike" of any size in 40 bytes, and its reader reserves 12 bytes per
# pixel. What is small may; a large image must cost what a lossy WebP of it costs at the least.
_WEBP_FREE_PIXELS = 2**22
_WEBP_MAX_PIXELS_PER_BYTE = 4096
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class ImageHeader:
    """Format and size of an image file as stored, before any orientation is applied."""

    format: Format
    width: int
    height: int
    bits: int
    """Bits per sample."""
    animated: bool


def read_image_header(data: bytes) -> ImageHeader:
    """Walk the structure of a PNG, JPEG or WebP file.

    Raises:
        ImageError: another format, or a file that ends early, fails a checksum, is built in a way
            that no writer builds it, or cannot hold an image of the size it claims.
    """
    if data.startswith(_PNG_SIGNATURE):
        return _png_header(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_header(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_header(data)
    raise ImageError(
        f"not a PNG, JPEG or WebP image: {len(data)} bytes that begin with "
        f"{data[:8].hex(' ') or 'nothing'}{hint_of(data)}"
    )


def _truncated(kind: str, data: bytes) -> ImageError:
    return ImageError(f"truncated {kind}: it ends early, after {len(data)} bytes")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and body of each chunk up to IEND, lengths and checksums verified."""
    view = memoryview(data)
    position = len(_PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        if position + 12 > len(data):
            raise _truncated("PNG", data)
        length = int.from_bytes(view[position : position + 4])
        end = position + 8 + length
        if end + 4 > len(data):
            raise _truncated("PNG", data)
        kind = bytes(view[position + 4 : position + 8])
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise ImageError(f"damaged PNG: the checksum of its chunk {kind!r} does not hold")
        yield kind, view[position + 8 : end]
        if kind == b"IEND":
            return
        position = end + 4
    raise ImageError(f"PNG of more than {MAX_PARTS} chunks")


def _png_header(data: bytes) -> ImageHeader:
    chunks = _png_chunks(data)
    kind, body = next(chunks)
    if kind != b"IHDR" or len(body) != 13:
        raise ImageError("damaged PNG: it does not begin with a header chunk")
    width, height, bits, colour = struct.unpack(">IIBB", body[:10])
    animated, pixel_bytes = False, 0
    for kind, body in chunks:
        animated |= kind == b"acTL"
        if kind == b"IDAT":
            pixel_bytes += len(body)
    row_bytes = (width * bits * _PNG_CHANNELS.get(colour, 1) + 7) // 8
    if height * row_bytes > _DEFLATE_MAX_RATIO * pixel_bytes:
        raise ImageError(
            f"PNG of {width}x{height} pixels, which its {pixel_bytes} bytes of data cannot hold"
        )
    return ImageHeader("PNG", width, height, bits, animated)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Marker and body of each segment up to the end-of-image marker."""
    view = memoryview(data)
    position = 2
    for _ in range(MAX_PARTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise _truncated("JPEG", data)
        marker, position = data[found.start() + 1], found.end()
        if marker == 0xD9:
            return
        if marker in (0x01, 0xD8):  # these stand alone
            continue
        length = int.from_bytes(view[position : position + 2])
        if length < 2 or position + length > len(data):
            raise _truncated("JPEG", data)
        yield marker, view[position + 2 : position + length]
        position += length
    raise ImageError(f"JPEG of more than {MAX_PARTS} segments")


def _jpeg_header(data: bytes) -> ImageHeader:
    frame, scans = None, 0
    for marker, body in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            if frame is not None or len(body) < 6:
                raise ImageError("damaged JPEG: two frame headers, or a short one")
            frame = (marker, *struct.unpack(">BHH", body[:5]))
        scans += marker == 0xDA
    if frame is None or scans == 0:
        raise ImageError("damaged JPEG: it has no frame header or no scan")
    marker, bits, height, width = frame
    if scans > MAX_JPEG_SCANS:
        raise ImageError(f"JPEG of {scans} scans; at most {MAX_JPEG_SCANS} are read")
    if marker in _JPEG_HUFFMAN_FRAMES and width * height > _JPEG_MAX_PIXELS_PER_BYTE * len(data):
        raise ImageError(
            f"JPEG of {width}x{height} pixels, which its {len(data)} bytes cannot hold"
        )
    return ImageHeader("JPEG", width, height, bits, animated=False)


def _webp_header(data: bytes) -> ImageHeader:
    if len(data) < 30 or int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise _truncated("WebP", data)
    kind, body = data[12:16], data[20:30]
    animated = False
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (size & 0x3FFF for size in struct.unpack("<HH", body[6:10]))
    elif kind == b"VP8L" and body[0] == 0x2F:
        packed = int.from_bytes(body[1:5], "little")
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        animated = bool(body[0] & 0x02)
        width = int.from_bytes(body[4:7], "little") + 1
        height = int.from_bytes(body[7:10], "little") + 1
    else:
        raise ImageError(f"damaged WebP: its first chunk is {kind!r} or has no valid beginning")
    if width * height > max(_WEBP_FREE_PIXELS, _WEBP_MAX_PIXELS_PER_BYTE * len(data)):
        raise ImageError(
            f"WebP of {width}x{height} pixels in {len(data)} bytes: a decompression bomb"
        )
    return ImageHeader("WEBP", width, height, 8, animated)
