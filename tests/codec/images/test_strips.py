"""PNG and PPM written in strips: against Pillow and NumPy."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import hvae_codec
from hvae_codec.codec.images.strips import Strips, write_png, write_ppm


def noise(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pillow(array):
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def strips_of(array, high):
    rows = (array[top : top + high] for top in range(0, len(array), high))
    return Strips(*array.shape, rows)


@given(
    st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]),
    st.integers(1, 9), st.booleans(),
)  # fmt: skip
def test_pngs_written_in_strips_are_what_pillow_reads(height, width, channels, high, flat):
    array = noise(height, width, channels) // (50 if flat else 1)
    file = io.BytesIO()
    write_png(file, strips_of(array, high))
    image = Image.open(io.BytesIO(file.getvalue()))
    image.verify()
    image = Image.open(io.BytesIO(file.getvalue()))
    assert image.mode == ("L" if channels == 1 else "RGB")
    np.testing.assert_array_equal(np.asarray(image).reshape(array.shape), array)
    file = io.BytesIO()
    write_ppm(file, strips_of(array, high))
    np.testing.assert_array_equal(np.asarray(Image.open(file)).reshape(array.shape), array)


def test_a_png_of_a_photograph_is_about_as_small_as_pillows():
    picture = hvae_codec.load("cifar10", quality=2).decode(
        hvae_codec.load("cifar10", quality=2).encode(noise(64, 256, 3) // 4)
    )
    ours, pillows = io.BytesIO(), io.BytesIO()
    write_png(ours, strips_of(picture, 32))
    pillow(picture).save(pillows, "PNG")
    assert len(ours.getvalue()) < 1.1 * len(pillows.getvalue())
