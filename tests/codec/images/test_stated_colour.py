"""Colours that a JPEG 2000, BMP, TIFF or QOI states by itself: converted, or ignored in words."""

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

import hvae_codec.pillow_plugin
from hvae_codec.codec.images.load import as_uint8
from hvae_codec.errors import ColourWarning
from tests.codec.images.test_colour import (
    COLOUR,
    LAB,
    P3_POINTS,
    P3_TO_SRGB,
    SRGB_PROFILE,
    flat,
    icc,
    linear_from_srgb,
    near,
    srgb_from_linear,
)

assert hvae_codec.pillow_plugin

LINEAR = icc("x", 1.0)
FROM_LINEAR = srgb_from_linear(COLOUR / 255)
FROM_P3 = srgb_from_linear(P3_TO_SRGB @ linear_from_srgb(COLOUR))
SRGB_ENDS = [(0.64, 0.33, 0.03), (0.30, 0.60, 0.10), (0.15, 0.06, 0.79)]


def saved(kind, **options):
    file = io.BytesIO()
    Image.fromarray(flat()).save(file, kind, **options)
    return file.getvalue()


def bmp(kind, profile=b"", gamma=0.0, ends=((0, 0, 0),) * 3, *, file_header=True):
    """BMP with a header of version 5, by Microsoft's table of BITMAPV5HEADER."""
    pixels = flat()[::-1, :, ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, 8, 8, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0)
    header += kind[::-1] if kind else bytes(4)
    header += struct.pack("<9I", *(round(2**30 * value) for end in ends for value in end))
    header += struct.pack("<3I", *[round(2**16 * gamma)] * 3)
    header += struct.pack("<4I", 4, 124 + len(pixels), len(profile), 0)
    size = 14 + len(header) + len(pixels) + len(profile)
    lead = b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + len(header)) if file_header else b""
    return lead + header + pixels + profile


def jp2(colour):
    """JPEG 2000 whose box colr has another body."""
    data = saved("JPEG2000")
    start = data.index(b"colr") - 4
    (size,) = struct.unpack(">I", data[start : start + 4])
    box = struct.pack(">I", 8 + len(colour)) + b"colr" + colour
    outer = data.index(b"jp2h") - 4
    (whole,) = struct.unpack(">I", data[outer : outer + 4])
    whole = struct.pack(">I", whole + len(box) - size)
    return data[:outer] + whole + data[outer + 4 : start] + box + data[start + size :]


def enumerated(number):
    return jp2(b"\1\0\0" + struct.pack(">I", number))


def tiff(**tags):
    """TIFF with rational tags 318 and 319, and table 301."""
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, name in ((318, 5, "white"), (319, 5, "primaries"), (301, 3, "table")):
        if name in tags:
            ifd.tagtype[tag] = kind
            ifd[tag] = tags[name]
    return saved("TIFF", tiffinfo=ifd)


def table(gamma=None):
    """Light of each level, three times."""
    levels = np.arange(256)
    light = linear_from_srgb(levels) if gamma is None else (levels / 255) ** gamma
    return tuple((65535 * light).round().astype(int).tolist()) * 3


def qoi(colour_space):
    """By the specification: every pixel as QOI_OP_RGB."""
    pixels = b"".join(b"\xfe" + bytes(pixel) for pixel in flat().reshape(-1, 3).tolist())
    head = b"qoif" + struct.pack(">IIBB", 8, 8, 3, colour_space)
    return head + pixels + bytes(7) + b"\1"


