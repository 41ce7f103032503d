"""Entropy coding of maps against the second implementation of docs/FORMAT.md, and its promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.entropy import range_coder
from hvae_codec.codec.entropy.context_coder import ContextCoder
from hvae_codec.codec.entropy.context_tables import ContextLayer, ContextTables
from hvae_codec.codec.entropy.contexts import LayerContext
from hvae_codec.codec.entropy.tables import TOTAL, LayerTables
from hvae_codec.errors import CorruptError
from tests.codec.entropy.range_reference import PAD_BYTES
from tests.codec.fully_convolutional import reference
from tests.codec.fully_convolutional.models import random_symbols, random_tables

LATENTS = [
    [(8, 2), (8, 1)],
    [(16, 2), (16, 1), (8, 2)],
    [(32, 2), (32, 1), (16, 1), (8, 1), (8, 2)],
]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.int32
        np.testing.assert_array_equal(a, b)


def case(seed, latents, count, sides=None, largest_weight=3000):
    """Coder, quality, shapes and symbols of `count` pictures of so many top positions."""
    rng = np.random.default_rng(seed)
    coder = ContextCoder(random_tables(rng, latents, largest_weight))
    quality = int(rng.integers(0, 256))
    rows, columns = rng.integers(1, 3, 2) if sides is None else sides
    ratios = [latents[0][0] // stride for stride, _ in latents]
    shapes = [(count, int(rows) * ratio, int(columns) * ratio) for ratio in ratios]
    return coder, quality, shapes, random_symbols(rng, coder, quality, shapes)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(LATENTS),
    st.sampled_from([(1, 1), (2, 2), (1, 3)]),
    st.sampled_from([0, 1024]),
)
def test_bytes_and_symbols_agree_with_the_second_implementation(seed, latents, numbers, rows_below):
    """`files` files of `each` pictures; both ways that the coder is called."""
    each, files = numbers
    coder, quality, shapes, symbols = case(seed, latents, each * files, sides=(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(range_coder, "_ROWS_BELOW", rows_below)
        payloads = coder.encode(symbols, quality, each)
        own_shapes = [(each, *shape[1:]) for shape in shapes]
        assert_same(coder.decode(payloads, quality, own_shapes), symbols)
        assert_same(coder.decode(payloads, quality, own_shapes[:1]), symbols[:1])
    layers = reference.model_of(coder.tables.to_tensors(), latents)
    sides = [shape[1:] for shape in shapes]
    for number, payload in enumerate(payloads):
        own = [layer[:, number * each : (number + 1) * each] for layer in symbols]
        known = [{at: int(k) for at, k in np.ndenumerate(layer)} for layer in own]
        assert payload == reference.encode(layers, known, quality, each, sides)
        assert reference.decode(layers, payload, quality, each, sides) == known


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(LATENTS), st.integers(1, 4))
def test_both_ways_of_calling_the_coder_give_the_same_bytes(seed, latents, count):
    """Larger maps than loops could check."""
    coder, quality, shapes, symbols = case(seed, latents, count, sides=(3, 5))
    payloads = []
    for rows_below in (0, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(range_coder, "_ROWS_BELOW", rows_below)
            payloads += coder.encode(symbols, quality, count)
            assert_same(coder.decode(payloads[-1:], quality, shapes), symbols)
    assert payloads[0] == payloads[1]


def test_bytes_are_within_one_per_cent_of_the_information():
    coder, quality, _, symbols = case(3, LATENTS[2], 1, sides=(20, 20))
    content = coder.information_bits(symbols, quality).sum() / 8
    (payload,) = coder.encode(symbols, quality)
    assert content > 2000
    assert content - PAD_BYTES < len(payload) < content + 1


def test_information_of_a_table():
    """Frequencies 2^16 / 2^n cost n bits."""
    context = LayerContext(1, 8, np.array([[-9], [9]], np.int32), {}, np.array([0], np.int32))
    tables = LayerTables(
        np.array([-1, 4], np.int32),
        np.array([3, 1], np.int32),
        np.array([TOTAL // 4, TOTAL // 2, TOTAL // 4, TOTAL], np.int32),
    )
    layer = ContextLayer(context, tables)
    assert layer.least_bits == 0.0
    levels = np.array([0, 0, 0, 1], np.uint8)
    assert layer.information_bits(np.array([-1, 0, 1, 4]), levels).tolist() == [2, 1, 2, 0]
    assert layer.clip(np.array([-9, 9, 0, 9]), levels).tolist() == [-1, 1, 0, 4]
    for symbol, level in ((2, 0), (-2, 0), (3, 1), (5, 1)):
        with pytest.raises(ValueError, match="outside the support"):
            layer.information_bits(np.array([symbol]), np.array([level], np.uint8))


def one_layer(*frequencies, low=0):
    context = LayerContext(1, 8, np.zeros((2, 1), np.int32), {}, np.array([0], np.int32))
    tables = LayerTables(
        np.full(2, low, np.int32),
        np.full(2, len(frequencies), np.int32),
        np.array(frequencies * 2, np.int32),
    )
    return ContextLayer(context, tables)


def two_layers(layer):
    weights = {8: np.zeros((1, 3, 3, 3), np.int32)}
    context = LayerContext(1, 8, layer.context.bias, weights, layer.context.thresholds)
    return ContextTables([layer, ContextLayer(context, layer.tables)])


@pytest.mark.parametrize("temperature", [0.0, 1e-200, 1e-4])
def test_cold_draws_are_the_mode(temperature):
    layer = one_layer(16384, 32768, 16384, low=-1)
    drawn = layer.draw(np.ones((2, 3, 4), np.uint8), np.random.default_rng(0), temperature)
    assert drawn.dtype == np.int32
    assert not drawn.any()


def test_draws_have_the_frequencies_of_their_table():
    """At temperature 1 those of the table; at sqrt(2) their square roots; far above all equal."""
    layer = one_layer(4096, 57344, 4096, low=-1)
    levels, rng = np.zeros(20_000, np.uint8), np.random.default_rng(1)
    for temperature, weights in ((1.0, [1, 14, 1]), (2**0.5, [1, 14**0.5, 1]), (1e200, [1, 1, 1])):
        found = np.bincount(layer.draw(levels, rng, temperature) + 1, minlength=3) / len(levels)
        assert np.abs(found - np.array(weights) / sum(weights)).max() < 0.012  # 3.4 deviations


def test_tables_of_one_symbol_cost_nothing():
    coder = ContextCoder(two_layers(one_layer(TOTAL, low=3)))
    symbols = [np.full((1, 2, 5, 5), 3, np.int32)] * 2
    assert coder.encode(symbols, 0) == [b"", b""]
    assert_same(coder.decode([b"", b""], 0, [(1, 5, 5)] * 2), symbols)


def test_likeliest_symbols_pass_the_bound():
    coder = ContextCoder(two_layers(one_layer(65_000, 536)))
    symbols = [np.zeros((1, 1, 100, 100), np.int32)] * 2
    (payload,) = coder.encode(symbols, 9)
    assert_same(coder.decode([payload], 9, [(1, 100, 100)] * 2), symbols)
    with pytest.raises(CorruptError, match="cannot hold maps of at least"):
        coder.decode([payload], 9, [(1, 100, 300)] * 2)


def test_a_prefix_holds_the_first_layers():
    coder, quality, shapes, symbols = case(5, LATENTS[1], 1, sides=(6, 6))
    bits = coder.information_bits(symbols, quality)[0].cumsum()
    (payload,) = coder.encode(symbols, quality)
    for layers in (1, 2):
        prefix = payload[: int(bits[layers - 1] / 8) + 5]
        assert len(prefix) < len(payload)
        assert_same(coder.decode([prefix], quality, shapes[:layers]), symbols[:layers])


def test_symbols_that_do_not_fit_are_refused():
    coder, quality, _, symbols = case(6, LATENTS[1], 2)
    with pytest.raises(ValueError, match="need symbols of 3 layers, not of 2"):
        coder.encode(symbols[:2], quality)
    with pytest.raises(ValueError, match="not those of their levels"):
        coder.encode([symbols[0][:1], *symbols[1:]], quality)
    with pytest.raises(ValueError, match="outside the support"):
        coder.encode([*symbols[:2], symbols[2] + 1000], quality)
    for far in (2**31 - 1, -(2**31)):
        with pytest.raises(ValueError, match="outside the support"):
            coder.encode([*symbols[:2], np.full_like(symbols[2], far)], quality)
    with pytest.raises(ValueError, match="outside the support"):
        coder.information_bits([*symbols[:2], symbols[2] + 1000], quality)


def test_bytes_no_encoder_writes():
    for sides in ((1, 1), (40, 40)):
        coder, quality, shapes, symbols = case(7, LATENTS[1], 1, sides=sides)
        (payload,) = coder.encode(symbols, quality)
        with pytest.raises(CorruptError, match="no encoder writes"):
            coder.decode([b"\xff" * (len(payload) + 40)], quality, shapes)


@settings(max_examples=60)
@given(st.binary(max_size=80), st.integers(0, 255))
def test_random_bytes_give_symbols_or_corrupt_error(payload, quality):
    coder, _, shapes, _ = case(8, LATENTS[2], 1, sides=(1, 1))
    try:
        decoded = coder.decode([payload], quality, shapes)
    except CorruptError:
        return
    coder.information_bits(decoded, quality)
    for layer, (count, *sides), (_, channels) in zip(decoded, shapes, LATENTS[2], strict=True):
        assert layer.shape == (channels, count, *sides)
