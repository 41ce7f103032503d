"""Every way in which an image is refused, and what the message says."""

import struct
import time
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from hvae_codec.codec.images.load import as_batch, as_uint8, decode_image_bytes
from hvae_codec.errors import AlphaError, HvaeCodecError, ImageError
from tests.codec.images.image_files import (
    SIGNATURE,
    WHOLE,
    chunk,
    grey_png,
    picture,
    png,
    rgba,
    saved,
    transparent_palette,
)

ALPHA = {
    "opaque RGBA PNG": saved(rgba(), "PNG"),
    "RGBA WebP": saved(Image.new("RGBA", (4, 4), (1, 2, 3, 99)), "WEBP"),
    "grey and alpha PNG": saved(Image.new("LA", (4, 4)), "PNG"),
    "palette PNG": saved(transparent_palette(), "PNG", transparency=0),
    "RGB PNG with tRNS": saved(Image.new("RGB", (4, 4)), "PNG", transparency=(1, 2, 3)),
    "grey PNG with tRNS": saved(Image.new("L", (4, 4)), "PNG", transparency=7),
}


@pytest.mark.parametrize("data", ALPHA.values(), ids=ALPHA)
def test_alpha_in_a_file_is_refused_with_advice(data):
    with pytest.raises(AlphaError, match=r"has alpha; .*flatten the image"):
        decode_image_bytes(data)


@pytest.mark.parametrize(
    "image",
    [
        rgba(),
        Image.new("LA", (2, 2)),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 2), np.uint8),
        torch.zeros((4, 5, 5), dtype=torch.uint8),
    ],
)
def test_alpha_in_memory_is_refused(image):
    with pytest.raises(AlphaError, match="has alpha"):
        as_uint8(image)


def apng():
    frames = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(3)]
    return saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


def animated_webp():
    frames = [Image.new("RGB", (4, 4), (90 * i, 0, 0)) for i in range(3)]
    return saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])


