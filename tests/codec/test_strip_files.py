"""Uncompressed pictures are mapped, PNG and PPM written in strips: against Pillow and NumPy."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import hvae_codec
from hvae_codec.codec.images import as_uint8
from hvae_codec.codec.strip_files import Strips, mapped_picture, write_png, write_ppm
from hvae_codec.errors import AlphaError, ImageError, ImageTooLargeError


def noise(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pillow(array):
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def strips_of(array, high):
    rows = (array[top : top + high] for top in range(0, len(array), high))
    return Strips(*array.shape, rows)


@pytest.mark.parametrize(("suffix", "channels"), [(".ppm", 3), (".pgm", 1)])
def test_pillows_ppm_is_mapped(tmp_path, suffix, channels):
    array = noise(21, 34, channels)
    path = tmp_path / f"x{suffix}"
    pillow(array).save(path)
    picture = as_uint8(path)
    np.testing.assert_array_equal(picture, array)
    base = picture
    while not isinstance(base, np.memmap):
        base = base.base
    assert base.mode == "r"


def test_a_header_with_comments(tmp_path):
    (tmp_path / "x.ppm").write_bytes(b"P6 # by hand\n#size:\n 2\t1\n255\n" + bytes(range(6)))
    assert as_uint8(tmp_path / "x.ppm").tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P6\n2 2\n255\n" + bytes(11), r"2x2 makes 23 bytes, not 22"),
        (b"P6\n2 2\n255\n" + bytes(13), r"2x2 makes 23 bytes, not 24"),
        (b"P6\n2 2\n65535\n" + bytes(24), r"samples up to 65535"),
        (b"P6\n0 2\n255\n", r"0x2"),
        (b"P6\n2 x\n255\n" + bytes(12), r"header cannot be read"),
        (b"P6\n99999999 99999999\n255\n" + bytes(12), r"makes \d+ bytes"),
        (b"P5", r"header cannot be read"),
        (b"P3\n1 1\n255\n1 2 3\n", r"not a PNG, JPEG or WebP"),
        (b"\x93NUMPY\x01\x00", r"cannot be read"),
        (b"", r"not a PNG, JPEG or WebP"),
    ],
)
def test_damaged_files_are_refused_naming_them(tmp_path, data, message):
    (tmp_path / "x.ppm").write_bytes(data)
    with pytest.raises(ImageError, match=message) as refused:
        as_uint8(tmp_path / "x.ppm")
    assert str(tmp_path / "x.ppm") in str(refused.value)


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_npy_is_mapped(tmp_path, shape):
    array = noise(9, 7, 3).ravel()[: int(np.prod(shape))].reshape(shape)
    np.save(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(as_uint8(tmp_path / "x.npy"), array.reshape(9, 7, -1))
    assert isinstance(mapped_picture(tmp_path / "x.npy"), np.memmap)
    np.save(tmp_path / "x.npy", np.asfortranarray(array))
    np.testing.assert_array_equal(as_uint8(tmp_path / "x.npy"), array.reshape(9, 7, -1))


def test_arrays_that_are_no_pictures_are_refused(tmp_path):
    for array, kind in (
        (np.zeros((4, 4, 3)), ImageError),
        (np.zeros((4, 4, 4), np.uint8), AlphaError),
        (np.zeros((2, 4, 4, 3), np.uint8), ImageError),
        (np.zeros((1, 70_000, 1), np.uint8), ImageTooLargeError),
    ):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(kind, match=r"x\.npy"):
            as_uint8(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ImageError, match="cannot be read"):
        as_uint8(tmp_path / "x.npy")


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
