"""`.hvae` files as fuzzer input: one tile, tiled, grey and blocks, of every model of tiles
available.

Files of maps, whose memory goes by their pixels, are forged in
`tests/codec/fully_convolutional/test_damage.py`.
"""

from __future__ import annotations

import random
from binascii import crc_hqx
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

import hvae_codec
from benchmarks.common import photographs_crops
from benchmarks.fuzzing.mutate import MAX_BYTES, changed, forged_number
from benchmarks.fuzzing.target import Mutant, Outcome, refusal_of
from hvae_codec import Codec
from hvae_codec.codec.bitstream.container import tiles_of
from hvae_codec.codec.bitstream.header import parse, verify_file
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.bitstream.tiled_files import TiledFileCoder
from hvae_codec.codec.bitstream.varint import write_varint
from hvae_codec.errors import BitstreamError, CorruptError, UnknownModelError

REFUSALS = (BitstreamError, UnknownModelError)
"""What a reader of bytes may raise."""

_SIZED, _LONG, _BLOCK, _GREY = 8, 16, 32, 64
_FLAG_CHANGES = (_SIZED, _LONG, _BLOCK, _GREY, 1, 2, 4, 128, _SIZED | _LONG, _BLOCK | _LONG)


class FileTarget:
    """`.hvae` files through `FileCoder`, some through the networks."""

    check_bits = {"16-bit check": 16, "32-bit check": 32}  # noqa: RUF012

    def __init__(self) -> None:
        crops = photographs_crops()
        self.seeds: list[bytes] = []
        for info in hvae_codec.models():
            if info.continuous:
                continue
            codec = hvae_codec.load(info.name, quality=info.quality)
            channels, height, width = info.image_shape
            pictures = crops[:, :height, :width, :channels]
            self.seeds += codec.encode_batch(pictures[:2])
            self.seeds.append(codec.encode(pictures[2, :20, :11]))
            self.seeds.append(codec.encode_block(pictures[3:6]))
            if info.quality in (1, 5):
                tiled = np.concatenate([pictures[7], pictures[8][:, :]])[:, :, :1]
                self.seeds += [codec.encode(tiled), codec.encode_block(pictures[:40:8, :9, :, :1])]
        self._models = {seed[3:7] for seed in self.seeds}

    def mutate(self, data: bytes, rng: random.Random) -> Mutant:
        """Bytes changed and left so, bytes changed and sealed again, or fields forged."""
        choice = rng.random()
        if choice < 0.45:
            return Mutant(self._begun(changed(data, rng, self.seeds), rng), data, forged=False)
        if choice < 0.65:
            again = self._begun(changed(data, rng, self.seeds), rng)
            return Mutant(sealed(again), data, forged=True)
        mend = rng.random() < 0.7
        forged = sealed(_forged_fields(data, rng, self.seeds), mend_length=mend)
        return Mutant(forged[:MAX_BYTES], data, forged=True)

    def _begun(self, data: bytes, rng: random.Random) -> bytes:
        """The same, most often with magic and model as a reader wants them: else all ends there."""
        begins = data[:2] == b"\xf6H" and data[3:7] in self._models
        if begins or len(data) < 8 or rng.random() < 0.1:
            return data
        start = rng.choice(self.seeds)
        return start[:2] + data[2:3] + start[3:7] + data[7:]

    def run(self, data: bytes, *, whole: bool) -> Outcome:
        """Every way to read a file; `whole`: its images too."""
        try:
            codec = hvae_codec.codec_for(data)
        except REFUSALS as error:
            return Outcome("header", refusal_of(error))
        try:
            block = codec.file_coder.read_block(data)
        except BitstreamError as error:
            if whole:
                _read_the_beginning(codec, data)
            return Outcome(_stage_of(data), refusal_of(error))
        described = (codec.info.model_id, *_fields_of(block))
        symbols = [layer.tobytes() for layer in block.symbols]
        if whole:
            _check_pictures(codec, data, block)
        return Outcome("read", meaning=frozenset([hash((described, *symbols))]))


