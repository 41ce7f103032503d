"""How many bytes of an image file are its payload: what is left when container and headers go.

What is taken off is what files of one kind share or state besides the image, as far as it can be
cut at a byte:

| format | payload |
|---|---|
| JPEG | the entropy-coded segments of all scans; no markers, tables, frame or scan headers |
| WebP | the data of its `VP8 ` or `VP8L` chunk; no RIFF or chunk header |
| AVIF | the content of its `mdat` boxes; no other box |
| JPEG 2000 | the packets of all tile-parts; no main or tile-part header |
| JPEG XL | the code stream behind its two-byte signature; no box |
| PNG | the content of its `IDAT` chunks |
| TIFF | its strips |
| .hvae | what follows the header of magic, version, model, size and checks |
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from hvae_codec.codec.bitstream.header import parse

_SOS, _EOI, _TEM = 0xDA, 0xD9, 0x01
_RESTARTS = range(0xD0, 0xD8)
_SOT, _EOC = 0xFF90, 0xFFD9
_JXL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"
_JXL_SIGNATURE_BYTES = 2
_STRIP_BYTE_COUNTS = 279


def payload_bytes(kind: str, data: bytes) -> int:
    """Payload of a whole file of a kind in `KINDS`, in bytes.

    Raises:
        ValueError: it is not such a file.
    """
    try:
        return KINDS[kind](data)
    except (struct.error, IndexError) as error:
        raise ValueError(f"not a whole {kind} file: it ends too early") from error


def _jpeg(data: bytes) -> int:
    total, at = 0, _expect(data, b"\xff\xd8", "JPEG")
    while data[at] == 0xFF and data[at + 1] != _EOI:
        marker = data[at + 1]
        if marker == _TEM:
            at += 2
            continue
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == _SOS:
            end = _end_of_scan(data, at)
            total, at = total + end - at, end
    if data[at] != 0xFF:
        raise ValueError(f"not a JPEG file: no marker at byte {at}")
    return total


def _end_of_scan(data: bytes, at: int) -> int:
    """Where the marker behind an entropy-coded segment stands: neither stuffing nor a restart."""
    while True:
        at = data.index(b"\xff", at)
        if data[at + 1] != 0 and data[at + 1] not in _RESTARTS:
            return at
        at += 2


def _webp(data: bytes) -> int:
    _expect(data, b"RIFF", "WebP")
    _expect(data[8:], b"WEBP", "WebP")
    total, at = 0, 12
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name in (b"VP8 ", b"VP8L"):
            total += size
        at += 8 + size + size % 2
    return total


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Name and content length of each box of a file of ISO boxes, those in boxes apart."""
    at = 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif size == 0:
            size = len(data) - at
        if size < header or at + size > len(data):
            raise ValueError(f"box {name!r} at byte {at} has a size of {size}")
        yield name, size - header
        at += size


def _avif(data: bytes) -> int:
    _expect(data[4:], b"ftypavif", "AVIF")
    return sum(size for name, size in _boxes(data) if name == b"mdat")


def _jpeg2000(data: bytes) -> int:
    total, at = 0, _expect(data, b"\xff\x4f", "JPEG 2000 code stream")
    while (marker := struct.unpack_from(">H", data, at)[0]) != _EOC:
        length = struct.unpack_from(">H", data, at + 2)[0]
        if marker != _SOT:
            at += 2 + length
            continue
        part = struct.unpack_from(">I", data, at + 6)[0]
        start = data.index(b"\xff\x93", at, at + part) + 2
        end = at + part
        total, at = total + end - start, end
    return total


def _jpegxl(data: bytes) -> int:
    if data.startswith(_JXL_BOXES):
        boxes = list(_boxes(data))
        parts = [size - 4 for name, size in boxes if name == b"jxlp"]
        return (
            sum(size for name, size in boxes if name == b"jxlc") + sum(parts) - _JXL_SIGNATURE_BYTES
        )
    return len(data) - _expect(data, b"\xff\x0a", "JPEG XL")


def _png(data: bytes) -> int:
    total, at = 0, _expect(data, b"\x89PNG\r\n\x1a\n", "PNG")
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        total += size if name == b"IDAT" else 0
        at += 12 + size
    return total


def _tiff(data: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise ValueError("not a TIFF file: it does not begin as one")
    directory = struct.unpack_from(order + "I", data, 4)[0]
    for entry in range(struct.unpack_from(order + "H", data, directory)[0]):
        at = directory + 2 + 12 * entry
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        if tag == _STRIP_BYTE_COUNTS:
            one = {3: "H", 4: "I"}[kind]
            inside = count * struct.calcsize(one) <= 4
            where = at + 8 if inside else struct.unpack_from(order + "I", data, at + 8)[0]
            return sum(struct.unpack_from(f"{order}{count}{one}", data, where))
    raise ValueError("not a TIFF image in strips")


def _hvae(data: bytes) -> int:
    return len(data) - parse(data).payload_at


def _expect(data: bytes, start: bytes, kind: str) -> int:
    if not data.startswith(start):
        raise ValueError(f"not a {kind} file: it does not begin as one")
    return len(start)


KINDS: dict[str, Callable[[bytes], int]] = {
    "JPEG": _jpeg,
    "WebP": _webp,
    "AVIF": _avif,
    "JPEG 2000": _jpeg2000,
    "JPEG XL": _jpegxl,
    "PNG": _png,
    "TIFF": _tiff,
    ".hvae": _hvae,
}
"""Kinds of files whose payload can be told."""
