"""Symbols to files and back: round trips, golden files, damage, forged sizes."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.bitstream.container import MAX_TILES, tiles_of
from hvae_codec.codec.bitstream.header import Header, SizedHeader, write_file
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.bitstream.tiled_files import TiledFileCoder
from hvae_codec.codec.entropy.tables import TOTAL, LayerTables, SymbolTables
from hvae_codec.errors import (
    BitstreamError,
    CorruptError,
    ImageTooLargeError,
    TruncatedError,
    WrongModelError,
)

MODEL = bytes.fromhex("0badcafe")
TILE = (32, 32)
HALF, QUARTER = TOTAL // 2, TOTAL // 4


def ints(*values):
    return np.array(values, np.int32)


def specification_tables():
    """The model of docs/FORMAT.md, section 6."""
    top = LayerTables(ints(0, -1), ints(2, 2), ints(HALF, HALF, QUARTER, 3 * QUARTER))
    frequency = ints(QUARTER, HALF, QUARTER, TOTAL, HALF, HALF)
    return SymbolTables([top, LayerTables(ints(-1, 4, 0), ints(3, 1, 2), frequency)])


def files_of(tables):
    return TiledFileCoder(tables, MODEL, TILE)


def write(files, header, symbols):
    if not header.block:
        return files.write(SymbolBatch([0], [header], symbols))[0]
    each = [replace(header, count=1, block=False)] * header.count
    return files.write(SymbolBatch(range(header.count), each, symbols, block=True))[0]


def read(files, data, layers=None):
    (header,), symbols = files.read_symbols([data], layers)
    return header, symbols


def write_many(header, symbols):
    count = len(symbols[0])
    return FILES.write(SymbolBatch(range(count), [header] * count, symbols))


def gaussian_model(dims=(8, 40)):
    """A file coder with tables of discretised Gaussians, and a function that draws symbols."""
    rng = np.random.default_rng(1)
    scales = [np.exp(rng.normal(level, 0.8, d)) for level, d in zip((0.6, -1), dims, strict=True)]

    def draw(n, seed=0):
        rng = np.random.default_rng(seed)
        return [np.round(rng.normal(0, s, (n, len(s)))).astype(np.int32) for s in scales]

    tables = SymbolTables.fit(draw(3000, 1))

    def clipped(n):
        return [tables.clip(layer, symbols) for layer, symbols in enumerate(draw(n))]

    return files_of(tables), clipped


FILES, DRAW = gaussian_model()


def same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def sample_files():
    """One file of every form, with what it was made from: (sizes, symbols, bytes)."""
    kinds = [
        {"width": 32, "height": 32},
        {"width": 32, "height": 32, "grey": True},
        {"width": 20, "height": 30},
        {"width": 1, "height": 1},
        {"width": 70, "height": 33},
        {"width": 32, "height": 32, "count": 5, "block": True},
        {"width": 40, "height": 30, "count": 3, "block": True, "grey": True},
        {"width": 32, "height": 32, "count": 1, "block": True},
    ]
    for kind in kinds:
        count = kind.get("count", 1)
        symbols = DRAW(-(-kind["width"] // 32) * -(-kind["height"] // 32) * count)
        yield kind, symbols, write(FILES, SizedHeader(MODEL, **kind), symbols)


SAMPLES = list(sample_files())


def test_golden_files():
    files = files_of(specification_tables())
    first = [ints([1, 0]), ints([0, 4, 1])]
    both = [ints([1, 0], [0, -1]), ints([0, 4, 1], [1, 4, 0])]
    golden = {
        "f648810badcafe7d557d6df3": ({"width": 32, "height": 32}, first),
        "f648590badcafefbd9f30b79a028200198": ({"width": 40, "height": 32, "grey": True}, both),
        "f648b10badcafe95c0a2d2f925020198": (
            {"width": 32, "height": 32, "count": 2, "block": True},
            both,
        ),
        "f648090badcafe15c787d6141ef3": ({"width": 20, "height": 30}, first),
    }
    for text, (kind, symbols) in golden.items():
        assert write(files, SizedHeader(MODEL, **kind), symbols).hex() == text
        header, found = read(files, bytes.fromhex(text))
        assert same(found, symbols)
        assert (header.width, header.height) == (kind["width"], kind["height"])
        assert (header.count, header.block) == (kind.get("count", 1), kind.get("block", False))
        assert header.grey == kind.get("grey", False)


@settings(max_examples=40)
@given(
    st.integers(1, 150), st.integers(1, 150), st.booleans(), st.one_of(st.none(), st.integers(1, 4))
)
def test_round_trip_of_any_size(width, height, grey, block_of):
    header = SizedHeader(MODEL, width, height, block_of or 1, grey, block_of is not None)
    symbols = DRAW(tiles_of(header, TILE))
    data = write(FILES, header, symbols)
    found_header, found = read(FILES, data)
    assert found_header == header
    assert same(found, symbols)
    _, top = read(FILES, data, 1)
    assert same(top, symbols[:1])


def test_header_of_a_single_tile_takes_eleven_bytes():
    symbols = DRAW(300)
    files = write_many(SizedHeader(MODEL, width=32, height=32), symbols)
    payloads = FILES.coder.encode_records(symbols)
    extra = [len(data) - len(payload) for data, payload in zip(files, payloads, strict=True)]
    assert extra.count(11) >= 297
    assert set(extra) <= {11, 14}  # the long form where the check is ambiguous


def test_many_files_are_those_packed_alone():
    symbols = DRAW(9)
    header = SizedHeader(MODEL, width=30, height=31, grey=True)
    files = write_many(header, symbols)
    assert files == [write(FILES, header, [s[i : i + 1] for s in symbols]) for i in range(9)]
    headers, found = FILES.read_symbols(files)
    assert headers == [header] * 9
    assert same(found, symbols)


def test_many_files_of_all_forms_at_once():
    headers, found = FILES.read_symbols([data for *_, data in SAMPLES])
    ends = np.cumsum([tiles_of(header, TILE) for header in headers])
    for (kind, symbols, _), header, end in zip(SAMPLES, headers, ends, strict=True):
        assert (header.width, header.height) == (kind["width"], kind["height"])
        assert same([layer[end - len(symbols[0]) : end] for layer in found], symbols)
    _, top = FILES.read_symbols([data for *_, data in SAMPLES], 1)
    assert same(top, found[:1])
    headers, none = FILES.read_symbols([])
    assert headers == []
    assert [layer.shape for layer in none] == [(0, 8), (0, 40)]


def test_every_flipped_bit_is_noticed():
    for _, _, data in SAMPLES:
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(BitstreamError):
                read(FILES, bytes(damaged))


def test_every_truncation_is_noticed():
    for _, _, data in SAMPLES:
        for length in range(len(data)):
            with pytest.raises(BitstreamError):
                read(FILES, data[:length])


def test_added_bytes_are_noticed():
    for _, _, data in SAMPLES:
        for added in (b"\0", b"\xff", b"\0\0", b"\xff" * 9, data):
            with pytest.raises(CorruptError):
                read(FILES, data + added)


def test_top_layer_of_a_prefix_is_right_or_refused():
    for _, symbols, data in SAMPLES:
        readable = 0
        for length in range(len(data)):
            try:
                _, top = read(FILES, data[:length], 1)
            except BitstreamError:
                continue
            assert same(top, symbols[:1])
            readable += 1
        bits = FILES.tables.information_bits(symbols)[:, 0].sum()
        header = len(data) - len(FILES.coder.encode(symbols))
        assert readable >= len(data) - header - (bits / 8 + 4)


def test_flipped_bits_never_give_a_wrong_top_layer():
    for _, symbols, data in SAMPLES:
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            try:
                header, top = read(FILES, bytes(damaged), 1)
            except BitstreamError:
                continue
            assert bit >= 8 * 9  # behind the check of the first layer
            assert header.model_id == MODEL
            assert same(top, symbols[:1])


def test_bytes_behind_a_long_form_do_not_reach_the_top_layer():
    files = files_of(specification_tables())
    data = bytes.fromhex("f648590badcafefbd9f30b79a028200198")
    _, top = read(files, data + b"\xff" * 20, 1)
    assert top[0].tolist() == [[1, 0], [0, -1]]


@settings(max_examples=150, derandomize=True)  # 2^-16 of mutations may pass a check
@given(st.integers(0, 7), st.data())
def test_mutated_files_end_in_an_error_or_in_their_own_symbols(number, draw):
    _, symbols, data = SAMPLES[number]
    start = draw.draw(st.integers(0, len(data)))
    stop = draw.draw(st.integers(start, len(data)))
    mutated = data[:start] + draw.draw(st.binary(max_size=6)) + data[stop:]
    try:
        _, found = read(FILES, mutated)
    except BitstreamError:
        return
    assert mutated == data
    assert same(found, symbols)


def test_another_model_is_named():
    symbols = DRAW(1)
    data = write(FILES, SizedHeader(MODEL, width=32, height=32), symbols)
    with pytest.raises(WrongModelError, match="0badcafe, not of 00000000"):
        read(TiledFileCoder(FILES.tables, bytes(4), TILE), data)


def test_errors_of_many_files_say_which():
    files = write_many(SizedHeader(MODEL, width=32, height=32), DRAW(3))
    files[1] = files[1][:-1]
    with pytest.raises(CorruptError, match="file 1 of 3: damaged"):
        FILES.read_symbols(files)
    files[1] = files[1][:13]
    with pytest.raises(CorruptError, match="file 1 of 3"):
        FILES.read_symbols(files, 1)
    files[1] = files[1][:5]
    with pytest.raises(TruncatedError, match="file 1 of 3"):
        FILES.read_symbols(files, 1)


def forged(payload, *, several=True, **fields):
    """A file with valid checks of its bytes that claims what it likes."""
    return write_file(Header(MODEL, **fields), several=several, first_layer=b"", payload=payload)


@pytest.mark.parametrize("layers", [None, 1])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 10_000, "height": 10_000}, "cannot hold 97969 images"),
        ({"width": 65_535, "height": 1}, "cannot hold 2048 images"),
        ({"count": MAX_TILES, "block": True}, "cannot hold 1048576 images"),
        ({"width": 64, "height": 64, "count": MAX_TILES, "block": True}, "4194304 tiles; one file"),
        ({"width": 32, "height": 32}, "size that it should leave out"),
    ],
)
def test_forged_sizes_are_refused_without_allocation(fields, message, layers):
    data = forged(bytes(100), **fields)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match=message):
            read(FILES, data, layers)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_short_form_of_many_tiles_is_refused():
    data = forged(bytes([1]), several=False, width=33, height=32)
    with pytest.raises(CorruptError, match="cannot lie in the short form"):
        read(FILES, data)


def test_pack_refuses_what_the_format_cannot_hold():
    size = {"width": 32, "height": 32}
    with pytest.raises(ImageTooLargeError, match="65536 x 1"):
        write(FILES, SizedHeader(MODEL, width=65_536, height=1), DRAW(1))
    with pytest.raises(ImageTooLargeError, match="over the limit"):
        write(FILES, SizedHeader(MODEL, width=20_000, height=20_000), DRAW(1))
    with pytest.raises(ImageTooLargeError, match="at most 1048576"):
        write(TiledFileCoder(FILES.tables, MODEL, (1, 1)), SizedHeader(MODEL, 2000, 2000), DRAW(1))
    with pytest.raises(ImageTooLargeError, match="0 x 5"):
        write(FILES, SizedHeader(MODEL, width=0, height=5), DRAW(1))
    with pytest.raises(ValueError, match="symbols of 2 tiles"):
        write(FILES, SizedHeader(MODEL, width=33, height=32), DRAW(1))
    with pytest.raises(ValueError, match="any other file 1, not 2"):
        write(FILES, SizedHeader(MODEL, count=2, **size), DRAW(2))
    with pytest.raises(ValueError, match=r"1\.\.2, not 3"):
        read(FILES, b"", 3)
