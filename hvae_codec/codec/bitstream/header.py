"""The header and the check sums of a `.hvae` file. docs/FORMAT.md specifies them to the byte.

Nothing here knows tables or entropy coding; file coders join them with this.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from hvae_codec.codec.bitstream.magic import hint_of
from hvae_codec.codec.bitstream.varint import need, read_varint, write_varint
from hvae_codec.codec.images.limits import MAX_PICTURE_PIXELS, MAX_SIDE_PIXELS
from hvae_codec.errors import (
    CorruptError,
    NotAnHvaeFileError,
    TruncatedError,
    UnsupportedVersionError,
)

MAGIC = b"\xf6H"
"""First bytes of a file; 0xF6 occurs in no UTF-8 text."""

VERSION = 1
QUALITY_VERSION = 2
"""The version of files of a model with qualities, which state theirs."""
MODEL_ID_BYTES = 4
MAX_COUNT = 1 << 20
"""Most images in one block."""

_VERSION_MASK = 0b0000_0111
_SIZED, _LONG, _BLOCK, _GREY, _PARITY = (1 << bit for bit in range(3, 8))
_FLAGS_AT, _MODEL_AT, _FIRST_CHECK_AT, _FILE_CHECK_AT = 2, 3, 7, 9
_MAX_PAYLOAD_BYTES = (1 << 35) - 1
_CRC16_START = 0xFFFF
_TOGETHER = 32  # files from which their checks are faster made together
_CRC16_TABLE = np.array([crc_hqx(bytes([byte]), 0) for byte in range(256)], np.uint16)
_KIND = ".hvae file"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself.

    model_id: the first 4 bytes of the SHA-256 hash of the model's weights, steps and tables.
    width, height: of each image, in pixels; None when the file leaves them out because the
        image is exactly one tile of the model.
    count: images in the file; 1 unless it is a block.
    grey: the image was grey; an RGB model coded it.
    block: the file is a block of `count` images of one size.
    quality: that of a model of many qualities, 0..255; None for a model of one.
    """

    model_id: bytes
    width: int | None = None
    height: int | None = None
    count: int = 1
    grey: bool = False
    block: bool = False
    quality: int | None = None

    @property
    def version(self) -> int:
        """Of the format: only files that state a quality need the second."""
        return VERSION if self.quality is None else QUALITY_VERSION


@dataclass(frozen=True, slots=True)
class SizedHeader(Header):
    """A header whose size is filled in, whether or not the file states it."""

    width: int = 0
    height: int = 0


def sized(header: Header, own_size: tuple[int, int]) -> SizedHeader:
    """The header with its size filled in; own_size is the model's (height, width)."""
    fields = {field: getattr(header, field) for field in Header.__slots__}
    if header.width is None or header.height is None:
        fields["height"], fields["width"] = own_size
    return SizedHeader(**fields)


@dataclass(frozen=True, slots=True)
class Frame:
    """A parsed header and where the rest of the file lies.

    payload_bytes: as declared in the long form; None in the short form, whose payload ends the
        file. check_bytes: 2 in the short form, 4 in the long one.
    """

    header: Header
    first_check: int
    file_check: int
    check_bytes: int
    payload_at: int
    payload_bytes: int | None


def write_file(header: Header, *, several: bool, first_layer: bytes, payload: bytes) -> bytes:
    """The bytes of a file.

    `several`: the payload holds more than one tile, which asks for the long form. One tile takes
    the short form, except for the one file in a thousand whose 16-bit check would also hold when
    bytes at its end are lost or a zero byte is added: then the long form, which states the length.
    `first_layer`: the symbols of the top layer, each as a big-endian int16, image after image.
    """
    if not (several or header.block):
        short = _write_short(header, first_layer, payload)
        if short is not None:
            return short
    fields = _fields(header, len(payload))
    fixed = _fixed(header, _LONG, fields, first_layer)
    rest = fields + payload
    return fixed + crc32(rest, crc32(fixed)).to_bytes(4, "big") + rest


