"""Small images, and codecs of both kinds."""

import numpy as np
import pytest

import hvae_codec
from tests.codec.fully_convolutional.models import waves


@pytest.fixture(scope="session")
def images():
    """Ten images uint8 [10, 32, 32, 3]."""
    return np.stack([waves(32, 32, 3, number) for number in range(10)])


@pytest.fixture(scope="session")
def codec():
    return hvae_codec.load("cifar10", quality=3)
