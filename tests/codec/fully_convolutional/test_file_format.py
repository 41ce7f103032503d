"""Version 2 of the format: the example of the specification, the quality byte, forged headers."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from hvae_codec.codec.bitstream.container import SHORT_PIXELS, ConvForm, open_file
from hvae_codec.codec.bitstream.conv_files import ConvFileCoder
from hvae_codec.codec.bitstream.header import (
    Header,
    SizedHeader,
    parse,
    read_header,
    verify_file,
    write_file,
)
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.entropy.context_tables import ContextLayer, ContextTables
from hvae_codec.codec.entropy.contexts import LayerContext
from hvae_codec.codec.entropy.tables import LayerTables
from hvae_codec.errors import (
    CorruptError,
    ImageTooLargeError,
    TruncatedError,
    UnsupportedVersionError,
    WrongModelError,
)
from tests.codec.fully_convolutional import reference

SPECIFICATION = Path(__file__).parents[3] / "docs" / "FORMAT.md"
MODEL = bytes.fromhex("0badcafe")
LATENTS = [(16, 1), (8, 1)]


def example():
    """Bytes of the worked example: hexadecimal pairs before two blanks."""
    text = SPECIFICATION.read_text(encoding="utf-8")
    (block,) = re.findall(r"```hex map\n(.*?)```", text, re.DOTALL)
    return bytes.fromhex("".join(re.split(r"\s{2,}", line)[0] for line in block.splitlines()))


def int32(*values):
    return np.array(values, np.int32)


def example_tables():
    """The model of section 8."""
    weights = np.zeros((4, 3, 3, 3), np.int32)
    weights[:, 0, 1, 1], weights[1, 2, 1, 2], weights[2, 1, 1, 0] = 256, 256, 512
    top = LayerTables(int32(-1, 0), int32(3, 2), int32(16384, 32768, 16384, 32768, 32768))
    lower = LayerTables(
        int32(0, -1, 0), int32(1, 3, 2), int32(65536, 8192, 49152, 8192, 32768, 32768)
    )
    first = LayerContext(1, 16, int32([-512], [2]), {}, int32(-256))
    second = LayerContext(1, 8, int32([0], [0]), {16: weights}, int32(256, 512))
    return ContextTables([ContextLayer(first, top), ContextLayer(second, lower)])


FILES = ConvFileCoder(example_tables(), MODEL, (32, 32), coarsest=16)
TOP, LOWER = int32([1, -1]), int32([0, 0, -1, 0], [0, 0, 1, 0])
SYMBOLS = [TOP[None, None], LOWER[None, None]]


def shapes(count, height, width):
    sides = reference.map_sides([{"stride": s} for s, _ in LATENTS], height, width)
    return [(count, *own) for own in sides]


def pack(width, height, symbols, count=1, block=False, quality=127):
    header = SizedHeader(MODEL, width, height, quality=quality)
    return FILES.write(SymbolBatch(range(count), [header] * count, symbols, block=block))[0]


def unpack(data, layers=2):
    return FILES.read_block(data, layers).symbols


def test_example_field_by_field():
    data = example()
    assert data == pack(20, 10, SYMBOLS)
    assert data[:7] == b"\xf6\x48\x0a" + MODEL
    frame = parse(data)
    assert frame.header == Header(MODEL, 20, 10, quality=127)
    assert data[11:14] == bytes([127, 20, 10])
    layers = reference.model_of(FILES.tables.to_tensors(), LATENTS)
    known = [{(0, 0, *at): int(k) for at, k in np.ndenumerate(m)} for m in (TOP, LOWER)]
    sides = [(1, 2), (2, 4)]
    assert set(reference.levels(layers, [], 127, 1, sides[0]).values()) == {0}
    levels = reference.levels(layers, known[:1], 127, 1, sides[1])
    assert list(levels.values()) == [1, 0, 1, 1, 1, 1, 2, 1]
    assert verify_file(data, frame) == reference.encode(layers, known, 127, 1, sides)
    assert reference.decode(layers, data[14:], 127, 1, sides) == known
    for found, expected in zip(unpack(data), SYMBOLS, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_quality_decides_the_top_level():
    """At 128 the bias is (-512 * 127 + 2 * 128) // 255 = -254, above the threshold of -256."""
    other = [int32([1, 0])[None, None], SYMBOLS[1] * 0]
    found = unpack(pack(20, 10, other, quality=128))
    np.testing.assert_array_equal(found[0], other[0])
    with pytest.raises(ValueError, match="outside the support"):
        pack(20, 10, SYMBOLS, quality=128)


