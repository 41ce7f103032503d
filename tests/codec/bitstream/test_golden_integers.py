"""Golden files of a tiny integer model decode to exactly the pixels that they did when written."""

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from tests.golden.integers.write import FILES, HERE, MODEL

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def golden():
    return hvae_codec.load_file(MODEL)


@pytest.mark.parametrize("stem", FILES)
def test_pixels_are_exact(golden, stem):
    blob = (HERE / f"{stem}.hvae").read_bytes()
    picture = np.asarray(Image.open(HERE / f"{stem}-decoded.png"))
    assert picture.shape[:2] == (77, 45)
    np.testing.assert_array_equal(golden.decode(blob).squeeze(), picture)
    strips = np.concatenate(list(golden.decode_rows(blob)))
    np.testing.assert_array_equal(strips.squeeze(), picture)


@pytest.mark.parametrize("stem", FILES)
def test_the_bytes_are_those_of_today(golden, stem):
    """Of an encoder that searches for nothing: symbols are defined to the bit as pixels are."""
    quality, channels = FILES[stem]
    source = np.asarray(Image.open(HERE / f"{stem}-source.png")).reshape(77, 45, channels)
    blob = golden.at_quality(quality).encode(source)
    assert blob == (HERE / f"{stem}.hvae").read_bytes()
    assert len(blob) > 30