REFUSED = {
    "nothing": (b"", "not a PNG, JPEG or WebP image: 0 bytes that begin with nothing"),
    "text": (b"hello, world", "not a PNG, JPEG or WebP image: 12 bytes that begin with 68 65"),
    "GIF": (saved(Image.new("P", (4, 4)), "GIF"), "not a PNG, JPEG or WebP"),
    "BMP": (saved(Image.new("RGB", (4, 4)), "BMP"), "not a PNG, JPEG or WebP"),
    "16-bit grey PNG": (grey_png([[1, 2, 3, 4]], 16), "PNG of 16 bits per sample"),
    "16-bit RGB PNG": (
        png(1, 1, 16, 2, chunk(b"IDAT", zlib.compress(bytes(7)))),
        "PNG of 16 bits per sample",
    ),
    "CMYK JPEG": (saved(Image.new("CMYK", (4, 4)), "JPEG"), "mode CMYK: convert it to RGB"),
    "animated PNG": (apng(), "animated PNG: give one of its images"),
    "animated WebP": (animated_webp(), "animated WEBP"),
    "PNG of no width": (png(0, 5, 8, 0, chunk(b"IDAT", zlib.compress(b""))), "got 0x5"),
    "PNG without data": (png(5, 5, 8, 0), "5x5 pixels, which its 0 bytes of data cannot hold"),
    "PNG whose data stop": (
        png(9, 9, 8, 0, chunk(b"IDAT", zlib.compress(picture(90, 1, 1).tobytes())[:40])),
        "damaged or truncated PNG",
    ),
    "PNG with a wrong checksum": (
        WHOLE["PNG"].replace(b"IDAT", b"IDAT\x07", 1),
        "checksum|truncated PNG",
    ),
    "PNG with two headers": (
        png(
            2,
            2,
            8,
            0,
            chunk(b"IHDR", struct.pack(">IIBBBBB", 90, 90, 8, 0, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress(bytes(6))),
        ),
        "disagree on its size",
    ),
    "JPEG of no height": (
        WHOLE["JPEG"].replace(struct.pack(">BHH", 8, 20, 30), struct.pack(">BHH", 8, 0, 30)),
        "got 30x0",
    ),
    "12-bit JPEG": (
        WHOLE["JPEG"].replace(struct.pack(">BHH", 8, 20, 30), struct.pack(">BHH", 12, 20, 30)),
        "JPEG of 12 bits per sample",
    ),
    "JPEG of a forged size": (
        WHOLE["JPEG"].replace(struct.pack(">BHH", 8, 20, 30), struct.pack(">BHH", 8, 9999, 9999)),
        "9999x9999 pixels, which its [0-9]+ bytes cannot hold",
    ),
    "JPEG without an image": (b"\xff\xd8\xff\xd9", "no frame header"),
    "WebP of an unknown chunk": (b"RIFF\x16\0\0\0WEBPABCD" + bytes(14), "first chunk is b'ABCD'"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_bytes_are_refused_saying_why(data, message):
    with pytest.raises(ImageError, match=message) as caught:
        decode_image_bytes(data)
    assert type(caught.value) is ImageError


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_every_truncation_is_refused(data, lenient, monkeypatch):
    """Also where the process lets Pillow fill in what is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    decode_image_bytes(data)
    for length in range(0, len(data) - 1, 7 if lenient else 3):
        with pytest.raises(ImageError):
            decode_image_bytes(data[:length])


def test_one_flipped_bit_in_a_png_is_always_refused():
    data = WHOLE["PNG"]
    for position in range(0, len(data), 2):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(ImageError):
            decode_image_bytes(bytes(flipped))


BAD_KINDS = {
    "float": (np.zeros((4, 4, 3)), "must be uint8, got float64"),
    "int64": (np.zeros((4, 4), np.int64), "must be uint8, got int64"),
    "bool": (np.zeros((4, 4), bool), "must be uint8, got bool"),
    "one row": (np.zeros(7, np.uint8), r"\[H, W, 3\]; got \[7\]"),
    "five channels": (np.zeros((4, 4, 5), np.uint8), r"got \[4, 4, 5\]"),
    "batch": (np.zeros((2, 4, 4, 3), np.uint8), r"got \[2, 4, 4, 3\]"),
    "no rows": (np.zeros((0, 4, 3), np.uint8), "got 4x0"),
    "no columns": (np.zeros((4, 0, 3), np.uint8), "got 0x4"),
    "float tensor": (torch.zeros(3, 4, 4), r"got torch\.float32"),
    "HWC tensor": (torch.zeros((9, 9, 3), dtype=torch.uint8), r"\[C, H, W\]; got \[9, 9, 3\]"),
    "empty tensor": (torch.zeros((3, 0, 4), dtype=torch.uint8), "got 4x0"),
    "32-bit Pillow image": (Image.new("I", (2, 2)), "mode I has more than 8 bits"),
    "float Pillow image": (Image.new("F", (2, 2)), "mode F has more than 8 bits"),
    "CMYK Pillow image": (Image.new("CMYK", (2, 2)), "mode CMYK: convert"),
    "Pillow image of no size": (Image.new("RGB", (0, 3)), "got 0x3"),
    "absent file": ("no/such/file.png", "'no/such/file.png' cannot be read: .*No such file"),
    "directory": (".", r"'.' cannot be read"),
    "null character": ("a\0b", "cannot be read"),
    "bytes": (WHOLE["PNG"], "got bytes"),
    "None": (None, "got NoneType"),
}


@pytest.mark.parametrize(("image", "message"), BAD_KINDS.values(), ids=BAD_KINDS)
def test_other_kinds_are_refused_saying_what_was_given(image, message):
    with pytest.raises(ImageError, match=message) as caught:
        as_uint8(image)
    assert type(caught.value) is ImageError


def test_errors_of_a_file_name_it(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(WHOLE["PNG"][:-9])
    with pytest.raises(ImageError, match=r"cut\.png: truncated PNG: it ends early"):
        as_uint8(path)
    path.write_bytes(ALPHA["opaque RGBA PNG"])
    with pytest.raises(AlphaError, match=r"cut\.png: image of mode RGBA"):
        as_uint8(str(path))


@pytest.mark.parametrize("image", ["picture.png", Image.new("L", (2, 2)), b"", 5, None])
def test_one_picture_is_no_batch(image):
    with pytest.raises(ImageError, match="put it in a list"):
        as_batch(image)


def test_errors_of_a_batch_say_which_picture():
    with pytest.raises(AlphaError, match="image 1 of the batch"):
        as_batch([picture(), rgba()])
    with pytest.raises(ImageError, match=r"got 3 dimensions \[20, 30, 3\]"):
        as_batch(picture())


def mutations(data):
    """The bytes with a few of them replaced, removed or repeated."""
    position = st.integers(0, len(data) - 1)
    edit = st.tuples(position, st.integers(0, 6), st.binary(max_size=6))

    def apply(edits):
        changed = bytearray(data)
        for start, length, new in edits:
            changed[start : start + length] = new
        return bytes(changed)

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def repaired(data):
    """A PNG's checksums made right again, so that mutations reach the reader behind them."""
    out, position = [data[:8]], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        body = data[position + 8 : position + 8 + length]
        out.append(chunk(data[position + 4 : position + 8], body))
        position += 12 + length
    return b"".join(out)


ANY_FILE = st.one_of(
    *(mutations(data) for data in WHOLE.values()),
    mutations(WHOLE["PNG"]).map(repaired),
    mutations(saved(transparent_palette(), "PNG")).map(repaired),
    st.binary(max_size=64),
    st.binary(max_size=64).map(lambda tail: SIGNATURE + tail),
)


@settings(max_examples=600)
@given(ANY_FILE)
def test_any_bytes_give_a_picture_or_an_error_of_the_library(data):
    begun = time.process_time()
    try:
        decoded = decode_image_bytes(data)
    except HvaeCodecError:
        return
    finally:
        assert time.process_time() - begun < 2
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3
    assert decoded.shape[2] in (1, 3)
    assert decoded.size > 0
