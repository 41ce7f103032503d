"""`.hvaa` archives as fuzzer input."""

from __future__ import annotations

import os
import random
import struct
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np

import hvae_codec
from benchmarks.common import photographs_crops
from benchmarks.fuzzing.files import sealed
from benchmarks.fuzzing.mutate import MAX_BYTES, changed, forged_number
from benchmarks.fuzzing.target import Mutant, Outcome, refusal_of
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.codec.archive.format import BLOCK_MARKER, HEAD_BYTES, HEADER_BYTES, INDEX_MARKER
from hvae_codec.codec.archive.index import RecoveredWarning
from hvae_codec.codec.archive.labels import Label
from hvae_codec.errors import BitstreamError, UnknownModelError

_HEAD = struct.Struct(">4sIIQII")  # marker, directory, data, first image, images, check
_INDEX = struct.Struct(">4sQI")
_TRAILER = struct.Struct(">Q4s")
LABELS: list[Label | None] = [7, {"class": "é", "box": [1, 2.5, None]}, -300]
_REFUSALS = (BitstreamError, UnknownModelError)


class ArchiveTarget:
    """Archives through `Archive`: listing, look-up, verification and all symbols, some images."""

    check_bits: dict[str, int] = {}  # noqa: RUF012 (all of 32 bits and covering parts)

    def __init__(self) -> None:
        self._fd = os.memfd_create("archive")
        self._path = f"/proc/self/fd/{self._fd}"
        crops = photographs_crops()
        self.seeds = [
            _archive("cifar10", list(crops[:3]), ["cat-1", "cat-2", "dog"], 2),
            _archive("cifar10", [crops[4], crops[5, :9, :20, :1], crops[6]], [None, "é", None], 9),
            _archive("mnist", [crop[:28, :28, :1] for crop in crops[8:12]], [None] * 4, 1),
            _archive("mnist", [crops[13, :20, :9, :1], crops[14, :9, :30, :1]], ["a/1", "a/2"], 1),
            _archive("mnist", [], [], 1),
            _archive(
                "mnist", [crop[:28, :28, :1] for crop in crops[2:5]], ["a", None, "b"], 2, LABELS
            ),
        ]

    def mutate(self, data: bytes, rng: random.Random) -> Mutant:
        """Bytes changed anywhere, or one part changed and the check sums over it made right."""
        choice = rng.random()
        if choice < 0.4:
            return Mutant(changed(data, rng, self.seeds), data, forged=False)
        parts = _Parts.of(data)
        if parts is None or choice < 0.5:
            parts = _Parts.of(rng.choice(self.seeds))
        assert parts is not None
        return Mutant(_forged(parts, rng, self.seeds)[:MAX_BYTES], data, forged=True)

    def run(self, data: bytes, *, whole: bool) -> Outcome:
        """Open, list, look up, verify, and read every image that can be read."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RecoveredWarning)
                archive = Archive(self._path)
        except _REFUSALS as error:
            return Outcome("not opened", refusal_of(error))
        with archive:
            damages = archive.verify()
            problem = archive.info.problem
            found, refusals = self._read(archive, whole)
        stage = "recovered" if problem else "damaged" if damages or refusals else "read"
        if stage == "read":  # nothing was said to be amiss: then it must be all of an archive
            found.add(hash(("all", *sorted(found))))
        if problem:
            refusals.insert(0, refusal_of(RecoveredWarning(problem)))
        return Outcome(stage, refusals[0] if refusals else "", frozenset(found))

    def _read(self, archive: Archive, whole: bool) -> tuple[set[int], list[str]]:
        """What the archive says of each image, and its symbols; and what cannot be read."""
        found: set[int] = set()
        refusals = []
        for numbers in archive.blocks:
            try:
                listed = list(archive.listing(numbers))
                found |= {hash((archive.info.model_id, repr(picture))) for picture in listed}
                if listed[0].name is not None and listed[0].name not in archive:
                    refusals.append("a name is in its block and not in the index")
                for number, symbols in self._symbols(archive, numbers):
                    found.add(hash((archive.info.model_id, number, symbols)))
                if whole:
                    self._check_pictures(archive, numbers)
            except _REFUSALS as error:
                refusals.append(refusal_of(error))
        return found, refusals

    def _symbols(self, archive: Archive, numbers: range) -> list[tuple[int, bytes]]:
        """Of each image of a block its number and symbols, without the networks."""
        wanted = archive._index.by_entry(archive.path, np.asarray(numbers, np.intp))
        pairs = []
        for batch in (batch for some in archive._batches(wanted, None) for batch in some):
            for row, number in enumerate(batch.numbers):
                own = batch.select([row]).symbols
                pairs.append((int(number), b"".join(layer.tobytes() for layer in own)))
        return pairs

    def _check_pictures(self, archive: Archive, numbers: range) -> None:
        pictures = archive.decode(numbers)
        sizes = [(p.height, p.width, p.channels) for p in archive.listing(numbers)]
        if [picture.shape for picture in pictures] != sizes:
            raise AssertionError(f"images of {sizes[:3]} are {pictures[0].shape}")
        archive.features(numbers)


def _archive(
    name: str,
    pictures: list[np.ndarray],
    names: list[str | None],
    block_tiles: int,
    labels: list[Label | None] | None = None,
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.hvaa"
        codec = hvae_codec.load(name, quality=1)
        with ArchiveWriter(
            path, codec, block_tiles=block_tiles, labels=labels is not None
        ) as writer:
            writer.extend(pictures, names, labels)
        return path.read_bytes()


@dataclass(frozen=True)
class _Block:
    first: int
    count: int
    directory: bytes
    data: bytes

    def to_bytes(self) -> bytes:
        """The block with its check sums made right."""
        lengths = (len(self.directory), len(self.data))
        fields = (*lengths, self.first % 2**64, self.count % 2**32, crc32(self.directory))
        head = _HEAD.pack(BLOCK_MARKER, *fields)
        return head + crc32(head).to_bytes(4, "big") + self.directory + self.data


@dataclass(frozen=True)
class _Parts:
    """An archive taken apart, however little of it is sound."""

    header: bytes
    blocks: tuple[_Block, ...]
    index: bytes

    @classmethod
    def of(cls, data: bytes) -> _Parts | None:
        """None if no header is there."""
        if len(data) < HEADER_BYTES:
            return None
        at, blocks = HEADER_BYTES, []
        while data[at : at + 4] == BLOCK_MARKER and at + HEAD_BYTES <= len(data):
            _, listed, size, first, count, _ = _HEAD.unpack_from(data, at)
            start = at + HEAD_BYTES
            directory, files = data[start : start + listed], data[start + listed :][:size]
            blocks.append(_Block(first, count, directory, files))
            at = start + listed + size
        index = b""
        if data[at : at + 4] == INDEX_MARKER:
            index = data[at + _INDEX.size : max(at + _INDEX.size, len(data) - _TRAILER.size)]
        return cls(data[: HEADER_BYTES - 4], tuple(blocks), index)

    def to_bytes(self, *, index: bool) -> bytes:
        """The archive with its check sums made right, with or without its index."""
        start = self.header + crc32(self.header).to_bytes(4, "big")
        body = start + b"".join(block.to_bytes() for block in self.blocks)
        if not index:
            return body
        head = _INDEX.pack(INDEX_MARKER, len(self.index), crc32(self.index))
        return body + head + self.index + _TRAILER.pack(len(body), b"\xf6END")


def _forged(parts: _Parts, rng: random.Random, donors: list[bytes]) -> bytes:
    """One or two parts changed, all check sums of the archive's own made right."""
    for _ in range(rng.choice((1, 1, 2))):
        choice = rng.random()
        if choice < 0.12:
            header = changed(parts.header, rng, donors)
            parts = replace(parts, header=header[:14].ljust(14, b"\0"))
        elif choice < 0.35:
            parts = replace(parts, index=changed(parts.index, rng, donors))
        elif parts.blocks:
            blocks = list(parts.blocks)
            at = rng.randrange(len(blocks))
            blocks[at] = _forged_block(blocks[at], rng, donors)
            if rng.random() < 0.1:
                blocks.insert(rng.randrange(len(blocks) + 1), blocks[at])
            elif rng.random() < 0.1:
                del blocks[at]
            parts = replace(parts, blocks=tuple(blocks))
    return parts.to_bytes(index=rng.random() < 0.6)


def _forged_block(block: _Block, rng: random.Random, donors: list[bytes]) -> _Block:
    match rng.randrange(5):
        case 0:
            return replace(block, first=forged_number(rng, block.first))
        case 1:
            return replace(block, count=forged_number(rng, block.count))
        case 2 | 3:
            return replace(block, directory=changed(block.directory, rng, donors))
        case _:
            data = changed(block.data, rng, donors)
            return replace(block, data=sealed(data) if rng.random() < 0.7 else data)