def sealed(data: bytes, *, mend_length: bool = True) -> bytes:
    """The same bytes with parity, payload length and both check sums made right, as far as a
    header can be read.
    """
    if len(data) < 11:
        return data
    edited = bytearray(data)
    edited[2] ^= 128 * (edited[2].bit_count() % 2)
    try:
        frame = parse(bytes(edited))
        codec = hvae_codec.codec_for(bytes(edited))
    except REFUSALS:
        return bytes(edited)
    behind = 9 + frame.check_bytes
    length = write_varint(frame.payload_bytes or 0)
    if frame.payload_bytes is not None and mend_length:
        at = frame.payload_at
        edited[at - len(length) : at] = write_varint(len(edited) - at)
        frame = parse(bytes(edited))
    _, height, width = codec.info.image_shape
    payload = bytes(edited[frame.payload_at :])
    try:
        coder = codec.file_coder
        if not isinstance(coder, TiledFileCoder):
            return bytes(edited)
        # The public face would verify what is forged.
        top = coder.coder.decode(payload, tiles_of(frame.header, (height, width)), 1)[0]
    except CorruptError:
        pass
    else:
        first = crc_hqx(bytes(edited[:7] + edited[behind : frame.payload_at]), 0xFFFF)
        edited[7:9] = crc_hqx(top.astype(">i2").tobytes(), first).to_bytes(2, "big")
    before, after = bytes(edited[:9]), bytes(edited[behind:])
    if frame.check_bytes == 4:
        edited[9:13] = crc32(after, crc32(before)).to_bytes(4, "big")
    else:
        edited[9:11] = crc_hqx(after, crc_hqx(before, 0xFFFF)).to_bytes(2, "big")
    return bytes(edited)


@dataclass(frozen=True)
class _Fields:
    flags: int
    model_id: bytes
    sides: tuple[int, int]
    count: int
    payload_bytes: int
    payload: bytes

    def to_bytes(self) -> bytes:
        """The file that says so, its check sums zero."""
        numbers = [*(self.sides if self.flags & _SIZED else ())]
        numbers += [self.count] if self.flags & _BLOCK else []
        numbers += [self.payload_bytes] if self.flags & _LONG else []
        checks = bytes(6 if self.flags & _LONG else 4)
        fields = b"".join(map(write_varint, numbers))
        return b"\xf6H" + bytes([self.flags]) + self.model_id + checks + fields + self.payload


def _forged_fields(data: bytes, rng: random.Random, donors: list[bytes]) -> bytes:
    """The file with other fields, its payload kept or changed, its check sums zero."""
    try:
        frame = parse(data)
    except BitstreamError:
        return changed(data, rng, donors)
    header, payload = frame.header, data[frame.payload_at :]
    sides = (header.width or 32, header.height or 32)
    fields = _Fields(data[2], header.model_id, sides, header.count, len(payload), payload)
    for _ in range(rng.choice((1, 1, 2, 3))):
        fields = _with_one_forged(fields, rng, donors)
    return fields.to_bytes()[: MAX_BYTES - 8]


def _with_one_forged(fields: _Fields, rng: random.Random, donors: list[bytes]) -> _Fields:
    match rng.randrange(7):
        case 0:
            return replace(fields, flags=fields.flags ^ rng.choice(_FLAG_CHANGES))
        case 1:
            forged, kept = forged_number(rng, fields.sides[0]), fields.sides[1]
            sides = rng.choice(((forged, kept), (kept, forged)))
            return replace(fields, sides=sides, flags=fields.flags | _SIZED | _LONG)
        case 2:
            several = fields.flags | _BLOCK | _LONG
            return replace(fields, count=forged_number(rng, fields.count), flags=several)
        case 3:
            return replace(fields, payload_bytes=forged_number(rng, len(fields.payload)))
        case 4:
            return replace(fields, model_id=rng.choice(donors)[3:7])
        case 5:
            return replace(fields, payload=fields.payload * rng.choice((0, 2, 9)))
        case _:
            return replace(fields, payload=changed(fields.payload, rng, donors))


def _stage_of(data: bytes) -> str:
    """Where a file is refused: at its header, at the check of the file, or behind it."""
    try:
        frame = parse(data)
        if frame.payload_bytes not in (None, len(data) - frame.payload_at):
            return "header"
    except BitstreamError:
        return "header"
    try:
        verify_file(data, frame)
    except BitstreamError:
        return f"{8 * frame.check_bytes}-bit check"
    return "behind the check"


def _fields_of(batch: SymbolBatch) -> tuple[object, ...]:
    header = batch.header
    return header.width, header.height, len(batch), header.grey, batch.block


def _read_the_beginning(codec: Codec, data: bytes) -> None:
    """What may be read of a file that is cut off or damaged behind z2."""
    for read in (
        codec.preview,
        codec.features_from_bytes,
        lambda blob: codec.decode(blob, partial=True),
        lambda blob: codec.decode_batch([blob, blob]),
    ):
        try:
            read(data)
        except BitstreamError:
            continue


def _check_pictures(codec: Codec, data: bytes, block: SymbolBatch) -> None:
    """A file whose symbols were read gives its images, of the size it says."""
    header = block.header
    channels = 1 if header.grey else codec.info.image_shape[0]
    shape: tuple[int, ...] = (header.height, header.width, channels)
    if block.block:
        shape = (len(block), *shape)
        found = codec.decode_block(data).shape
    else:
        found = codec.decode(data).shape
        codec.features_from_bytes(data)
        codec.preview(data)
    if found != shape:
        raise AssertionError(f"the header says {shape}, the image is {found}")
