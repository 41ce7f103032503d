"""The entropy coder against a second implementation, its own promises, and damaged payloads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.entropy.tables import TOTAL, LayerTables, SymbolTables
from hvae_codec.codec.entropy.tile_coder import TileCoder
from hvae_codec.errors import CorruptError
from tests.codec.entropy import range_reference

PAD_BYTES = range_reference.PAD_BYTES
RUN = 4096  # of docs/FORMAT.md


def gaussian_tables(rng, dims, log_scale):
    """Tables of discretised Gaussians of random widths, and a sampler of symbols from them."""
    scales = [np.exp(rng.normal(log_scale, 0.9, d)) for d in dims]

    def draw(n):
        return [np.round(rng.normal(0, s, (n, len(s)))).astype(np.int32) for s in scales]

    tables = SymbolTables.fit(draw(4000))
    return tables, lambda n: [tables.clip(i, layer) for i, layer in enumerate(draw(n))]


def random_tables(rng, layers):
    """Tables of any sizes and frequencies, with symbols drawn uniformly from their supports."""
    made = []
    for dims in layers:
        sizes = rng.choice([1, 2, 2, 3, 5, 17], dims)
        tables = []
        for size in sizes:
            cuts = np.sort(rng.choice(np.arange(1, TOTAL), size - 1, replace=False))
            tables.append(np.diff(np.concatenate([[0], cuts, [TOTAL]])))
        low = rng.integers(-20, 20, dims).astype(np.int32)
        frequency = np.concatenate(tables).astype(np.int32)
        made.append(LayerTables(low, sizes.astype(np.int32), frequency))
    return SymbolTables(made)


def uniform_symbols(rng, tables, n):
    return [
        (layer.low + rng.integers(0, layer.size, (n, layer.dims))).astype(np.int32)
        for layer in tables.layers
    ]


def coding_order(tables, n):
    """(layer, image, dimension) in the order of docs/FORMAT.md."""
    for number, layer in enumerate(tables.layers):
        dims = sorted(range(layer.dims), key=lambda d: (layer.size[d], d))
        for start in range(0, n, RUN):
            for dim in dims:
                if layer.size[dim] > 1:
                    for image in range(start, min(start + RUN, n)):
                        yield number, image, dim


def reference_encode(tables, symbols):
    """docs/FORMAT.md: the payload of symbols [n, D_l] per layer."""
    return range_reference.encode(
        (
            tables.layers[layer].frequencies_of(dim).tolist(),
            int(symbols[layer][image, dim] - tables.layers[layer].low[dim]),
        )
        for layer, image, dim in coding_order(tables, len(symbols[0]))
    )


def reference_decode(tables, payload, n):
    symbols = [np.tile(layer.low, (n, 1)) for layer in tables.layers]
    reader = range_reference.Reader(payload)
    for layer, image, dim in coding_order(tables, n):
        frequencies = tables.layers[layer].frequencies_of(dim).tolist()
        symbols[layer][image, dim] += reader.index(frequencies)
    return symbols


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.int32
        np.testing.assert_array_equal(a, b)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 1, 2, 5, 31, 32, 40]))
def test_bytes_and_symbols_agree_with_the_second_implementation(seed, n):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, rng.integers(1, 8, rng.integers(1, 4)))
    symbols = uniform_symbols(rng, tables, n)
    coder = TileCoder(tables)
    payload = coder.encode(symbols)
    assert payload == reference_encode(tables, symbols)
    assert_same(coder.decode(payload, n), symbols)
    assert_same(reference_decode(tables, payload, n), symbols)
    records = coder.encode_records(symbols)
    assert records == [coder.encode([s[i : i + 1] for s in symbols]) for i in range(n)]
    assert_same(coder.decode_records(records), symbols)
    assert_same(coder.decode_records(records, 1), symbols[:1])


@pytest.mark.parametrize("log_scale", [-2.5, -0.7])
def test_overhead_over_information_content(log_scale):
    tables, draw = gaussian_tables(np.random.default_rng(3), (32, 512), log_scale)
    symbols = draw(1024)
    coder = TileCoder(tables)
    content = tables.information_bits(symbols).sum() / 8
    records = coder.encode_records(symbols)
    assert (sum(map(len, records)) - content) / 1024 <= 0.5
    block = [layer[:256] for layer in symbols]
    content = tables.information_bits(block).sum() / 8
    assert (len(coder.encode(block)) - content) / 256 <= 0.05
    assert_same(coder.decode_records(records), symbols)
    assert_same(coder.decode(coder.encode(block), 256), block)


def test_runs_of_a_long_block():
    tables, draw = gaussian_tables(np.random.default_rng(4), (3, 5), 0.0)
    symbols = draw(2 * RUN + 7)
    coder = TileCoder(tables)
    payload = coder.encode(symbols)
    assert payload == reference_encode(tables, symbols)
    assert_same(coder.decode(payload, 2 * RUN + 7), symbols)


@pytest.mark.parametrize("n", [1, 40])
@pytest.mark.parametrize("end", ["lowest", "highest"])
def test_symbols_at_either_end_of_all_tables(n, end):
    """The interval stays at 0, where all bytes are zeros and 16 are left out, or at its other end.

    40 dimensions of 4 equal frequencies are 80 bits: two words leave the coder, 128 bits in all.
    """
    quarters = LayerTables(
        np.zeros(40, np.int32), np.full(40, 4, np.int32), np.full(160, TOTAL // 4, np.int32)
    )
    tables = SymbolTables([quarters, quarters])
    symbols = [np.full((n, 40), 0 if end == "lowest" else 3, np.int32)] * 2
    coder = TileCoder(tables)
    payload = coder.encode(symbols)
    assert payload == reference_encode(tables, symbols)
    if end == "lowest":
        assert payload == bytes(20 * n + 8 - (20 * n) % 4 - PAD_BYTES)
    assert_same(coder.decode(payload, n), symbols)


def test_top_layer_reads_from_a_prefix():
    tables, draw = gaussian_tables(np.random.default_rng(5), (32, 512), -0.7)
    symbols = draw(64)
    coder = TileCoder(tables)
    top_bits = tables.information_bits(symbols)[:, 0]
    for image, payload in enumerate(coder.encode_records(symbols)):
        prefix = payload[: int(top_bits[image] / 8) + 5]
        assert len(prefix) < len(payload)
        assert_same(coder.decode(prefix, 1, 1), [symbols[0][image : image + 1]])
    payload = coder.encode(symbols)
    assert_same(coder.decode(payload[: int(top_bits.sum() / 8) + 5], 64, 1), symbols[:1])


def test_golden_bytes():
    """Bytes worked out with exact fractions of 256 in mind; a change here is a new version."""
    half, quarter = TOTAL // 2, TOTAL // 4
    tables = SymbolTables(
        [
            LayerTables(
                np.array([0, -1], np.int32),
                np.array([2, 2], np.int32),
                np.array([half, half, quarter, 3 * quarter], np.int32),
            ),
            LayerTables(
                np.array([-1, 4, 0], np.int32),
                np.array([3, 1, 2], np.int32),
                np.array([quarter, half, quarter, TOTAL, half, half], np.int32),
            ),
        ]
    )
    coder = TileCoder(tables)
    symbols = [np.array([[1, 0]], np.int32), np.array([[0, 4, 1]], np.int32)]
    # [1/2, 1), then its upper 3/4: [5/8, 1); size 2 before size 3: its upper half [13/16, 1);
    # then the middle half: [55/64, 61/64). 0xF4 = 61/64 is its open end, 0xF3 the last byte in it;
    # the interval truly begins and ends a little lower, as 2^64 - 1 is no multiple of 2^24.
    assert coder.encode(symbols) == b"\xf3"
    assert_same(coder.decode(b"\xf3", 1), symbols)
    assert_same(coder.decode(b"\xdc", 1), symbols)
    assert coder.decode(b"\xdb", 1)[1].tolist() == [[-1, 4, 1]]


def test_wider_symbols_or_wrong_layers_are_refused():
    tables, draw = gaussian_tables(np.random.default_rng(6), (2, 3), 0.0)
    coder = TileCoder(tables)
    top, bottom = draw(4)
    with pytest.raises(ValueError, match="outside the support"):
        coder.encode([top + 100, bottom])
    with pytest.raises(ValueError, match="2 layers"):
        coder.encode([top])
    with pytest.raises(ValueError, match="same number"):
        coder.encode_records([top, bottom[:3]])
    with pytest.raises(ValueError, match=r"1\.\.2"):
        coder.decode(b"", 1, 0)


def test_forged_count_is_refused_before_anything_is_allocated():
    tables, draw = gaussian_tables(np.random.default_rng(7), (32, 512), -0.7)
    coder = TileCoder(tables)
    payload = coder.encode(draw(3))
    with pytest.raises(CorruptError, match="cannot hold 1000000000 images"):
        coder.decode(payload, 10**9)
    with pytest.raises(CorruptError, match="cannot hold 1000000000 images"):
        coder.decode(payload, 10**9, 1)
    with pytest.raises(CorruptError, match="cannot hold 1 images"):
        coder.decode_records([payload, b""])


def test_likeliest_image_passes_the_bound():
    tables, _ = gaussian_tables(np.random.default_rng(8), (32, 512), -0.7)
    likeliest = [
        np.array(
            [[layer.low[d] + layer.frequencies_of(d).argmax() for d in range(layer.dims)]] * 300,
            np.int32,
        )
        for layer in tables.layers
    ]
    coder = TileCoder(tables)
    payload = coder.encode(likeliest)
    assert_same(coder.decode(payload, 300), likeliest)
    assert len(payload) + PAD_BYTES >= 300 * sum(tables.minimum_bits) / 8


def test_bytes_no_encoder_writes():
    tables, _ = gaussian_tables(np.random.default_rng(9), (4, 4), 0.0)
    coder = TileCoder(tables)
    with pytest.raises(CorruptError, match="no encoder writes"):
        coder.decode(b"\xff" * 40, 1)
    with pytest.raises(CorruptError, match="no encoder writes"):
        coder.decode_records([b"\xff" * 40])


@settings(max_examples=100)
@given(st.binary(max_size=80), st.integers(1, 40))
def test_random_bytes_give_symbols_or_corrupt_error(payload, n):
    tables, _ = gaussian_tables(np.random.default_rng(10), (4, 9), 0.0)
    coder = TileCoder(tables)
    try:
        decoded = coder.decode(payload, n)
    except CorruptError:
        return
    for layer, symbols in zip(tables.layers, decoded, strict=True):
        layer.indices(symbols)
        assert symbols.shape == (n, layer.dims)


def test_tables_of_one_symbol_each_cost_no_bytes():
    one = LayerTables(np.array([3], np.int32), np.array([1], np.int32), np.array([TOTAL], np.int32))
    coder = TileCoder(SymbolTables([one, one]))
    symbols = [np.full((5, 1), 3, np.int32)] * 2
    assert coder.encode(symbols) == b""
    assert_same(coder.decode(b"", 5), symbols)
    assert coder.encode_records(symbols) == [b""] * 5
    assert_same(coder.decode_records([b""] * 5), symbols)
