"""Levels of symbols against the second implementation of docs/FORMAT.md, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.entropy import contexts
from hvae_codec.codec.entropy.context_coder import ContextCoder
from hvae_codec.codec.entropy.contexts import (
    GRAIN,
    MAX_LEVELS,
    MAX_SPAN,
    LayerContext,
    SymbolFeatures,
)
from hvae_codec.errors import CheckpointError
from tests.codec.fully_convolutional import reference
from tests.codec.fully_convolutional.models import random_symbols, random_tables

LATENTS = [
    [(8, 1), (8, 1)],
    [(16, 2), (8, 2)],
    [(32, 2), (8, 1)],
    [(16, 1), (16, 2), (8, 1), (8, 2)],
    [(32, 1), (16, 1), (16, 1), (8, 2)],
    [(64, 1), (32, 1), (32, 2), (16, 1), (8, 1)],
]


def as_dicts(symbols):
    """Symbols [C, N, h, w] as the second implementation takes them."""
    return [{at: int(k) for at, k in np.ndenumerate(layer)} for layer in symbols]


def small_case(rng, latents, largest_weight):
    """Coder, quality, shapes and symbols of a picture or two of a few positions."""
    coder = ContextCoder(random_tables(rng, latents, largest_weight))
    quality, count = int(rng.integers(0, 256)), int(rng.integers(1, 3))
    rows, columns = rng.integers(1, 3 if latents[0][0] < 32 else 2, 2)
    shapes = [
        (count, int(rows) * latents[0][0] // stride, int(columns) * latents[0][0] // stride)
        for stride, _ in latents
    ]
    return coder, quality, shapes, random_symbols(rng, coder, quality, shapes)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(LATENTS),
    st.sampled_from([30, 3000, 2**20, 2**31 - 1]),
    st.sampled_from([1, 40, 4 << 20]),
)
def test_levels_are_those_of_the_second_implementation(seed, latents, largest, slab):
    """Weights up to 30 are summed in single precision, the largest in double; whatever is done at
    once.
    """
    rng = np.random.default_rng(seed)
    coder, quality, shapes, symbols = small_case(rng, latents, min(largest, 2**31 // 21))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contexts, "_SLAB_VALUES", slab)
        found = coder.levels(symbols, quality)
    layers = reference.model_of(coder.tables.to_tensors(), latents)
    known = as_dicts(symbols)
    for number, (count, *sides) in enumerate(shapes):
        expected = reference.levels(layers, known[:number], quality, count, sides)
        assert {at: int(level) for at, level in np.ndenumerate(found[number])} == expected
    precisions = {layer.context._dtype for layer in coder.tables.layers[1:]}
    assert largest > 30 or precisions == {np.float32}
    assert largest < 2**20 or precisions == {np.float64}


def layer(**changed):
    fields = {
        "channels": 2,
        "stride": 8,
        "bias": np.array([[0, -5], [255, 6]], np.int32),
        "weights": {16: np.zeros((8, 3, 3, 3), np.int32)},
        "thresholds": np.array([-GRAIN, 0, GRAIN], np.int32),
    }
    return LayerContext(**(fields | changed))


@pytest.mark.parametrize(
    ("quality", "expected"), [(0, [0, -5]), (1, [1, -5]), (24, [24, -4]), (255, [255, 6])]
)
def test_bias_between_its_knots_is_rounded_down(quality, expected):
    """(-5 * 254 + 6) / 255 = -4.96 becomes -5; (-5 * 231 + 6 * 24) / 255 = -3.96 becomes -4."""
    assert layer()._bias_at(quality).tolist() == expected


def test_a_sum_at_a_threshold_reaches_it():
    at = np.array([[-GRAIN - 1, -GRAIN, -1, 0, GRAIN - 1, GRAIN, 10**6, -(10**6)]], np.int32)
    one = layer(channels=8, bias=np.repeat(at, 2, axis=0), weights={})
    found = one.levels({}, 77, (1, 2, 3))
    assert found.shape == (8, 1, 2, 3)
    assert found[:, 0, 1, 2].tolist() == [0, 1, 1, 2, 2, 3, 3, 0]


def test_qualities_outside_their_range_are_refused():
    for quality in (-1, 256):
        with pytest.raises(ValueError, match=r"0\.\.255"):
            layer(weights={}).levels({}, quality, (1, 1, 1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bias": np.zeros((2, 2))}, "bias must be int32"),
        ({"bias": np.zeros((1, 2), np.int32)}, "bias must be"),
        ({"bias": np.zeros((2, 3), np.int32)}, "bias must be"),
        ({"bias": np.zeros(2, np.int32)}, "bias must be"),
        ({"thresholds": np.zeros(0, np.int32)}, "thresholds"),
        ({"thresholds": np.arange(MAX_LEVELS, dtype=np.int32) * GRAIN}, "1 to 127 thresholds"),
        ({"thresholds": np.zeros((1, 1), np.int32)}, "thresholds"),
        ({"thresholds": np.array([GRAIN, 0], np.int32)}, "rise"),
        ({"thresholds": np.array([0, 0], np.int32)}, "rise"),
        ({"thresholds": np.array([-(2**31), 2**31 - GRAIN], np.int32)}, "over 65536"),
        ({"thresholds": np.array([0, GRAIN + 1], np.int32)}, "multiples"),
        ({"thresholds": np.array([0, (MAX_SPAN + 1) * GRAIN], np.int32)}, "over 65536"),
        ({"weights": {16: np.zeros((8, 3, 3, 3), np.int64)}}, "int32"),
        ({"weights": {16: np.zeros((8, 3, 3), np.int32)}}, "rank 4"),
        ({"weights": {16: np.zeros((2, 3, 3, 3), np.int32)}}, "must be"),
        ({"weights": {16: np.zeros((8, 4, 3, 3), np.int32)}}, "must be"),
        ({"weights": {16: np.zeros((8, 0, 3, 3), np.int32)}}, "must be"),
        ({"weights": {16: np.zeros((8, 3, 1, 1), np.int32)}}, "must be"),
        ({"weights": {32: np.zeros((32, 3, 3, 3), np.int32)}}, "must be"),
        ({"weights": {12: np.zeros((2, 3, 3, 3), np.int32)}}, "must be"),
        ({"weights": {16: np.full((8, 3 * 5100, 3, 3), 2**31 - 1, np.int32)}}, "so large"),
    ],
)
def test_contexts_that_are_none_are_refused(changed, message):
    with pytest.raises(CheckpointError, match=message):
        layer(**changed)


def test_weights_for_other_inputs_are_refused():
    layer().check_inputs(16, 1)
    with pytest.raises(CheckpointError, match="take 3 features, not those of 2 channels"):
        layer().check_inputs(16, 2)


def test_features_beyond_any_symbol_of_16_bits():
    features = SymbolFeatures()
    features.add(np.array([-32768, -32, -31, -4, -3, 0, 1, 32767], np.int32)[None, None, None])
    window = features.window(0, 1, 0, 1)
    assert window.shape == (3, 1, 3, 10)
    assert window[:, 0, 1, 1:-1].tolist() == [
        [1, 1, 1, 1, 1, 0, 1, 1],
        [31, 31, 31, 4, 3, 0, 1, 31],
        [-3, -3, -3, -3, -3, 0, 1, 3],
    ]
    assert not window[:, :, [0, 2]].any()
    assert not window[:, :, :, [0, 9]].any()
