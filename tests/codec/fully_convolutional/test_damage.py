"""Forged files and forged qualities of a tiny fully convolutional model."""

import random
import tracemalloc
from binascii import crc_hqx
from collections import Counter
from zlib import crc32

import pytest

from benchmarks.fuzzing.mutate import changed
from hvae_codec.codec.bitstream.header import MAGIC, Header, parse, read_header, write_file
from hvae_codec.errors import (
    BitstreamError,
    CorruptError,
    UnsupportedVersionError,
)
from tests.codec.fully_convolutional.models import waves

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["short", "block"])
def data(tiny, request):
    """A file of the short and one of the long form."""
    pictures = [waves(20, 40, seed=n) for n in range(2)]
    blob = tiny.encode(pictures[0]) if request.param == "short" else tiny.encode_block(pictures)
    assert (parse(blob).payload_bytes is None) == (request.param == "short")
    return blob


def test_every_other_quality_is_noticed(tiny, data):
    at = 9 + parse(data).check_bytes
    assert data[at] == read_header(data).quality
    for value in set(range(256)) - {data[at]}:
        forged = data[:at] + bytes([value]) + data[at + 1 :]
        with pytest.raises(CorruptError):
            tiny.file_coder.read_block(forged)


def test_a_preview_of_another_quality_is_noticed(tiny, data):
    """Its own check covers the quality byte: 16 bits see any change of 8 of equal symbols."""
    at = 9 + parse(data).check_bytes
    noticed = 0
    for value in set(range(256)) - {data[at]}:
        try:
            tiny.file_coder.read_block(data[:at] + bytes([value]) + data[at + 1 :], 1)
        except CorruptError:
            noticed += 1
    assert noticed == 255


def sealed(codec, data):
    """The same bytes with magic, model, parity and both check sums made right, if they can be."""
    if len(data) < 12:
        return data
    flags = data[2] ^ 128 * (data[2].bit_count() % 2)
    edited = MAGIC + bytes([flags]) + bytes.fromhex(codec.info.model_id) + data[7:]
    try:
        frame = parse(edited)
        height, width, _, count = codec.picture_shape(edited)
    except BitstreamError:
        return edited
    behind = 9 + frame.check_bytes
    if frame.header.quality is not None and height * width * count < 10**6:
        entropy = codec.file_coder
        shapes = entropy.shapes(count, height, width)[:1]
        try:
            top = codec.file_coder.coder.decode(
                [edited[frame.payload_at :]], frame.header.quality, shapes
            )
        except CorruptError:
            return edited
        head = crc_hqx(edited[:7] + edited[behind : frame.payload_at], 0xFFFF)
        first = crc_hqx(top[0].transpose(1, 0, 2, 3).astype(">i2").tobytes(), head)
        edited = edited[:7] + first.to_bytes(2, "big") + edited[9:]
    checked = edited[:9] + edited[behind:]
    check = crc32(checked) if frame.check_bytes == 4 else crc_hqx(checked, 0xFFFF)
    return edited[:9] + check.to_bytes(frame.check_bytes, "big") + edited[behind:]


def test_forgeries_whose_check_sums_hold_are_read_or_refused(tiny):
    """Nothing but the library's errors; what is read has the size that its header states."""
    rng = random.Random(7)
    seeds = [
        tiny.encode(waves(20, 40)),
        tiny.encode(waves(32, 32, 1)),
        tiny.at_number(3).encode(waves(70, 80)),
        tiny.encode_block([waves(33, 20, seed=n) for n in range(3)]),
    ]
    assert [sealed(tiny, seed) for seed in seeds] == seeds
    stages = Counter()
    for _ in range(600):
        data = sealed(tiny, changed(rng.choice(seeds), rng, seeds))
        try:
            height, width, channels, count = tiny.picture_shape(data)
            if height * width * count > 10**6:
                continue
            block = tiny.file_coder.read_block(data)
        except BitstreamError as error:
            stages[type(error)] += 1
            continue
        stages["read"] += 1
        assert [len(layer) for layer in block.rows()] == [count] * 4
        if height * width * count < 4096 and stages["read"] % 20 == 0:
            pictures = tiny.images_of([block])
            assert [p.shape for p in pictures] == [(height, width, channels)] * count
    assert stages["read"] > 120
    assert stages[CorruptError] > 20
    assert stages[UnsupportedVersionError] > 1


def peak_bytes_of_refusal(call, data, message):
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match=message):
            call(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "size",
    [
        {"width": 10_000, "height": 10_000},
        {"width": 65_535, "height": 1_500},
        {"count": 97_000, "block": True},
        {"width": 33, "height": 1, "count": 65_536, "block": True},
    ],
)
def test_forged_sizes_are_refused_before_anything_is_allocated(tiny, size):
    """Check sums made right, no payload: so many symbols have more bits than the 16 zero bytes."""
    header = Header(bytes.fromhex(tiny.info.model_id), quality=255, **size)
    forged = write_file(header, several=True, first_layer=b"", payload=b"")
    message = "0 bytes cannot hold maps of at least"
    assert peak_bytes_of_refusal(tiny.file_coder.read_block, forged, message) < 50_000
    assert (
        peak_bytes_of_refusal(lambda blob: tiny.file_coder.read_block(blob, 1), forged, message)
        < 50_000
    )


@pytest.mark.parametrize(("width", "height"), [(64, 64), (4096, 1), (1, 4096)])
def test_the_most_that_a_forged_short_file_allocates(tiny, width, height):
    header = Header(bytes.fromhex(tiny.info.model_id), width, height, quality=255)
    forged = write_file(header, several=False, first_layer=b"", payload=b"\x07")
    assert parse(forged).payload_bytes is None
    for call in (tiny.file_coder.read_block, lambda blob: tiny.file_coder.read_block(blob, 1)):
        message = "check sum of header and first layer|cannot hold"
        assert peak_bytes_of_refusal(call, forged, message) < 8_000_000


def test_forged_pixels_over_the_limit(tiny):
    model_id = bytes.fromhex(tiny.info.model_id)
    for size in ({"width": 33, "height": 1, "count": 70_000}, {"count": 140_000}):
        header = Header(model_id, quality=9, block=True, **size)
        forged = write_file(header, several=True, first_layer=b"", payload=b"x" * 9)
        with pytest.raises(CorruptError, match="over the limit of 134217728"):
            tiny.file_coder.read_block(forged)


def test_long_payloads_of_small_pictures_are_damage_or_symbols(tiny):
    """Bytes after what the symbols need are part of no file an encoder writes; the check of the
    file, made right here, is what would have found them.
    """
    header = Header(bytes.fromhex(tiny.info.model_id), quality=100)
    forged = write_file(header, several=True, first_layer=b"", payload=bytes(10_000))
    with pytest.raises(CorruptError, match="check sum of header and first layer"):
        tiny.decode(forged)
