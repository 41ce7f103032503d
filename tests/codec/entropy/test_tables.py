"""Symbol tables: fit, validation, information content."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.entropy.tables import (
    MAX_SUPPORT,
    TOTAL,
    LayerTables,
    SymbolTables,
    support_size,
)
from hvae_codec.errors import CheckpointError


def layer(lows, tables):
    return LayerTables(
        low=np.array(lows, np.int32),
        size=np.array([len(t) for t in tables], np.int32),
        frequency=np.array([f for t in tables for f in t], np.int32),
    )


def test_fit_of_four_symbols_is_the_table_computed_by_hand():
    # Observed 0, 0, 0, 1; margin 1 makes -1..2, which has 4 = 2^2 symbols. Counts + 1/2 are
    # 1/2, 7/2, 3/2, 1/2 of 6; 65,532 are shared out beyond 1 each:
    # 5461, 38227, 16383, 5461 exactly, so no remainder.
    tables = SymbolTables.fit([np.array([[0], [0], [0], [1]])], margin=1)
    assert tables.layers[0].low.tolist() == [-1]
    assert tables.layers[0].frequency.tolist() == [5462, 38228, 16384, 5462]


def test_fit_hands_left_over_units_to_the_largest_remainders():
    # Counts 2, 1, 0, 0 over -1..2 after margin 1 around {0, 1}: weights 1, 5, 3, 1 of 10.
    # 65,532 * w / 10 = 6553.2, 32766.0, 19659.6, 6553.2: the one unit left goes to the third.
    tables = SymbolTables.fit([np.array([[0], [0], [1]])], margin=1)
    assert tables.layers[0].frequency.tolist() == [6554, 32767, 19661, 6554]


def test_dimension_with_one_observed_symbol_costs_nothing():
    tables = SymbolTables.fit([np.array([[7, 0], [7, 1]], np.int16)])
    assert tables.layers[0].size.tolist() == [1, 4]
    assert tables.clip(0, np.array([[-3, 9]])).tolist() == [[7, 2]]
    only = SymbolTables([layer([7], [[TOTAL]])])
    assert only.information_bits([np.full((3, 1), 7, np.int32)]).tolist() == [[0], [0], [0]]


@given(st.integers(1, MAX_SUPPORT))
def test_support_sizes_are_the_next_power_of_two(needed):
    size = support_size(needed)
    assert size >= needed > size / 2
    assert bin(size).count("1") == 1


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(-40, 40), min_size=3, max_size=3), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_fit_covers_what_it_saw_and_follows_the_counts(rows, margin):
    symbols = np.array(rows)
    tables = SymbolTables.fit([symbols], margin).layers[0]
    for dim in range(3):
        frequency = tables.frequencies_of(dim)
        assert frequency.sum() == TOTAL
        assert frequency.min() >= 1
        low = int(tables.low[dim])
        values, counts = np.unique(symbols[:, dim], return_counts=True)
        assert low <= values[0] - margin * (len(values) > 1)
        assert low + len(frequency) - 1 >= values[-1] + margin * (len(values) > 1)
        expected = (counts + 0.5) / (len(rows) + 0.5 * len(frequency))
        found = frequency[values - low] / TOTAL
        if len(values) > 1:
            assert np.abs(found - expected).max() <= (len(frequency) + 1) / TOTAL


def test_information_bits_are_sums_of_logarithms_per_layer():
    top = layer([-1], [[TOTAL // 2, TOTAL // 4, TOTAL // 4]])
    bottom = layer([0, 5, 0], [[TOTAL // 8, TOTAL - TOTAL // 8], [TOTAL], [1, TOTAL - 1]])
    tables = SymbolTables([top, bottom])
    symbols = [np.array([[-1], [1]], np.int32), np.array([[0, 5, 0], [1, 5, 1]], np.int32)]
    bits = tables.information_bits(symbols)
    rare = -math.log2(1 - 2**-16)
    expected = [[1, 3 + 16], [2, -math.log2(7 / 8) + rare]]
    np.testing.assert_allclose(bits, expected, rtol=1e-12)
    np.testing.assert_allclose(tables.minimum_bits, [1, -math.log2(7 / 8) + rare], rtol=1e-12)
    assert tables.layer_dims == (1, 3)
    assert [[b.tolist() for b in pair] for pair in tables.bounds] == [
        [[-1], [1]],
        [[0, 5, 0], [1, 5, 1]],
    ]


def test_symbols_outside_the_support_or_of_a_wrong_shape_are_refused():
    tables = SymbolTables([layer([-1, 0], [[TOTAL // 2, TOTAL // 2], [TOTAL]])])
    for bad in ([[-2, 0]], [[1, 0]], [[0, 1]], [[2**31 - 1, 0]], [[-(2**31), 0]]):
        with pytest.raises(ValueError, match="outside the support"):
            tables.information_bits([np.array(bad, np.int32)])
    with pytest.raises(ValueError, match=r"\[N, 2\]"):
        tables.information_bits([np.zeros((1, 3), np.int32)])
    with pytest.raises(ValueError, match="int64"):
        tables.information_bits([np.zeros((1, 2), np.int64)])
    with pytest.raises(ValueError, match="1 layers"):
        tables.information_bits([])


def test_tensors_round_trip():
    rng = np.random.default_rng(1)
    tables = SymbolTables.fit([rng.integers(-3, 4, (50, 4)), rng.integers(-9, 9, (50, 6))])
    tensors = tables.to_tensors()
    assert sorted(tensors)[:3] == ["tables.0.frequency", "tables.0.low", "tables.0.size"]
    again = SymbolTables.from_tensors(tensors)
    for name, array in again.to_tensors().items():
        assert array.dtype == np.int32
        np.testing.assert_array_equal(array, tensors[name])


def spoil(tensors, **change):
    return {name: change.get(name.split(".")[-1], array) for name, array in tensors.items()}


@pytest.mark.parametrize(
    "change",
    [
        {"low": np.zeros(2, np.int64)},
        {"low": np.zeros((1, 2), np.int32)},
        {"low": np.zeros(3, np.int32)},
        {"low": np.array([0, 40_000], np.int32)},
        {"low": np.array([-40_000, 0], np.int32)},
        {"low": np.zeros(0, np.int32), "size": np.zeros(0, np.int32)},
        {"size": np.array([2, 3], np.int32)},
        {"size": np.array([4, 0], np.int32)},
        {"size": np.array([-1, 5], np.int32)},
        {"size": np.array([MAX_SUPPORT + 1, 2], np.int32)},
        {"size": np.array([2**31 - 1, 2**31 - 1], np.int32)},
        {"frequency": np.array([TOTAL, 0, TOTAL - 5, 5], np.int32)},
        {"frequency": np.array([TOTAL + 1, -1, TOTAL - 5, 5], np.int32)},
        {"frequency": np.array([1, TOTAL, 1, TOTAL - 1], np.int32)},
        {"frequency": np.array([1.0, TOTAL - 1, 1, TOTAL - 1])},
        {"frequency": np.zeros(0, np.int32)},
    ],
)
def test_damaged_tensors_are_refused(change):
    good = SymbolTables([layer([0, 0], [[1, TOTAL - 1], [TOTAL - 5, 5]])]).to_tensors()
    SymbolTables.from_tensors(good)
    with pytest.raises(CheckpointError, match="symbol tables"):
        SymbolTables.from_tensors(spoil(good, **change))


def test_missing_and_foreign_tensors_are_refused():
    good = SymbolTables([layer([0], [[1, TOTAL - 1]])]).to_tensors()
    for bad in ({}, dict(list(good.items())[:2]), good | {"weight": good["tables.0.low"]}):
        with pytest.raises(CheckpointError):
            SymbolTables.from_tensors(bad)


def test_fit_refuses_nonsense():
    with pytest.raises(ValueError, match="at least one"):
        SymbolTables.fit([np.zeros((0, 2), np.int32)])
    with pytest.raises(ValueError, match="same images"):
        SymbolTables.fit([np.zeros((3, 2), np.int32), np.zeros((4, 2), np.int32)])
    with pytest.raises(ValueError, match="float64"):
        SymbolTables.fit([np.zeros((3, 2))])
    with pytest.raises(ValueError, match="quantisation step"):
        SymbolTables.fit([np.array([[0], [5000]])])
    with pytest.raises(ValueError, match="quantisation step"):
        SymbolTables.fit([np.array([[32_766], [32_767]])])
