"""Where everything lies in an archive: read from its index, or found again without one."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.archive.format import (
    BLOCK_MARKER,
    DESCRIPTION_BYTES,
    HEAD_BYTES,
    HEADER_BYTES,
    KIND,
    TRAILER_BYTES,
    ArchiveHeader,
    Directory,
    Entry,
    Group,
    Head,
    directory_hashes,
    most_pictures,
    parse_directory,
    parse_head,
    parse_header,
    parse_index,
    parse_trailer,
)
from hvae_codec.codec.archive.names import name_hash
from hvae_codec.codec.bitstream.header import parse, verify_file
from hvae_codec.errors import (
    BitstreamError,
    CorruptError,
    NotAnHvaeFileError,
    TruncatedError,
    WrongModelError,
)

_SEARCH_BYTES = 1 << 20
_SAMPLED_BLOCKS = 8
_SAMPLED_BYTES = 512


class RecoveredWarning(UserWarning):
    """An archive's index or header is missing or damaged, and what it says was found otherwise."""


@dataclass(frozen=True)
class ArchiveIndex:
    """The blocks of an archive.

    entries: in order of their images; a block that was lost leaves a gap in the numbers.
    hashes: of the names in all blocks that have names, uint32, image after image.
    end: where the next block goes.
    problem: why the index was not read from the archive's own; None if it was.
    """

    header: ArchiveHeader
    entries: list[Entry]
    hashes: NDArray[np.uint32]
    end: int
    problem: str | None

    def __len__(self) -> int:
        return self.entries[-1].stop if self.entries else 0

    @property
    def lost(self) -> int:
        """Images whose blocks are gone."""
        return len(self) - sum(entry.count for entry in self.entries)

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """Number of the first image of each entry, int64, rising."""
        return np.array([entry.first for entry in self.entries], np.int64)

    def sample(self, fd: int, blocks: int | None = None) -> bytes:
        """First bytes of the files of some of the first blocks (None: of all), evenly spread."""
        entries = self.entries[:blocks]
        chosen = np.unique(np.linspace(0, len(entries) - 1, _SAMPLED_BLOCKS).astype(int))
        parts = [entries[place] for place in chosen.tolist()] if entries else []
        return b"".join(
            os.pread(fd, min(part.data_bytes, _SAMPLED_BYTES), part.data_offset) for part in parts
        )

    def digest(self, sample: bytes, blocks: int | None = None) -> str:
        """SHA-256, in hex, of places and lengths of the first blocks and of their `sample`."""
        found = repr((self.header, self.entries[:blocks]))
        return hashlib.sha256(found.encode() + sample).hexdigest()

    def entry_of(self, picture: int) -> Entry:
        """The block of an image, 0 <= image < len(self). Raises CorruptError if it is lost."""
        entry = self.entries[int(np.searchsorted(self.firsts, picture, "right")) - 1]
        if not entry.first <= picture < entry.stop:
            raise CorruptError(f"damaged {KIND}: the block of image {picture} is lost")
        return entry

    def find(self, fd: int, name: str) -> int | None:
        """Number of the image of this name. Raises CorruptError as `read_directory`."""
        named, starts = self._named
        for place in self._candidates(name_hash(name)):
            block = int(np.searchsorted(starts, place, "right")) - 1
            position = int(place - starts[block])
            if read_directory(fd, self.header, named[block]).names[position] == name:
                return named[block].first + position
        return None

    def in_order(self, path: Path) -> Iterator[Entry]:
        """The blocks of the archive at `path`. Raises CorruptError where one is lost."""
        expected = 0
        for entry in self.entries:
            if entry.first != expected:
                with errors_about(path):
                    self.entry_of(expected)
            expected = entry.stop
            yield entry

    def by_entry(
        self, path: Path, numbers: NDArray[np.intp]
    ) -> Iterator[tuple[Entry, NDArray[np.intp]]]:
        """The blocks in which images lie, with their positions there; `numbers` rise.

        Raises CorruptError where one is lost.
        """
        start = 0
        while start < len(numbers):
            with errors_about(path):
                entry = self.entry_of(int(numbers[start]))
            stop = int(np.searchsorted(numbers, entry.stop))
            yield entry, numbers[start:stop] - entry.first
            start = stop

    @cached_property
    def _named(self) -> tuple[list[Entry], NDArray[np.int64]]:
        """The blocks with names, and where the hashes of each begin."""
        named = [entry for entry in self.entries if entry.named]
        return named, np.cumsum([0, *(entry.count for entry in named)], dtype=np.int64)

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
        order = np.argsort(self.hashes, kind="stable")
        return order, self.hashes[order]

    def _candidates(self, wanted: int) -> NDArray[np.intp]:
        order, hashes = self._sorted
        start, stop = (int(np.searchsorted(hashes, wanted, side)) for side in ("left", "right"))
        return order[start:stop]