CONVERTED = {
    "JP2, restricted profile": (jp2(b"\2\0\0" + LINEAR), FROM_LINEAR),
    "JP2, any profile": (jp2(b"\3\0\0" + LINEAR), FROM_LINEAR),
    "BMP, embedded profile": (bmp(b"MBED", LINEAR), FROM_LINEAR),
    "DIB, embedded profile": (bmp(b"MBED", LINEAR, file_header=False), FROM_LINEAR),
    "TIFF, P3": (tiff(white=P3_POINTS[:2], primaries=P3_POINTS[2:]), FROM_P3),
    "QOI, linear": (qoi(1), FROM_LINEAR),
}
UNCHANGED = {
    "JP2": saved("JPEG2000"),
    "JP2, sRGB": enumerated(16),
    "JP2, profile of sRGB": jp2(b"\2\0\0" + SRGB_PROFILE),
    "J2K": saved("JPEG2000", no_jp2=True),
    "BMP": saved("BMP"),
    "BMP, sRGB": bmp(b"sRGB"),
    "BMP, Windows": bmp(b"Win "),
    "BMP, profile of sRGB": bmp(b"MBED", SRGB_PROFILE),
    "BMP, nothing stated": bmp(b""),
    "BMP, calibrated as sRGB": bmp(b"", gamma=2.2, ends=SRGB_ENDS),
    "TIFF": saved("TIFF"),
    "TIFF, sRGB": tiff(
        white=(0.3127, 0.3290), primaries=(0.64, 0.33, 0.3, 0.6, 0.15, 0.06), table=table()
    ),
    "TIFF, white of sRGB": tiff(white=(0.3127, 0.3290)),
    "TIFF, full range": saved("TIFF", tiffinfo={532: (0.0, 255.0) * 3}),
    "TIFF, gamma of 2.2": tiff(table=table(2.2)),
    "QOI": qoi(0),
}
IGNORED = {
    "JP2, ROMM": (enumerated(21), "colour space 21 of JPEG 2000"),
    "JP2, vendor": (jp2(b"\4\0\0" + bytes(16)), "colour of JPEG 2000"),
    "JP2, no profile": (jp2(b"\2\0\0no profile"), "damaged ICC profile"),
    "JP2, Lab": (jp2(b"\2\0\0" + LAB), "another colour space than RGB or grey"),
    "BMP, cut profile": (bmp(b"MBED", LINEAR)[:-300], "damaged ICC profile"),
    "BMP, no profile": (bmp(b"MBED"), "damaged ICC profile"),
    "BMP, linked": (bmp(b"LINK", b"c:\\x.icc\0"), "linked ICC profile"),
    "BMP, linear": (bmp(b"", gamma=1.0), "primaries and gamma of a BMP"),
    "BMP, P3": (
        bmp(b"", gamma=2.2, ends=[(0.68, 0.32, 0), (0.265, 0.69, 0.045), SRGB_ENDS[2]]),
        "primaries and gamma of a BMP",
    ),
    "BMP, other": (bmp(b"????"), "colour of a BMP"),
    "TIFF, linear": (tiff(table=table(1.0)), "transfer function of a TIFF"),
    "TIFF, narrow range": (saved("TIFF", tiffinfo={532: (16.0, 235.0) * 3}), "reference black"),
    "TIFF, short table": (tiff(table=(0, 65535)), "transfer function of a TIFF"),
    "TIFF, white alone": (tiff(white=(0.3457, 0.3585)), "white point or primaries alone"),
    "TIFF, on a line": (tiff(white=(0.3, 0.3), primaries=(0.3,) * 6), "damaged white point"),
    "TIFF, of 0": (tiff(white=(0.0, 0.0), primaries=(0.0,) * 6), "damaged white point"),
    "TIFF, too few": (tiff(white=(0.3, 0.3), primaries=(0.3,) * 4), "damaged white point"),
}


def images(tmp_path, data):
    """An image as Pillow opens it: from a file, loaded or not, and from memory.

    One in memory has let go of its file once it is loaded.
    """
    path = tmp_path / "x"
    path.write_bytes(data)
    loaded = Image.open(path)
    loaded.load()
    return [Image.open(path), Image.open(io.BytesIO(data)), loaded]


@pytest.mark.parametrize("name", CONVERTED)
def test_it_is_converted(tmp_path, name):
    data, expected = CONVERTED[name]
    assert np.abs(expected - COLOUR).max() > 8
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), flat())
    for image in images(tmp_path, data):
        near(as_uint8(image), expected)


@pytest.mark.parametrize("name", UNCHANGED)
def test_what_states_srgb_or_nothing_changes_nothing(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in images(tmp_path, UNCHANGED[name]):
            np.testing.assert_array_equal(as_uint8(image), flat())


@pytest.mark.parametrize("name", IGNORED)
def test_it_is_ignored_in_words(tmp_path, name):
    data, message = IGNORED[name]
    for image in images(tmp_path, data):
        with pytest.warns(ColourWarning, match=message + ".*: its samples are taken as sRGB"):
            np.testing.assert_array_equal(as_uint8(image), flat())


def test_a_profile_that_pillow_gives_comes_before_a_tag():
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd.tagtype[301] = 3
    ifd[301] = table(1.8)
    data = saved("TIFF", tiffinfo=ifd, icc_profile=LINEAR)
    near(as_uint8(Image.open(io.BytesIO(data))), FROM_LINEAR)


def test_frames_of_a_file_that_the_plugin_saves(tmp_path):
    data, _ = CONVERTED["TIFF, P3"]
    tags = {"tiffinfo": Image.open(io.BytesIO(data)).tag_v2}
    file = io.BytesIO()
    frame = Image.fromarray(flat())
    frame.save(file, "TIFF", save_all=True, append_images=[frame], **tags)
    Image.open(file).save(tmp_path / "x.hvae", save_all=True, model="cifar10")
    decoded = np.asarray(Image.open(tmp_path / "x.hvae"))
    assert np.abs(decoded.mean((0, 1)) - FROM_P3).max() < np.abs(FROM_P3 - COLOUR).max() / 2
