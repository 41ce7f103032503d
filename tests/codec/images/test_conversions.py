"""Alpha over a background, and CMYK: levels that follow from the definitions."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from hvae_codec.codec.images.conversions import Conversions, parse_colour
from hvae_codec.codec.images.load import as_uint8, decode_image_bytes
from hvae_codec.errors import AlphaError, ColourWarning, ImageError

ORANGE = (255, 128, 0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
D50 = b"".join(struct.pack(">i", round(value * 65536)) for value in (0.9642, 1, 0.8249))


def blended(colour, alpha, background):
    """colour alpha + background (1 - alpha), alpha in 255ths."""
    pairs = zip(colour, background, strict=True)
    return [(c * alpha + b * (255 - alpha)) / 255 for c, b in pairs]


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def palette_with_alpha():
    image = Image.new("P", (2, 1))
    image.putpalette([200, 100, 50, 10, 20, 30])
    image.putpixel((1, 0), 1)
    return image


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), ORANGE])
@pytest.mark.parametrize("alpha", [0, 1, 128, 254, 255])
def test_levels_over_a_background(background, alpha):
    image = Image.new("RGBA", (2, 3), (200, 100, 50, alpha))
    expected = blended((200, 100, 50), alpha, background)
    seen = as_uint8(image, Conversions(background))
    assert seen.shape == (3, 2, 3)
    assert np.abs(seen - np.array(expected)).max() <= 1
    assert np.array_equal(decode_image_bytes(png(image), conversions=Conversions(background)), seen)
    # Samples that were multiplied by alpha were rounded.
    multiplied = as_uint8(image.convert("RGBa"), Conversions(background))
    assert np.abs(multiplied - np.array(expected)).max() <= 2


@pytest.mark.parametrize(
    ("file", "colours", "alphas"),
    [
        (
            png(palette_with_alpha(), transparency=bytes([128, 255])),
            [(200, 100, 50), (10, 20, 30)],
            [128, 255],
        ),
        (png(Image.new("RGB", (1, 1), (9, 8, 7)), transparency=(9, 8, 7)), [(9, 8, 7)], [0]),
        (png(Image.new("RGB", (1, 1), (9, 8, 7)), transparency=(1, 1, 1)), [(9, 8, 7)], [255]),
    ],
    ids=["palette", "the transparent colour", "another colour"],
)
def test_transparency_without_a_channel(file, colours, alphas):
    with pytest.raises(AlphaError):
        decode_image_bytes(file)
    seen = decode_image_bytes(file, conversions=Conversions(ORANGE))[0].tolist()
    for found, colour, alpha in zip(seen, colours, alphas, strict=True):
        assert found == pytest.approx(blended(colour, alpha, ORANGE), abs=1)


def test_grey_stays_grey_over_grey():
    image = Image.new("LA", (4, 5), (100, 51))
    for form in (image, image.convert("La")):
        seen = as_uint8(form, Conversions((200, 200, 200)))
        assert seen.shape == (5, 4, 1)
        assert np.abs(seen.astype(int) - 180).max() <= 2  # 100 / 5 + 200 * 4 / 5
    assert as_uint8(image, Conversions(ORANGE)).shape == (5, 4, 3)
    grey = png(Image.new("L", (2, 2), 7), transparency=7)
    seen = decode_image_bytes(grey, conversions=Conversions((90, 90, 90)))
    assert seen.tolist() == [[[90]] * 2] * 2


def test_stated_colours_are_those_of_the_image_and_not_of_the_background():
    image = Image.new("RGBA", (2, 1), (60, 60, 60, 255))
    image.putpixel((1, 0), (60, 60, 60, 0))
    linear = PngImagePlugin.PngInfo()
    linear.add(b"gAMA", struct.pack(">I", 100_000))
    opaque = decode_image_bytes(png(image.convert("RGB"), pnginfo=linear))
    seen = decode_image_bytes(png(image, pnginfo=linear), conversions=Conversions(ORANGE))
    assert seen[0, 0].tolist() == opaque[0, 0].tolist()
    assert seen[0, 0, 0] > 120  # 60 / 255 of the light: level 132 of sRGB
    assert seen[0, 1].tolist() == list(ORANGE)


def test_orientation_is_applied_after_it():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    seen = decode_image_bytes(png(image, exif=exif), conversions=Conversions((0, 0, 255)))
    assert seen.tolist() == [[[255, 0, 0]], [[0, 0, 255]], [[0, 0, 255]]]


def cmyk_profile():
    """An ICC profile in which any ink is black: lightness falls from 100 to 0 along each."""
    tables = bytes(range(256))
    corners = b"".join(bytes([255 if corner == 0 else 0, 128, 128]) for corner in range(16))
    matrix = b"".join(struct.pack(">i", (i % 4 == 0) << 16) for i in range(9))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * tables + corners + 3 * tables
    white = b"XYZ " + bytes(4) + D50
    start = 132 + 2 * 12
    table = b"A2B0" + struct.pack(">II", start, len(lut))
    table += b"wtpt" + struct.pack(">II", start + len(lut), len(white))
    size = start + len(lut) + len(white)
    head = struct.pack(">I4xI", size, 0x02400000) + b"prtrCMYKLab "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + D50
    return head + bytes(48) + struct.pack(">I", 2) + table + lut + white


def cmyk_jpeg(inks, **options):
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 8), inks).save(buffer, "JPEG", quality=100, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("inks", "levels"),
    [((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 255, 0), (255, 255, 0)), ((0, 0, 0, 255), (0, 0, 0))],
)
def test_plain_inks_are_opposite_colours(inks, levels):
    seen = decode_image_bytes(cmyk_jpeg(inks), conversions=Conversions(cmyk=True))
    assert seen.shape == (8, 16, 3)
    assert np.abs(seen.astype(int) - np.array(levels)).max() <= 3


def test_inks_go_by_their_profile():
    file = cmyk_jpeg((128, 0, 0, 0), icc_profile=cmyk_profile())
    with pytest.raises(ImageError, match="mode CMYK"):
        decode_image_bytes(file)
    seen = decode_image_bytes(file, conversions=Conversions(cmyk=True)).astype(int)
    assert np.abs(seen - 119).max() <= 3  # L* of 50 in sRGB


def test_a_profile_of_no_use_for_inks_is_ignored_with_a_warning():
    for profile in (SRGB, b"damaged"):
        file = cmyk_jpeg((255, 0, 0, 0), icc_profile=profile)
        with pytest.warns(ColourWarning, match="no use for CMYK"):
            seen = decode_image_bytes(file, conversions=Conversions(cmyk=True))
        assert np.abs(seen.astype(int) - np.array([0, 255, 255])).max() <= 3


def test_only_what_is_asked_for_is_converted():
    with pytest.raises(ImageError, match="mode CMYK"):
        decode_image_bytes(cmyk_jpeg((0, 0, 0, 0)), conversions=Conversions((0, 0, 0)))
    with pytest.raises(AlphaError):
        as_uint8(Image.new("RGBA", (2, 2)), Conversions(cmyk=True))
    with pytest.raises(ImageError, match="more than 8 bits"):
        as_uint8(Image.new("I;16", (2, 2)), Conversions((0, 0, 0), cmyk=True))


def test_colours_by_name_and_number():
    assert parse_colour("white") == (255, 255, 255)
    assert parse_colour("#ff8000") == parse_colour("rgb(255, 128, 0)") == ORANGE
    for text, reason in [("", "no colour"), ("snowy", "no colour"), ("#ff800080", "transparent")]:
        with pytest.raises(ImageError, match=reason):
            parse_colour(text)