def read_index(fd: int) -> ArchiveIndex:
    """The index of an open archive; found by a search for blocks if its own cannot be used.

    Raises NotAnHvaeFileError, UnsupportedVersionError, TruncatedError or CorruptError where there
    is no archive to speak of.
    """
    size = os.fstat(fd).st_size
    start = read_at(fd, 0, min(size, HEADER_BYTES))
    problem: BitstreamError | None = None
    try:
        header = parse_header(start)
    except (NotAnHvaeFileError, CorruptError) as error:
        problem = error  # a sound index repeats the header
    try:
        stored, entries, hashes, offset = _stored_index(fd, size)
    except CorruptError as error:
        if problem is not None:
            raise problem from error
        return _search(fd, size, header, str(error))
    if problem is not None:
        return ArchiveIndex(stored, entries, hashes, offset, str(problem))
    if stored != header:
        return _search(fd, size, header, f"damaged {KIND}: header and index disagree")
    return ArchiveIndex(header, entries, hashes, offset, None)


def read_at(fd: int, offset: int, length: int) -> bytes:
    """Exactly these bytes of a file. Raises TruncatedError."""
    parts = []
    while length > 0:
        part = os.pread(fd, length, offset)
        if not part:
            raise TruncatedError(f"truncated {KIND}: it ends at {offset}, {length} bytes too early")
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def read_directory(fd: int, header: ArchiveHeader, entry: Entry) -> Directory:
    """The directory of a block, which must be the one that the index says.

    Raises CorruptError.
    """
    data = read_at(fd, entry.offset, HEAD_BYTES + entry.directory_bytes)
    head = parse_head(data)
    if (head.directory_bytes, head.data_bytes, head.first, head.count) != (
        entry.directory_bytes,
        entry.data_bytes,
        entry.first,
        entry.count,
    ):
        raise CorruptError(f"damaged {KIND}: a block is not the one that the index has there")
    return parse_directory(header, data[HEAD_BYTES:], head)


def read_file(fd: int, entry: Entry, directory: Directory, group: int) -> bytes:
    """The `.hvae` block of one group of images, unverified."""
    at = entry.data_offset + directory.file_offset(group)
    return read_at(fd, at, directory.groups[group].file_bytes)


def verify_block(fd: int, header: ArchiveHeader, entry: Entry) -> None:
    """Raises CorruptError unless every check sum in a block holds and its parts agree."""
    directory = read_directory(fd, header, entry)
    for number, group in enumerate(directory.groups):
        data = read_file(fd, entry, directory, number)
        frame = parse(data)
        verify_file(data, frame)
        found = frame.header
        size = (found.height or header.tile_height, found.width or header.tile_width)
        channels = 1 if found.grey else header.channels
        stated = (group.height, group.width, group.channels, len(directory.members(number)))
        if (*size, channels, found.count) != stated or found.model_id != header.model_id:
            raise mismatch(group)


def mismatch(group: Group) -> CorruptError:
    """The error of a file that is sound but not of the images that its directory says."""
    size = f"{group.width} x {group.height} x {group.channels}"
    return CorruptError(f"damaged {KIND}: the file of the images of {size} holds others")


def _stored_index(fd: int, size: int) -> tuple[ArchiveHeader, list[Entry], NDArray[np.uint32], int]:
    """Header, entries and hashes of the archive's own index, and where it begins."""
    end = size - TRAILER_BYTES
    if end < HEADER_BYTES:
        raise CorruptError(f"the {KIND} does not end with its index")
    offset = parse_trailer(read_at(fd, end, TRAILER_BYTES))
    if not HEADER_BYTES <= offset <= end - DESCRIPTION_BYTES:
        raise CorruptError(f"damaged {KIND}: its index cannot begin at {offset}")
    return *parse_index(read_at(fd, offset, end - offset), offset), offset


