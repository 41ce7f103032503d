"""Colour of images that were loaded from a path before, where the file may be another one now."""

import io
import os
import pickle
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from hvae_codec.codec.images.load import as_uint8
from hvae_codec.errors import ColourWarning, ImageError
from hvae_codec.utils import import_time
from tests.codec.images.test_colour import COLOUR, cicp, flat, icc, near, png
from tests.codec.images.test_stated_colour import FROM_LINEAR, FROM_P3, bmp, jp2, qoi

OTHER = flat(COLOUR[::-1])
P3, PQ = cicp(12, 13, 0, 1), cicp(9, 16, 0, 1)
PLAIN_FILES = {
    "PNG": png(flat()),
    "BMP": bmp(b""),
    "QOI": qoi(0),
    "JPEG 2000": jp2(b"\1\0\0\0\0\0\x10"),
}


def loaded(path, data):
    path.write_bytes(data)
    image = Image.open(path)
    image.load()
    return image


def replaced(path, data):
    path.with_suffix(".new").write_bytes(data)
    os.replace(path.with_suffix(".new"), path)


def assert_unknown(image, pixels):
    with pytest.warns(ColourWarning, match="gone or has other pixels now.* taken as sRGB"):
        np.testing.assert_array_equal(as_uint8(image), pixels)


def test_the_colour_of_a_file_that_is_still_there_is_taken(tmp_path):
    near(as_uint8(loaded(tmp_path / "x.png", png(flat(), P3))), FROM_P3)
    near(as_uint8(pickle.loads(pickle.dumps(Image.open(tmp_path / "x.png")))), FROM_P3)
    with pytest.raises(ImageError, match="PQ"):
        as_uint8(loaded(tmp_path / "x.png", png(flat(), PQ)))


@pytest.mark.parametrize("chunks", [[], [P3], [PQ]])
@pytest.mark.parametrize("now", [png(OTHER), png(OTHER, P3), png(flat()[:4]), b"", b"text", None])
def test_a_file_that_was_replaced_or_removed_is_not_read(tmp_path, chunks, now):
    path = tmp_path / "x.png"
    image = loaded(path, png(flat(), *chunks))
    if now is None:
        path.unlink()
    else:
        replaced(path, now)
    assert_unknown(image, flat())


def test_a_file_that_was_overwritten_is_not_read(tmp_path):
    image = loaded(tmp_path / "x.png", png(flat()))
    (tmp_path / "x.png").write_bytes(png(OTHER, P3))
    assert_unknown(image, flat())


def test_a_relative_path_in_another_directory_is_another_file(tmp_path, monkeypatch):
    for name, array in (("a", flat()), ("b", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(array, P3))
    monkeypatch.chdir(tmp_path / "a")
    image = Image.open("x.png")
    image.load()
    near(as_uint8(image), FROM_P3)
    monkeypatch.chdir(tmp_path / "b")
    assert_unknown(image, flat())


@pytest.mark.parametrize("kind", PLAIN_FILES)
def test_formats_that_state_colour_by_themselves(tmp_path, kind):
    image = loaded(tmp_path / "x", PLAIN_FILES[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(as_uint8(image), flat())
    (tmp_path / "x").unlink()
    assert_unknown(image, flat())


def test_what_the_image_itself_holds_counts_on(tmp_path):
    image = loaded(tmp_path / "x.png", png(flat(), icc_profile=icc("x", 1.0)))
    replaced(tmp_path / "x.png", png(OTHER, P3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near(as_uint8(image), FROM_LINEAR)


def test_an_image_that_is_not_loaded_has_its_own_file_still(tmp_path):
    for chunks, expected in (([P3], FROM_P3), ([], COLOUR)):
        path = tmp_path / "x.png"
        path.write_bytes(png(flat(), *chunks))
        image = Image.open(path)
        replaced(path, png(flat(), PQ))
        near(as_uint8(image), expected)


def test_pixels_that_were_changed_and_copies(tmp_path):
    image = loaded(tmp_path / "x.png", png(flat(), P3))
    image.putpixel((0, 0), tuple(OTHER[0, 0].tolist()))
    assert_unknown(image, np.asarray(image))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(as_uint8(image.copy()), np.asarray(image))
        in_memory = Image.open(io.BytesIO(png(flat(), P3)))
        in_memory.load()
        near(as_uint8(in_memory), FROM_P3)


@pytest.mark.parametrize("kind", PLAIN_FILES)
def test_changed_pixels_of_an_old_file_that_states_nothing(tmp_path, monkeypatch, kind):
    images = [loaded(tmp_path / str(number), PLAIN_FILES[kind]) for number in range(2)]
    monkeypatch.setattr(import_time, "_IMPORTED_NS", time.time_ns() + 10**10)
    images[0].thumbnail((4, 4))
    images[1].putpixel((0, 0), tuple(OTHER[0, 0].tolist()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in images:
            np.testing.assert_array_equal(as_uint8(image), np.asarray(image))


def test_changed_pixels_of_an_old_file_that_states_a_colour(tmp_path, monkeypatch):
    image = loaded(tmp_path / "x.png", png(flat(), P3))
    monkeypatch.setattr(import_time, "_IMPORTED_NS", time.time_ns() + 10**10)
    image.thumbnail((4, 4))
    assert_unknown(image, np.asarray(image))
