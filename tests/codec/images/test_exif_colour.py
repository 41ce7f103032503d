"""White point, primaries and gamma of EXIF, against colours worked out by the formulas of CIE."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from hvae_codec.codec.images.load import as_uint8, decode_image_bytes
from hvae_codec.errors import ColourWarning
from tests.codec.images.test_colour import ADOBE_TO_SRGB, flat, near, srgb_from_linear

WHITE = (0.3127, 0.329)
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)


def rationals(numbers):
    return tuple(IFDRational(round(10_000 * number), 10_000) for number in numbers)


def image(kind, white=None, primaries=None, gamma=None, space=None):
    """The bytes of an image of one colour, and that colour as it is stored."""
    exif = Image.Exif()
    for tag, value in ((318, white), (319, primaries)):
        if value is not None:
            exif[tag] = rationals(value)
    for tag, value in ((0xA500, gamma and IFDRational(*gamma)), (0xA001, space)):
        if value is not None:
            exif.get_ifd(0x8769)[tag] = value
    file = io.BytesIO()
    how = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    Image.fromarray(flat()).save(file, kind, exif=exif.tobytes(), **how)
    return file.getvalue(), np.asarray(Image.open(io.BytesIO(file.getvalue())))[0, 0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("gamma", [(18, 10), (1, 1)])
def test_a_gamma_is_converted(kind, gamma):
    data, stored = image(kind, gamma=gamma)
    expected = srgb_from_linear((stored / 255) ** (gamma[0] / gamma[1]))
    near(decode_image_bytes(data), expected)
    near(as_uint8(Image.open(io.BytesIO(data))), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_primaries_are_converted(kind):
    data, stored = image(kind, WHITE, ADOBE, gamma=(563, 256), space=0xFFFF)
    light = (stored / 255) ** (563 / 256)
    expected = srgb_from_linear(ADOBE_TO_SRGB @ light)
    assert np.abs(expected - stored).max() > 8
    near(decode_image_bytes(data), expected)


@pytest.mark.parametrize(
    "stated",
    [
        {"white": WHITE, "primaries": SRGB},
        {"white": WHITE, "primaries": SRGB, "gamma": (22, 10)},
        {"white": WHITE, "primaries": ADOBE, "space": 1},  # ColorSpace: sRGB
        {"gamma": (18, 10), "space": 1},
        {"white": WHITE},
    ],
)
def test_what_says_srgb_or_too_little_changes_nothing(stated):
    data, stored = image("PNG", **stated)
    assert (decode_image_bytes(data) == stored).all()


@pytest.mark.parametrize(
    "stated",
    [
        {"gamma": (0, 1)},
        {"gamma": (1, 0)},
        {"white": WHITE, "primaries": ADOBE[:4]},
        {"white": WHITE, "primaries": (1 / 3,) * 6},
        {"white": WHITE, "primaries": (2.0,) * 6},
    ],
)
def test_damage_is_ignored_with_a_warning(stated):
    data, stored = image("JPEG", **stated)
    with pytest.warns(ColourWarning, match="damaged .* in EXIF: its samples are taken as sRGB"):
        assert (decode_image_bytes(data) == stored).all()
