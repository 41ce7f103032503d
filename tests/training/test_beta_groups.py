"""Bins of layers that share a beta."""

import pytest

from hvae_codec.errors import SpecError
from hvae_codec.training.recipe import beta_per_layer


def test_the_betas_of_bins_are_those_of_their_layers():
    assert beta_per_layer((0.1, 2.0), (2, 2), 4) == (0.1, 0.1, 2.0, 2.0)
    assert beta_per_layer((0.1, 2.0), (1, 3), 4) == (0.1, 2.0, 2.0, 2.0)
    assert beta_per_layer((0.5,), (3,), 3) == (0.5, 0.5, 0.5)
    assert beta_per_layer((1.0, 2.0, 3.0), (1, 1, 1), 3) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("betas", "bins", "message"),
    [
        ((1.0, 1.0), (2, 1), "beta-groups 2,1: .* 4 in all; found 3"),
        ((1.0, 1.0), (4, 0), "1 or more"),
        ((1.0, 1.0), (5, -1), "1 or more"),
        ((1.0,), (2, 2), "a beta each, 2 in all; 1 given"),
        ((1.0, 1.0), (), "found 0"),
    ],
)
def test_bins_that_cannot_be(betas, bins, message):
    with pytest.raises(SpecError, match=message):
        beta_per_layer(betas, bins, 4)
