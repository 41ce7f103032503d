"""Changes to bytes that know no format: flipped bits, cuts, insertions, splices, forged numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hvae_codec.codec.bitstream.varint import write_varint

MAX_BYTES = 4_096
"""Longest input of a campaign."""

_LONGEST_PIECE = 64
_EDGES = (0, 1, 2, 3, 7, 8, 16, 31, 32, 33, 40, 127, 128, 255, 256, 1_000, 4_096, 65_535, 65_536)
_LARGE = (*(2**bits - 1 for bits in (20, 21, 31, 32, 35, 48, 63, 64)), 100_000_000, 2**20, 2**35)


def forged_number(rng: random.Random, near: int = 0) -> int:
    """A number of at least 0 such as an attacker would write in place of `near`."""
    choice = rng.random()
    if choice < 0.35:
        return max(0, near + rng.choice((-2, -1, 1, 2, 3, 8, 31)))
    if choice < 0.7:
        return rng.choice(_EDGES)
    return rng.choice(_LARGE) if choice < 0.85 else rng.getrandbits(rng.choice((8, 14, 21, 32)))


def changed(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    """Other bytes than `data`, one to four changes away; splices take pieces of `donors`."""
    while True:
        result = data
        for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
            result = rng.choice(_CHANGES)(result or b"\0", rng, donors)
        if result != data:
            return result[:MAX_BYTES]


def _flip_bits(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    edited = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        edited[rng.randrange(len(edited))] ^= 1 << rng.randrange(8)
    return bytes(edited)


def _set_bytes(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    edited = bytearray(data)
    at = rng.randrange(len(edited))
    for offset in range(at, min(len(edited), at + rng.choice((1, 2, 4)))):
        edited[offset] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(edited)


def _forge_varint(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data))
    number = write_varint(forged_number(rng, data[at]))
    return data[:at] + number + data[at + rng.choice((0, 1, len(number))) :]


def _forge_word(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    size = rng.choice((2, 4, 8))
    at = rng.randrange(max(1, len(data) - size))
    old = int.from_bytes(data[at : at + size], "big")
    number = forged_number(rng, old) % (1 << 8 * size)
    return data[:at] + number.to_bytes(size, "big") + data[at + size :]


def _delete(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, _LONGEST_PIECE) :]


def _insert(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    length = rng.choice((1, 2, 4, _LONGEST_PIECE))
    return data[:at] + (rng.randbytes(length) if rng.random() < 0.5 else bytes(length)) + data[at:]


def _repeat(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.randint(1, _LONGEST_PIECE)]
    target = rng.randrange(len(data) + 1)
    return data[:target] + piece * rng.choice((1, 1, 2, 40)) + data[target:]


def _truncate(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data))]


def _extend(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    length = rng.choice((1, 2, 16, 200, 2_000))
    return data + (bytes(length) if rng.random() < 0.5 else rng.randbytes(length))


def _splice(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    donor = rng.choice(donors)
    if rng.random() < 0.5:
        return data[: rng.randrange(len(data) + 1)] + donor[rng.randrange(len(donor) + 1) :]
    at, start = rng.randrange(len(data) + 1), rng.randrange(len(donor))
    piece = donor[start : start + rng.randint(1, _LONGEST_PIECE)]
    return data[:at] + piece + data[at + rng.choice((0, len(piece))) :]


_CHANGES: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    _flip_bits,
    _flip_bits,
    _set_bytes,
    _forge_varint,
    _forge_word,
    _delete,
    _insert,
    _repeat,
    _truncate,
    _extend,
    _splice,
)
