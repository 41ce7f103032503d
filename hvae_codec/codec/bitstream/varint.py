"""Unsigned LEB128 integers: 7 bits a byte, least significant first, the top bit set on all but the
last. `kind` says in messages what was read, for example ".hvae file".
"""

from __future__ import annotations

from hvae_codec.errors import CorruptError, TruncatedError


def write_varint(value: int) -> bytes:
    """The shortest form of a value of at least 0."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def read_varint(
    data: bytes, at: int, least: int, most: int, *, name: str, kind: str
) -> tuple[int, int]:
    """(value, position after it) of the varint at position `at`.

    Raises TruncatedError, or CorruptError for a value out of bounds and any but the shortest form.
    """
    value = 0
    for shift in range(0, max(1, most.bit_length()), 7):
        need(data, at + 1, kind)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise CorruptError(f"damaged {kind}: the {name} is not in its shortest form")
            if not least <= value <= most:
                raise CorruptError(f"damaged {kind}: {name} {value} is not in {least}..{most}")
            return value, at
    raise CorruptError(f"damaged {kind}: the {name} is over {most}")


def need(data: bytes, length: int, kind: str) -> None:
    """Refuse fewer than `length` bytes of header."""
    if len(data) < length:
        raise TruncatedError(
            f"truncated {kind}: {len(data)} bytes, inside a header of at least {length}"
        )
