"""The bytes of a `.hvaa` archive. docs/ARCHIVE.md specifies them; nothing here opens a file.

An archive is a header, then blocks, then an index of the blocks. A block holds consecutive
pictures: a head, a directory of sizes and names, and one `.hvae` block for each of its sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.archive.labels import Label, decode_labels, encode_labels
from hvae_codec.codec.archive.names import decode_names, encode_names, name_hash
from hvae_codec.codec.bitstream.header import MAX_COUNT, MODEL_ID_BYTES
from hvae_codec.codec.bitstream.magic import hint_of
from hvae_codec.codec.bitstream.varint import read_varint, write_varint
from hvae_codec.codec.entropy.range_coder import PAD_BYTES
from hvae_codec.codec.images.limits import MAX_PICTURE_PIXELS, MAX_SIDE_PIXELS
from hvae_codec.errors import (
    ArchiveError,
    CorruptError,
    NotAnHvaeFileError,
    TruncatedError,
    UnsupportedVersionError,
)

MAGIC = b"\xf6ARC"
"""First bytes of an archive; those of its blocks and its index follow. 0xF6 is in no UTF-8 text."""

BLOCK_MARKER = b"\xf6BLK"
INDEX_MARKER = b"\xf6IDX"
END_MARKER = b"\xf6END"

VERSION = 1
LABELS_VERSION = 2
"""Of archives whose blocks have room for labels."""
HEADER_BYTES = 18
HEAD_BYTES = 32
INDEX_HEAD_BYTES = 16
TRAILER_BYTES = 12
MAX_PART_BYTES = (1 << 32) - 1
"""Longest directory, and longest data, of one block."""

KIND = ".hvaa archive"

_DESCRIPTION = struct.Struct(f">B{MODEL_ID_BYTES}sHHB")
_HEAD = struct.Struct(">4sIIQII")
_CHECK = struct.Struct(">I")
_INDEX_HEAD = struct.Struct(">4sQI")
_TRAILER = struct.Struct(">Q4s")


@dataclass(frozen=True, slots=True)
class ArchiveHeader:
    """What holds for a whole archive: the model, the size of its tiles in pixels, its channels, and
    the version of its format.
    """

    model_id: bytes
    tile_width: int
    tile_height: int
    channels: int
    version: int = VERSION

    @property
    def has_labels(self) -> bool:
        """Whether its images can have labels."""
        return self.version == LABELS_VERSION

    def to_bytes(self) -> bytes:
        """The first HEADER_BYTES of the archive."""
        start = MAGIC + self.description()
        return start + _CHECK.pack(crc32(start))

    def description(self) -> bytes:
        """The part that the index repeats: version, model, tile size, channels."""
        fields = (self.model_id, self.tile_width, self.tile_height, self.channels)
        return _DESCRIPTION.pack(self.version, *fields)


DESCRIPTION_BYTES = _DESCRIPTION.size


def parse_header(data: bytes) -> ArchiveHeader:
    """The header in an archive's first bytes.

    Raises NotAnHvaeFileError, UnsupportedVersionError, TruncatedError or CorruptError.
    """
    if not data or data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise NotAnHvaeFileError(
            f"not a {KIND}: it begins with {data[:4].hex() or 'nothing'}, not {MAGIC.hex()}"
            + hint_of(data)
        )
    if len(data) < HEADER_BYTES:
        raise TruncatedError(f"truncated {KIND}: {len(data)} of {HEADER_BYTES} bytes of header")
    body = data[: HEADER_BYTES - 4]
    if crc32(body) != _CHECK.unpack_from(data, len(body))[0]:
        raise CorruptError(f"damaged {KIND}: the check sum of its header does not hold")
    return parse_description(body[len(MAGIC) :])


def parse_description(data: bytes) -> ArchiveHeader:
    """What `ArchiveHeader.description` wrote, a check sum over it having held."""
    version, model_id, width, height, channels = _DESCRIPTION.unpack(data)
    if version not in (VERSION, LABELS_VERSION):
        raise UnsupportedVersionError(
            f"{KIND} version {version} is not known; this release reads {VERSION} and "
            f"{LABELS_VERSION}"
        )
    if not width or not height or channels not in (1, 3):
        raise CorruptError(f"damaged {KIND}: tiles of {width} x {height} x {channels}")
    return ArchiveHeader(model_id, width, height, channels, version)


@dataclass(frozen=True, slots=True)
class Entry:
    """A block as the index knows it; its images are first..first+count-1."""

    offset: int
    directory_bytes: int
    data_bytes: int
    first: int
    count: int
    named: bool

    @property
    def data_offset(self) -> int:
        """Where the block's `.hvae` files begin."""
        return self.offset + HEAD_BYTES + self.directory_bytes

    @property
    def end(self) -> int:
        """Where the next block, or the index, begins."""
        return self.data_offset + self.data_bytes

    @property
    def stop(self) -> int:
        """Number of the first image behind the block."""
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class Head:
    """The fixed first part of a block."""

    directory_bytes: int
    data_bytes: int
    first: int
    count: int
    directory_check: int