def write_files(
    header: Header, first_layers: Sequence[bytes], payloads: Sequence[bytes]
) -> list[bytes]:
    """`write_file` of many images of one tile each that share a header; the same bytes."""
    if len(payloads) < _TOGETHER:
        pairs = zip(first_layers, payloads, strict=True)
        return [write_file(header, several=False, first_layer=f, payload=p) for f, p in pairs]
    fields = _fields(header, None)
    start = _start(header, 0)
    head = crc_hqx(fields, crc_hqx(start, _CRC16_START))
    fixed = [start + crc_hqx(first, head).to_bytes(2, "big") for first in first_layers]
    before = [crc_hqx(fields, crc_hqx(part, _CRC16_START)) for part in fixed]
    checks, sure = _checks(before, payloads)
    return [
        part + check.to_bytes(2, "big") + fields + payload
        if good
        else write_file(header, several=False, first_layer=first, payload=payload)
        for part, check, good, first, payload in zip(
            fixed, checks, sure, first_layers, payloads, strict=True
        )
    ]


def read_header(data: bytes) -> Header:
    """The header of a file, or of a file's first bytes, with no check sum verified.

    Raises NotAnHvaeFileError, UnsupportedVersionError, TruncatedError or CorruptError.
    """
    return parse(data).header


def parse(data: bytes) -> Frame:
    """Like `read_header`, with what a reader of the payload needs."""
    if not data or data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise NotAnHvaeFileError(
            f"not a .hvae file: it begins with {data[:2].hex() or 'nothing'}, not {MAGIC.hex()}"
            + hint_of(data)
        )
    need(data, _FLAGS_AT + 1, _KIND)
    flags = data[_FLAGS_AT]
    if flags.bit_count() % 2:
        raise CorruptError(f"damaged .hvae file: the version byte {flags:#04x} has odd parity")
    if flags & _VERSION_MASK not in (VERSION, QUALITY_VERSION):
        raise UnsupportedVersionError(
            f".hvae version {flags & _VERSION_MASK} is not known; this release reads {VERSION} "
            f"and {QUALITY_VERSION}"
        )
    if flags & _BLOCK and not flags & _LONG:
        raise CorruptError("damaged .hvae file: a block must be in the long form")
    check_bytes = 4 if flags & _LONG else 2
    at = _FILE_CHECK_AT + check_bytes
    need(data, at, _KIND)
    file_check = int.from_bytes(data[_FILE_CHECK_AT:at], "big")
    width = height = payload_bytes = quality = None
    count = 1
    if flags & _VERSION_MASK == QUALITY_VERSION:
        need(data, at + 1, _KIND)
        quality, at = data[at], at + 1
    if flags & _SIZED:
        width, at = _field(data, at, 1, MAX_SIDE_PIXELS, "width")
        height, at = _field(data, at, 1, MAX_SIDE_PIXELS, "height")
        if width * height > MAX_PICTURE_PIXELS:
            raise CorruptError(
                f"damaged .hvae file: {width} x {height} pixels are over the limit of "
                f"{MAX_PICTURE_PIXELS}"
            )
    if flags & _BLOCK:
        count, at = _field(data, at, 1, MAX_COUNT, "count")
    if flags & _LONG:
        payload_bytes, at = _field(data, at, 0, _MAX_PAYLOAD_BYTES, "payload length")
    header = Header(
        model_id=data[_MODEL_AT:_FIRST_CHECK_AT],
        width=width,
        height=height,
        count=count,
        grey=bool(flags & _GREY),
        block=bool(flags & _BLOCK),
        quality=quality,
    )
    first_check = int.from_bytes(data[_FIRST_CHECK_AT:_FILE_CHECK_AT], "big")
    return Frame(header, first_check, file_check, check_bytes, at, payload_bytes)


def verify_file(data: bytes, frame: Frame) -> bytes:
    """The payload of a whole file whose length and check sum hold.

    Raises TruncatedError or CorruptError. Certain to notice any one flipped bit, the loss of any
    number of bytes at the end, and damage within 16 adjacent bits (32 in the long form) behind the
    checks; other damage goes unnoticed here with probability 2^-16 (2^-32).
    """
    payload = data[frame.payload_at :]
    if frame.payload_bytes is not None and len(payload) < frame.payload_bytes:
        raise TruncatedError(
            f"truncated .hvae file: {len(payload)} of {frame.payload_bytes} payload bytes"
        )
    if frame.payload_bytes is not None and len(payload) > frame.payload_bytes:
        raise CorruptError(
            f"damaged .hvae file: {len(payload) - frame.payload_bytes} bytes after its end"
        )
    before, after = data[:_FILE_CHECK_AT], data[_FILE_CHECK_AT + frame.check_bytes :]
    if frame.check_bytes == 4:
        found = crc32(after, crc32(before))
    else:
        found = crc_hqx(after, crc_hqx(before, _CRC16_START))
    if found != frame.file_check:
        raise CorruptError(
            "damaged .hvae file: its check sum does not hold; bytes were changed, lost or added"
        )
    return payload


