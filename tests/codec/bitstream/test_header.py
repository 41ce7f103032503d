"""The header: examples of the specification, canonical forms, and every kind of damage."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.bitstream.header import (
    MAGIC,
    MAX_COUNT,
    Header,
    parse,
    read_header,
    verify_file,
    verify_first_layer,
    write_file,
    write_files,
)
from hvae_codec.codec.images.limits import MAX_SIDE_PIXELS
from hvae_codec.errors import (
    BitstreamError,
    CorruptError,
    NotAnHvaeFileError,
    TruncatedError,
    UnsupportedVersionError,
)

SPECIFICATION = Path(__file__).parents[3] / "docs" / "FORMAT.md"
MODEL = bytes.fromhex("0badcafe")


def example(name):
    """Bytes of a worked example of docs/FORMAT.md: hexadecimal pairs before two blanks."""
    text = SPECIFICATION.read_text(encoding="utf-8")
    (block,) = re.findall(rf"```hex {name}\n(.*?)```", text, re.DOTALL)
    return bytes.fromhex("".join(re.split(r"\s{2,}", line)[0] for line in block.splitlines()))


def crc16_states(data):
    """CRC-16 of CCITT of every prefix of the data, bit by bit from its definition."""
    register = 0xFFFF
    yield register
    for byte in data:
        for bit in range(7, -1, -1):
            out = register >> 15 ^ byte >> bit & 1
            register = (register << 1 & 0xFFFF) ^ (0x1021 if out else 0)
        yield register


def crc16(data):
    return list(crc16_states(data))[-1].to_bytes(2, "big")


def check(data):
    """Reads a whole file as far as this module knows it."""
    frame = parse(data)
    return frame, verify_file(data, frame)


@st.composite
def headers(draw):
    sides = st.one_of(st.integers(1, 200), st.sampled_from([127, 128, 16_383, 16_384]))
    sized = draw(st.booleans())
    block = draw(st.booleans())
    return Header(
        model_id=draw(st.binary(min_size=4, max_size=4)),
        width=draw(sides) if sized else None,
        height=draw(st.integers(1, 1500)) if sized else None,
        count=draw(st.integers(1, MAX_COUNT)) if block else 1,
        grey=draw(st.booleans()),
        block=block,
        quality=draw(st.none() | st.integers(0, 255)),
    )


@st.composite
def files(draw):
    return write_file(
        draw(headers()),
        several=draw(st.booleans()),
        first_layer=draw(st.binary(max_size=8)),
        payload=draw(st.binary(max_size=40)),
    )


def test_short_example_field_by_field():
    data = example("one-tile")
    assert data[:7] == b"\xf6\x48\x81" + MODEL
    assert data[7:9] == crc16(data[:7] + bytes([0, 1, 0, 0]))
    assert data[9:11] == crc16(data[:9] + data[11:])
    assert len(data) == 11 + 1
    frame, payload = check(data)
    assert frame.header == Header(MODEL)
    assert payload == b"\xf3"
    verify_first_layer(data, frame, bytes([0, 1, 0, 0]))
    assert data == write_file(
        Header(MODEL), several=False, first_layer=bytes([0, 1, 0, 0]), payload=b"\xf3"
    )


def test_long_example_field_by_field():
    data = example("two-tiles")
    symbols = bytes.fromhex("00010000 0000ffff")
    assert data[7:9] == crc16(data[:7] + data[13:16] + symbols)
    assert data[9:13] == zlib.crc32(data[:9] + data[13:]).to_bytes(4, "big")
    frame, payload = check(data)
    assert frame.header == Header(MODEL, width=40, height=32, grey=True)
    assert payload == b"\x98"
    verify_first_layer(data, frame, symbols)
    assert data == write_file(frame.header, several=True, first_layer=symbols, payload=payload)


@given(headers(), st.booleans(), st.binary(max_size=8), st.binary(max_size=60))
def test_round_trip(header, several, first_layer, payload):
    data = write_file(header, several=several, first_layer=first_layer, payload=payload)
    frame, found = check(data)
    assert frame.header == header == read_header(data)
    assert found == payload
    verify_first_layer(data, frame, first_layer)
    assert frame.check_bytes == 4 or not (several or header.block)


@settings(max_examples=40)
@given(files())
def test_every_flipped_bit_is_noticed(data):
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            check(bytes(damaged))


@settings(max_examples=40)
@given(files(), st.integers(0, 2**16 - 1), st.data())
def test_every_short_burst_behind_the_checks_is_noticed(data, pattern, draw):
    """Damage within 16 adjacent bits of the varints and the payload."""
    first = 8 * (9 + parse(data).check_bytes)
    at = draw.draw(st.integers(first, max(first, 8 * len(data) - 16)))
    if pattern == 0 or at + 16 > 8 * len(data):
        return
    as_number = int.from_bytes(data, "big") ^ pattern << (8 * len(data) - 16 - at)
    with pytest.raises(BitstreamError):
        check(as_number.to_bytes(len(data), "big"))


@given(files())
def test_every_truncation_is_noticed(data):
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            check(data[:length])


@given(files())
def test_an_added_zero_byte_is_noticed(data):
    with pytest.raises(CorruptError):
        check(data + b"\0")


def test_payloads_whose_prefix_has_the_same_check_take_the_long_form():
    """Among 3000 payloads of 120 bytes, 3000 * 120 / 2^16 = 5.5 are expected."""
    start = MAGIC + b"\x81" + MODEL
    start += crc16(start + b"ab")
    long_ones = 0
    for number in range(3000):
        payload = (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") * 15
        data = write_file(Header(MODEL), several=False, first_layer=b"ab", payload=payload)
        short = data[2] & 0b10000 == 0
        *cut, whole, longer = list(crc16_states(start + payload + b"\0"))[len(start) :]
        assert short != (whole in cut or longer == whole)
        long_ones += whole in cut
    assert 1 <= long_ones <= 20


def test_check_that_a_zero_byte_keeps_takes_the_long_form():
    """Data followed by its own CRC has the CRC 0, and zero bytes keep it 0."""
    data = write_file(Header(MODEL), several=False, first_layer=b"", payload=b"")
    assert data[2] & 0b10000
    assert len(data) == 14


def test_trailing_bytes_of_the_long_form_are_noticed_for_certain():
    with pytest.raises(CorruptError, match="2 bytes after its end"):
        check(example("two-tiles") + b"ab")
    with pytest.raises(TruncatedError, match="0 of 1 payload bytes"):
        check(example("two-tiles")[:-1])


@given(st.integers(32, 200), st.integers(0, 2**32))
@settings(max_examples=20)
def test_files_written_together_are_those_written_one_by_one(count, seed):
    random = np.random.default_rng(seed)
    header = Header(b"abcd", grey=bool(seed % 2))
    tops = [random.bytes(8) for _ in range(count)]
    payloads = [random.bytes(int(random.integers(0, 2000))) for _ in range(count)]
    together = write_files(header, tops, payloads)
    pairs = zip(tops, payloads, strict=True)
    alone = [write_file(header, several=False, first_layer=t, payload=p) for t, p in pairs]
    assert together == alone


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"\xf6", b"\xf6I", b"HVAE", b"\0" * 40])
def test_other_files_are_told_apart(data):
    with pytest.raises(TruncatedError if data == b"\xf6" else NotAnHvaeFileError):
        parse(data)


def with_flags(bits, rest):
    flags = bits | (bits.bit_count() % 2) << 7
    return MAGIC + bytes([flags]) + MODEL + bytes(2) + rest


def test_unknown_versions_and_odd_parity():
    for version in (0, 3, 4, 5, 6, 7):
        with pytest.raises(UnsupportedVersionError, match=f"version {version}"):
            parse(with_flags(version, bytes(10)))
    with pytest.raises(CorruptError, match="parity"):
        parse(MAGIC + b"\x01" + MODEL + bytes(10))
    with pytest.raises(CorruptError, match="long form"):
        parse(with_flags(0b100001, bytes(10)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("00 05", "width 0"),
        ("05 00", "height 0"),
        ("85 00 05", "shortest form"),
        ("80 80 04 05", "width 65536"),
        ("80 80 80 80 80 01 05", "width is over"),
        ("ff ff 03 ff ff 03", "65535 x 65535 pixels are over the limit"),
    ],
)
def test_forged_sizes(fields, message):
    with pytest.raises(CorruptError, match=message):
        parse(with_flags(0b01001, bytes(2) + bytes.fromhex(fields) + b"payload"))


def test_forged_counts_and_lengths():
    for fields, message in (
        ("00 05", "count 0"),
        ("81 80 40 05", "count 1048577"),
        ("05 85 00", "payload length is not"),
        ("05 ff ff ff ff ff 01", "payload length is over"),
    ):
        with pytest.raises(CorruptError, match=message):
            parse(with_flags(0b110001, bytes(4) + bytes.fromhex(fields)))
    data = with_flags(0b110001, bytes(4) + bytes.fromhex("05 ff ff ff ff 7f"))
    with pytest.raises(TruncatedError, match=f"0 of {2**35 - 1} payload bytes"):
        check(data)


def test_largest_side_is_written_and_read():
    header = Header(MODEL, width=MAX_SIDE_PIXELS, height=1)
    data = write_file(header, several=True, first_layer=b"", payload=b"")
    assert read_header(data) == header


@given(st.binary(max_size=40))
def test_random_bytes_pass_only_if_their_check_holds(rest):
    data = MAGIC + b"\x81" + MODEL + rest
    try:
        check(data)
    except BitstreamError:
        return
    assert data[9:11] == crc16(data[:9] + data[11:])


def test_model_id_must_have_four_bytes():
    with pytest.raises(ValueError, match="4 bytes, not 3"):
        write_file(Header(b"abc"), several=False, first_layer=b"", payload=b"")