def flat(count, height, width):
    return [np.zeros((1, *shape), np.int32) for shape in shapes(count, height, width)]


@pytest.mark.parametrize(
    ("width", "height", "long"),
    [(64, 64, False), (4096, 1, False), (65, 64, True), (4097, 1, True), (32, 32, False)],
)
def test_more_than_4096_pixels_take_the_long_form(width, height, long):
    data = pack(width, height, flat(1, height, width))
    frame = parse(data)
    assert (frame.payload_bytes is not None) == long
    assert (frame.header.width is None) == (width == height == 32)
    assert len(unpack(data)) == 2
    assert parse(pack(8, 8, flat(1, 8, 8), block=True)).payload_bytes is not None


def test_sizes_and_qualities_that_should_not_be_there():
    def opened(header, *, several=False, payload=b""):
        data = write_file(header, several=several, first_layer=b"", payload=payload)
        open_file(data, ConvForm(MODEL, (32, 32), 16), whole=True)

    with pytest.raises(CorruptError, match="does not state the quality"):
        opened(Header(MODEL, 20, 10))
    with pytest.raises(CorruptError, match="size that it should leave out"):
        opened(Header(MODEL, 32, 32, quality=1))
    with pytest.raises(CorruptError, match="cannot lie in the short form"):
        opened(Header(MODEL, SHORT_PIXELS + 1, 1, quality=1), payload=b"x")
    opened(Header(MODEL, count=2**17, block=True, quality=1))  # 32 x 32 pixels each
    opened(Header(MODEL, 1, 17, count=2**18, block=True, quality=1))  # 16 x 32 padded
    for header in (
        Header(MODEL, 1000, 1000, 134, block=True, quality=1),
        Header(MODEL, count=2**17 + 1, block=True, quality=1),
        Header(MODEL, 1, 17, count=2**18 + 1, block=True, quality=1),
    ):
        with pytest.raises(CorruptError, match="over the limit of 134217728"):
            opened(header)
    with pytest.raises(WrongModelError):
        opened(Header(b"abcd", 20, 10, quality=1))


def test_what_is_too_large_is_not_written():
    with pytest.raises(ImageTooLargeError, match="65536 x 1"):
        pack(65536, 1, SYMBOLS)
    with pytest.raises(ImageTooLargeError, match="padded to 1008 x 1008, are over"):
        pack(1000, 1000, SYMBOLS, count=134, block=True)


def test_forged_sizes_are_refused_before_anything_is_allocated():
    """Every table of the top layer has at least one bit, so 16 bytes hold at most 128 symbols."""
    for header in (
        Header(MODEL, 16 * 129, 16, quality=1),
        Header(MODEL, 10_000, 10_000, quality=1),
        Header(MODEL, count=90_000, block=True, quality=1),
    ):
        data = write_file(header, several=True, first_layer=b"", payload=b"")
        for layers in (1, 2):
            tracemalloc.start()
            try:
                with pytest.raises(CorruptError, match="0 bytes cannot hold maps of at least"):
                    unpack(data, layers)
                assert tracemalloc.get_traced_memory()[1] < 50_000
            finally:
                tracemalloc.stop()
    held = unpack(
        write_file(
            Header(MODEL, 16 * 128, 16, quality=200),
            several=True,
            first_layer=bytes(256),
            payload=b"",
        ),
        1,
    )
    np.testing.assert_array_equal(held[0], np.zeros((1, 1, 1, 128)))


def test_version_bits_and_the_quality_byte():
    data = example()
    for bit in range(8):
        with pytest.raises(CorruptError):
            unpack(data[:2] + bytes([data[2] ^ 1 << bit]) + data[3:])
    with pytest.raises(UnsupportedVersionError, match="version 3"):
        parse(data[:2] + b"\x8b" + data[3:])
    for value in range(256):
        if value != data[11]:
            forged = data[:11] + bytes([value]) + data[12:]
            assert read_header(forged).quality == value
            for layers in (1, 2):
                with pytest.raises(CorruptError):
                    unpack(forged, layers)
    with pytest.raises(TruncatedError):
        read_header(data[:11])