def parse_head(data: bytes) -> Head:
    """The head of a block, its check sum verified. Raises TruncatedError or CorruptError."""
    if len(data) < HEAD_BYTES:
        raise TruncatedError(f"truncated {KIND}: {len(data)} of {HEAD_BYTES} bytes of a block")
    marker, directory, size, first, count, check = _HEAD.unpack_from(data)
    if (
        marker != BLOCK_MARKER
        or crc32(data[: _HEAD.size]) != _CHECK.unpack_from(data, _HEAD.size)[0]
    ):
        raise CorruptError(f"damaged {KIND}: the check sum of a block's head does not hold")
    if not 1 <= count <= most_pictures(size) or first >= 1 << 48:
        raise CorruptError(f"damaged {KIND}: {count} images from {first} in {size} bytes")
    return Head(directory, size, first, count, check)


def most_pictures(data_bytes: int) -> int:
    """Most images of a block with so much data: an image takes a bit at least, and the range
    coder leaves out PAD_BYTES at most.
    """
    return min(MAX_COUNT, 8 * (data_bytes + PAD_BYTES))


@dataclass(frozen=True, slots=True)
class Group:
    """Images of one size in a block: [height, width, channels], and the length of their file."""

    height: int
    width: int
    channels: int
    file_bytes: int


@dataclass(frozen=True)
class Directory:
    """What a block says of its images.

    groups: one for each size, in order of first appearance; their files lie in this order.
    group_of: int [count], the group of each image. Within a group, order is the block's.
    names: the name of each image, or None; all None if the block has no names.
    labels: the label of each image, or None; all None if the block has no labels.
    """

    groups: tuple[Group, ...]
    group_of: NDArray[np.intp]
    names: tuple[str | None, ...]
    labels: tuple[Label | None, ...]

    def members(self, group: int) -> NDArray[np.intp]:
        """Positions within the block of the images of a group, rising."""
        return self._members[group]

    def file_offset(self, group: int) -> int:
        """Where the file of a group begins, counted from the first."""
        return int(self._file_offsets[group])

    @cached_property
    def _members(self) -> list[NDArray[np.intp]]:
        counts = np.bincount(self.group_of, minlength=len(self.groups))
        return np.split(np.argsort(self.group_of, kind="stable"), np.cumsum(counts[:-1]))

    @cached_property
    def _file_offsets(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(group.file_bytes for group in self.groups)], dtype=np.int64)