def payload_prefix(data: bytes, frame: Frame) -> bytes:
    """As much of the payload as is there, nothing of it verified."""
    if frame.payload_bytes is None:
        return data[frame.payload_at :]
    return data[frame.payload_at : frame.payload_at + frame.payload_bytes]


def verify_first_layer(data: bytes, frame: Frame, first_layer: bytes) -> None:
    """Raises CorruptError unless header and top-layer symbols are those that were written.

    This is what lets a file's first bytes be used without the rest. It covers all of the header
    but the check of the whole file; damage goes unnoticed with probability 2^-16, one flipped bit
    in the header's fixed part never.
    """
    fields = data[_FILE_CHECK_AT + frame.check_bytes : frame.payload_at]
    if _first_check(data[:_FIRST_CHECK_AT] + fields, first_layer) != frame.first_check:
        raise CorruptError(
            "damaged .hvae file: the check sum of header and first layer does not hold; "
            "bytes were changed, or cut off inside the first layer"
        )


def _write_short(header: Header, first_layer: bytes, payload: bytes) -> bytes | None:
    """The short form, or None where its check would not notice lost bytes or an added zero."""
    fields = _fields(header, None)
    fixed = _fixed(header, 0, fields, first_layer)
    states = [crc_hqx(fields, crc_hqx(fixed, _CRC16_START))]
    for at in range(len(payload)):
        states.append(crc_hqx(payload[at : at + 1], states[-1]))
    check = states.pop()
    if check in states or crc_hqx(b"\0", check) == check:
        return None
    return fixed + check.to_bytes(2, "big") + fields + payload


def _checks(before: Sequence[int], payloads: Sequence[bytes]) -> tuple[list[int], list[bool]]:
    """CRC-16 of each payload, begun with the state `before` it, and whether the short form may
    have it, as in `_write_short`.

    All payloads byte by byte together: one after another this would cost as much as coding them.
    """
    lengths = np.array([len(payload) for payload in payloads])
    columns = np.zeros((int(lengths.max(initial=0)) + 1, len(payloads)), np.uint16)
    for index, payload in enumerate(payloads):
        columns[: len(payload), index] = np.frombuffer(payload, np.uint8)
    states = np.empty((len(columns) + 1, len(payloads)), np.uint16)
    states[0] = before
    for at, byte in enumerate(columns):
        states[at + 1] = states[at] << 8 ^ _CRC16_TABLE[states[at] >> 8 ^ byte]
    final = states[lengths, np.arange(len(payloads))]
    # The column behind a payload's end is zero: the state after it is that of the added byte.
    other = np.arange(len(states))[:, None] != lengths
    looked_at = np.arange(len(states))[:, None] <= lengths + 1
    sure = ~((states == final) & other & looked_at).any(axis=0)
    return final.tolist(), sure.tolist()


def _start(header: Header, form: int) -> bytes:
    """Magic, version and flags, model id."""
    if len(header.model_id) != MODEL_ID_BYTES:
        raise ValueError(f"a model id has {MODEL_ID_BYTES} bytes, not {len(header.model_id)}")
    flags = header.version | form
    flags |= _SIZED * (header.width is not None) | _BLOCK * header.block | _GREY * header.grey
    flags |= _PARITY * (flags.bit_count() % 2)
    return MAGIC + bytes([flags]) + header.model_id


def _fixed(header: Header, form: int, fields: bytes, first_layer: bytes) -> bytes:
    """The first 9 bytes: magic, version and flags, model id, check of the first layer."""
    start = _start(header, form)
    return start + _first_check(start + fields, first_layer).to_bytes(2, "big")


def _fields(header: Header, payload_bytes: int | None) -> bytes:
    """What lies between the checks and the payload; `payload_bytes` is for the long form."""
    quality = b"" if header.quality is None else bytes([header.quality])
    values = []
    if header.width is not None and header.height is not None:
        values += [header.width, header.height]
    if header.block:
        values.append(header.count)
    if payload_bytes is not None:
        values.append(payload_bytes)
    return quality + b"".join(map(write_varint, values))


def _first_check(head: bytes, first_layer: bytes) -> int:
    return crc_hqx(first_layer, crc_hqx(head, _CRC16_START))


def _field(data: bytes, at: int, least: int, most: int, name: str) -> tuple[int, int]:
    return read_varint(data, at, least, most, name=name, kind=_KIND)
