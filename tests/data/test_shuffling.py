"""The order of minibatches: a permutation fixed by seed and epoch alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvae_codec.data import epoch_batches

small = st.integers(0, 2**32 - 1)


@given(st.integers(1, 200), st.integers(1, 50), small, small)
def test_every_picture_comes_once_in_full_batches(count, batch_size, seed, epoch):
    batches = list(epoch_batches(range(count), batch_size, seed, epoch, drop_last=False))
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * ((count - 1) // batch_size)
    if count >= batch_size:
        full = list(epoch_batches(range(count), batch_size, seed, epoch, drop_last=True))
        assert len(full) == count // batch_size
        np.testing.assert_array_equal(full, batches[: len(full)])


def test_order_is_numpys_permutation_of_the_seed_and_the_epoch():
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence((7, 3)))).permutation(10)
    batches = list(epoch_batches(range(10), 4, seed=7, epoch=3))
    np.testing.assert_array_equal(np.concatenate(batches), expected[:8])
    assert batches[0].dtype == np.int64


def test_seed_and_epoch_both_change_the_order():
    orders = {
        tuple(next(epoch_batches(range(64), 64, seed, epoch)))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0), "got batch_size=0"),
        ((4, -1, 0), "seed=-1"),
        ((4, 0, -2), "epoch=-2"),
        ((11, 0, 0), "10 images do not fill one minibatch of 11"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        epoch_batches(range(10), *arguments)