def write_block(
    header: ArchiveHeader, first: int, directory: Directory, files: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """The head with the directory, and the data, of a block that begins with image `first`.

    Raises ArchiveError where an image has a label and the archive has no room for any.
    """
    listed = _directory_bytes(header, directory)
    data = b"".join(files)
    count = len(directory.names)
    if max(len(listed), len(data)) > MAX_PART_BYTES or count > most_pictures(len(data)):
        raise ValueError(f"{count} images in {len(data)} bytes do not make a block")
    head = _HEAD.pack(BLOCK_MARKER, len(listed), len(data), first, count, crc32(listed))
    return head + _CHECK.pack(crc32(head)) + listed, data


def parse_directory(header: ArchiveHeader, data: bytes, head: Head) -> Directory:
    """The directory of a block, its check sum verified. Raises CorruptError."""
    if len(data) != head.directory_bytes or crc32(data) != head.directory_check:
        raise CorruptError(f"damaged {KIND}: the check sum of a block's directory does not hold")
    number, at = _field(data, 0, 1, head.count, "number of sizes")
    groups = []
    for _ in range(number):
        group, at = _parse_group(data, at)
        groups.append(group)
    if sum(group.file_bytes for group in groups) != head.data_bytes:
        raise CorruptError(f"damaged {KIND}: the files of a block do not add up to its length")
    bits = (number - 1).bit_length()
    end = at + (head.count * bits + 7) // 8
    group_of = _unpack_numbers(data[at:end], head.count, bits)
    shown, order = np.unique(group_of, return_index=True)
    if len(shown) != number or shown[-1] != number - 1 or (np.diff(order) < 0).any():
        raise CorruptError(f"damaged {KIND}: the sizes of a block are not in order of appearance")
    behind = len(data)
    if header.has_labels:
        length, end = _field(data, end, 0, len(data), "length of the names")
        behind = end + length
    names = decode_names(data[end:behind], head.count)
    labels = decode_labels(data[behind:], head.count)
    return Directory(tuple(groups), group_of, names, labels)


def write_index(
    header: ArchiveHeader, entries: Sequence[Entry], hashes: NDArray[np.uint32]
) -> bytes:
    """The index, with the trailer that ends the archive.

    `entries` follow each other without a gap, from the header on. `hashes` are those of the names
    in all blocks that have names, image after image.
    """
    fields = [len(entries)]
    for entry in entries:
        fields += [entry.directory_bytes, entry.data_bytes, 2 * entry.count + entry.named]
    body = (
        header.description() + b"".join(map(write_varint, fields)) + hashes.astype(">u4").tobytes()
    )
    offset = entries[-1].end if entries else HEADER_BYTES
    head = _INDEX_HEAD.pack(INDEX_MARKER, len(body), crc32(body))
    return head + body + _TRAILER.pack(offset, END_MARKER)


def parse_trailer(data: bytes) -> int:
    """Where the index begins, from an archive's last TRAILER_BYTES. Raises CorruptError."""
    if len(data) == TRAILER_BYTES:
        offset, marker = _TRAILER.unpack(data)
        if marker == END_MARKER:
            return int(offset)
    raise CorruptError(f"the {KIND} does not end with its index")


def parse_index(data: bytes, offset: int) -> tuple[ArchiveHeader, list[Entry], NDArray[np.uint32]]:
    """Header, entries and hashes from the index at `offset`, given without the trailer.

    Raises CorruptError or UnsupportedVersionError. Allocates in proportion to `data`.
    """
    if len(data) < INDEX_HEAD_BYTES + DESCRIPTION_BYTES:
        raise CorruptError(f"damaged {KIND}: an index of {len(data)} bytes")
    marker, length, check = _INDEX_HEAD.unpack_from(data)
    body = data[INDEX_HEAD_BYTES:]
    if marker != INDEX_MARKER or length != len(body) or check != crc32(body):
        raise CorruptError(f"damaged {KIND}: the check sum of its index does not hold")
    header = parse_description(body[:DESCRIPTION_BYTES])
    number, at = _field(body, DESCRIPTION_BYTES, 0, len(body), "number of blocks")
    entries = []
    position, first, named = HEADER_BYTES, 0, 0
    for _ in range(number):
        directory_bytes, at = _field(body, at, 1, MAX_PART_BYTES, "length of a directory")
        data_bytes, at = _field(body, at, 1, MAX_PART_BYTES, "length of a block")
        most = 2 * most_pictures(data_bytes) + 1
        count, at = _field(body, at, 2, most, "number of images")
        entry = Entry(position, directory_bytes, data_bytes, first, count // 2, bool(count % 2))
        entries.append(entry)
        position, first = entry.end, entry.stop
        if position > offset:  # now, not behind the loop: the list grows with the archive's bytes
            break
        named += entry.count * entry.named
    if position != offset or len(body) - at != 4 * named:
        raise CorruptError(f"damaged {KIND}: its index does not add up")
    return header, entries, np.frombuffer(body, ">u4", offset=at).astype(np.uint32)


def directory_hashes(directory: Directory) -> NDArray[np.uint32]:
    """What the index holds of a block's names, uint32 [count]; empty if it has none."""
    if not any(directory.names):
        return np.zeros(0, np.uint32)
    return np.array([name_hash(name or "") for name in directory.names], np.uint32)


def _directory_bytes(header: ArchiveHeader, directory: Directory) -> bytes:
    parts = [write_varint(len(directory.groups))]
    for group in directory.groups:
        parts += [write_varint(group.width), write_varint(group.height), bytes([group.channels])]
        parts.append(write_varint(group.file_bytes))
    parts.append(_pack_numbers(directory.group_of, (len(directory.groups) - 1).bit_length()))
    names, labels = encode_names(directory.names), encode_labels(directory.labels)
    if header.has_labels:
        parts.append(write_varint(len(names)))
    elif labels:
        raise ArchiveError(f"an archive of version {header.version} has no room for labels")
    return b"".join([*parts, names, labels])


def _parse_group(data: bytes, at: int) -> tuple[Group, int]:
    width, at = _field(data, at, 1, MAX_SIDE_PIXELS, "width")
    height, at = _field(data, at, 1, MAX_SIDE_PIXELS, "height")
    channels, at = _field(data, at, 1, 3, "number of channels")
    file_bytes, at = _field(data, at, 1, MAX_PART_BYTES, "length of a file")
    if channels == 2 or width * height > MAX_PICTURE_PIXELS:
        raise CorruptError(f"damaged {KIND}: an image of {width} x {height} x {channels}")
    return Group(height, width, channels, file_bytes), at


def _pack_numbers(numbers: NDArray[np.intp], bits: int) -> bytes:
    """Each number in `bits` bits, most significant first, zeros behind the last."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((numbers[:, None] >> shifts & 1).astype(np.uint8)).tobytes()


def _unpack_numbers(data: bytes, count: int, bits: int) -> NDArray[np.intp]:
    """The inverse of `_pack_numbers`. Raises CorruptError for too few bytes or bits set behind."""
    flat = np.unpackbits(np.frombuffer(data, np.uint8))
    if len(flat) < count * bits or flat[count * bits :].any():
        raise CorruptError(f"damaged {KIND}: the list of sizes in a block")
    weights = 1 << np.arange(bits - 1, -1, -1)
    numbers: NDArray[np.intp] = (flat[: count * bits].reshape(count, bits) @ weights).astype(
        np.intp
    )
    return numbers


def _field(data: bytes, at: int, least: int, most: int, name: str) -> tuple[int, int]:
    return read_varint(data, at, least, most, name=name, kind=KIND)
