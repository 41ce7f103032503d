"""Numbers of layers of an archive's features: the same answer whether or not a block is kept."""

from pathlib import Path

import numpy as np
import pytest

import hvae_codec
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.errors import UnknownQualityError

CIFAR10, MAPS = hvae_codec.load("cifar10", 3), hvae_codec.load("cifar10-maps", 40)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=[CIFAR10, MAPS], ids=["tiled", "fully convolutional"])
def written(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "a.hvaa"
    with ArchiveWriter(path, request.param) as writer:
        writer.extend(IMAGES)
    return path, request.param


def asked(path: Path, layers: object, *, kept: bool, numbers: object = (0, 2)):
    """The features of so many layers, or the class and message of the error."""
    with Archive(path) as archive:
        if kept:
            archive[0]
        try:
            return archive.layer_features(numbers, layers)
        except ValueError as error:
            return type(error), str(error)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("numbers", [(0, 2), ()])
def test_a_number_of_layers_that_there_is_not_is_refused(written, kept, numbers):
    path, codec = written
    total = len(codec.info.z_dims)
    for layers in (-5, -1, 0, total + 1, 99, 1.0, "1"):
        refusal = UnknownQualityError, f"layers must lie in 1..{total}, not {layers!r}"
        assert asked(path, layers, kept=kept, numbers=numbers) == refusal


def test_layers_of_a_kept_block_are_those_of_a_fresh_one(written):
    path, codec = written
    total = len(codec.info.z_dims)
    files = codec.encode_batch(IMAGES[[0, 2]])
    for layers in (1, np.int64(1), total, None):
        expected = codec.layer_features_from_bytes(files, layers)
        assert len(expected) == (total if layers is None else layers)
        for kept in (False, True):
            found = asked(path, layers, kept=kept)
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one.mean, other.mean, atol=1e-4)
                np.testing.assert_allclose(one.std, other.std, atol=1e-4)