def _search(fd: int, size: int, header: ArchiveHeader, problem: str) -> ArchiveIndex:
    """The index made again from the blocks that are there.

    A block whose head is sound is where it says and holds the images it says. Those at the end
    count only if they are sound as a whole: a writer that was killed left the rest.
    """
    entries: list[Entry] = []
    hashes = []
    for entry, directory in _blocks(fd, size, header):
        if _follows(entries, entry):
            entries.append(entry)
            hashes.append(directory_hashes(directory))
    while entries and not _is_sound(fd, header, entries[-1]):
        del entries[-1], hashes[-1]
    end = entries[-1].end if entries else HEADER_BYTES
    joined = np.concatenate([np.zeros(0, np.uint32), *hashes])
    return ArchiveIndex(header, entries, joined, end, problem)


def _blocks(fd: int, size: int, header: ArchiveHeader) -> Iterator[tuple[Entry, Directory]]:
    """The blocks with a sound head and directory, in the order of the file."""
    at = HEADER_BYTES
    while at + HEAD_BYTES <= size:
        head = _head_at(fd, at)
        if head is None:
            at = _next_marker(fd, at + 1, size)
            continue
        entry = Entry(at, head.directory_bytes, head.data_bytes, head.first, head.count, False)
        if entry.end > size:
            return
        at = entry.end
        listed = read_at(fd, entry.offset + HEAD_BYTES, head.directory_bytes)
        try:
            directory = parse_directory(header, listed, head)
        except CorruptError:
            continue
        sizes = (entry.directory_bytes, entry.data_bytes, entry.first, entry.count)
        yield Entry(entry.offset, *sizes, any(directory.names)), directory


def _head_at(fd: int, at: int) -> Head | None:
    try:
        return parse_head(read_at(fd, at, HEAD_BYTES))
    except CorruptError:
        return None


def _next_marker(fd: int, at: int, size: int) -> int:
    """Where the next marker of a block begins, at `at` or behind it; `size` if there is none."""
    while at < size:
        part = read_at(fd, at, min(_SEARCH_BYTES, size - at))
        found = part.find(BLOCK_MARKER)
        if found >= 0:
            return at + found
        if at + len(part) == size:
            break
        at += len(part) - len(BLOCK_MARKER) + 1
    return size


def _follows(entries: list[Entry], entry: Entry) -> bool:
    """Whether a block found by the search can come behind those before it.

    Images may be missing in between, as many as the bytes in between can have held.
    """
    position, expected = (entries[-1].end, entries[-1].stop) if entries else (HEADER_BYTES, 0)
    missing, gap = entry.first - expected, entry.offset - position
    return missing == 0 or (gap > 0 and 0 < missing <= most_pictures(gap))


def _is_sound(fd: int, header: ArchiveHeader, entry: Entry) -> bool:
    try:
        verify_block(fd, header, entry)
    except BitstreamError:
        return False
    return True


def unique_numbers(
    path: Path, count: int, indices: Iterable[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The numbers that indices name in an archive of `count` images, rising, and each one's place.

    Raises:
        IndexError: there is none of this number.
    """
    numbers = []
    for index in indices:
        number = operator.index(index)
        if not -count <= number < count:
            raise IndexError(f"{path} has {count} images, none of number {number}")
        numbers.append(number % count)
    unique, places = np.unique(np.array(numbers, np.intp), return_inverse=True)
    return unique, places


@contextmanager
def errors_about(path: Path, entry: Entry | None = None) -> Iterator[None]:
    """Say in errors which archive they are about, and which images."""
    try:
        yield
    except BitstreamError as error:
        if entry is None:
            raise type(error)(f"{path}: {error}") from error
        text = f"{path}: images {entry.first} to {entry.stop - 1}: {error}"
        # In its place in a block, what is no file of this model was one before it was damaged.
        strange = isinstance(error, NotAnHvaeFileError | WrongModelError)
        raise (CorruptError if strange else type(error))(text) from error
