"""Damaged and forged files of a tiny model of maps, and of models of the other kind."""

import random
import tracemalloc
from binascii import crc_hqx
from collections import Counter
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hvae_codec
from benchmarks.fuzzing.mutate import changed
from hvae_codec.codec.bitstream.header import MAGIC, Header, parse, read_header, write_file
from hvae_codec.errors import (
    BitstreamError,
    CorruptError,
    TruncatedError,
    UnsupportedVersionError,
    WrongModelError,
)
from tests.codec.fully_convolutional.models import assert_equal_symbols, waves

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["short", "block"])
def data(tiny, request):
    """A file of the short and one of the long form."""
    pictures = [waves(20, 40, seed=n) for n in range(2)]
    blob = tiny.encode(pictures[0]) if request.param == "short" else tiny.encode_block(pictures)
    assert (parse(blob).payload_bytes is None) == (request.param == "short")
    return blob


def test_every_flipped_bit_is_noticed(tiny, data):
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            tiny.file_coder.read_block(bytes(damaged))


def test_every_truncation_is_noticed(tiny, data):
    """A preview of one is that of the whole or an error."""
    top = tiny.file_coder.read_block(data).symbols[:1]
    previewed = 0
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            tiny.file_coder.read_block(data[:length])
        try:
            found = tiny.file_coder.read_block(data[:length], 1)
        except BitstreamError:
            assert previewed == 0
        else:
            assert_equal_symbols(found.symbols, top)
            previewed += 1
    assert previewed > len(data) / 4
    for added in (b"\0", b"\xff", b"ab"):
        with pytest.raises(CorruptError):
            tiny.file_coder.read_block(data + added)


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


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_random_changes_are_noticed(tiny, data, draw):
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw.draw(st.binary(max_size=4)) + data[at + 2 :]
    try:
        block = tiny.file_coder.read_block(data)
    except BitstreamError:
        return
    assert tiny.file_coder.write(block)[0] == data  # nothing was changed


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
    for _ in range(1500):
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
        if height * width * count < 4096 and stages["read"] % 8 == 0:
            pictures = tiny.images_of([block])
            assert [p.shape for p in pictures] == [(height, width, channels)] * count
    assert stages["read"] > 300
    assert stages[CorruptError] > 50
    assert stages[UnsupportedVersionError] > 5


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


def test_files_of_the_other_kind_of_model(tiny):
    """By its own id a file names another model; with the id forged it is of the wrong version."""
    other = hvae_codec.load("cifar10", quality=1)
    picture = waves(40, 40)
    ids = bytes.fromhex(tiny.info.model_id), bytes.fromhex(other.info.model_id)
    files = tiny.encode(picture), other.encode(picture)
    for codec, file in ((tiny, files[1]), (other, files[0])):
        for call in (
            codec.decode,
            codec.preview,
            codec.features_from_bytes,
            codec.file_coder.read_block,
        ):
            with pytest.raises(WrongModelError):
                call(file)
    first = write_file(Header(ids[0], 40, 40), several=True, first_layer=b"", payload=b"payload")
    with pytest.raises(CorruptError, match="does not state the quality"):
        tiny.decode(first)
    second = write_file(
        Header(ids[1], 40, 40, quality=3), several=True, first_layer=b"", payload=b"payload"
    )
    with pytest.raises(CorruptError, match="states a quality that its model does not have"):
        other.decode(second)


def test_headers_cut_anywhere(tiny, data):
    for length in range(len(MAGIC), parse(data).payload_at):
        for call in (read_header, tiny.picture_shape, tiny.preview):
            with pytest.raises(TruncatedError):
                call(data[:length])
    assert tiny.picture_shape(data[: parse(data).payload_at])[:3] == (20, 40, 3)


def test_no_array_of_a_read_file_is_shared(tiny, data):
    first, second = tiny.file_coder.read_block(data), tiny.file_coder.read_block(data)
    for layer in first.symbols:
        layer += 1
    assert all((a - b == 1).all() for a, b in zip(first.symbols, second.symbols, strict=True))
    assert all(np.issubdtype(layer.dtype, np.int32) for layer in first.symbols)
