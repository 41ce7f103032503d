"""Images that are too large, say so falsely, or would keep the reader busy."""

import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from hvae_codec.codec.images.load import as_uint8, decode_image_bytes
from hvae_codec.errors import ImageError, ImageTooLargeError
from tests.codec.images.image_files import WHOLE, chunk, grey_png, png, saved


def peak_bytes(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb(width, height, bits=1):
    """PNG whose few kilobytes inflate to all-zero rows of that size."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + (width * bits + 7) // 8)
    body = b"".join(deflate.compress(row * 64) for _ in range(height // 64))
    return png(width, height // 64 * 64, bits, 0, chunk(b"IDAT", body + deflate.flush()))


def test_decompression_bomb_is_refused_before_its_pixels_are_decoded():
    data = bomb(50_000, 49_984)
    assert len(data) < 350_000
    before = Image.core.get_stats()["new_count"]

    def decode():
        with pytest.raises(ImageTooLargeError, match="50000x49984 pixels; at most 65,535 on a"):
            decode_image_bytes(data)

    assert peak_bytes(decode) < 2 * len(data) + 100_000
    assert Image.core.get_stats()["new_count"] == before


OVERSIZED = {
    "PNG": png(65_536, 1, 1, 0, chunk(b"IDAT", bytes(100))),
    "PNG area": png(10_001, 10_000, 8, 2, chunk(b"IDAT", bytes(400_000))),
    "largest PNG": png(2**31 - 1, 2**31 - 1, 1, 0, chunk(b"IDAT", bytes(9))),
    "WebP lossless": b"RIFF\x16\0\0\0WEBPVP8L\x05\0\0\0\x2f" + b"\xff" * 4 + bytes(5),
    "WebP extended": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6,
    "WebP of one colour": saved(Image.new("RGB", (2050, 2049)), "WEBP", lossless=True, method=0),
    "WebP lossy": b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0" + b"\0\0\0\x9d\x01\x2a" + b"\xff\x3f" * 2,
}


@pytest.mark.parametrize("data", OVERSIZED.values(), ids=OVERSIZED)
def test_forged_sizes_are_refused_without_allocating(data):
    before = Image.core.get_stats()["new_count"]

    def decode():
        with pytest.raises(ImageError, match="pixels"):
            decode_image_bytes(data)

    assert peak_bytes(decode) < 2 * len(data) + 100_000
    assert Image.core.get_stats()["new_count"] == before


@pytest.fixture(scope="module")
def zeros():
    """100 MB of zeros, compressed."""
    return zlib.compress(bytes(100_000_000), 1)


@pytest.mark.parametrize(
    ("kind", "head"),
    [(b"iCCP", b"profile\0\0"), (b"zTXt", b"text\0\0"), (b"iTXt", b"text\0\1\0\0\0")],
    ids=["profile", "text", "international text"],
)
def test_bombs_in_metadata_do_not_inflate(zeros, kind, head):
    data = grey_png([[1, 2]], before=[chunk(kind, head + zeros)])

    def decode():
        with pytest.raises(ImageError, match="damaged or truncated PNG"):
            decode_image_bytes(data)

    assert peak_bytes(decode) < 8_000_000


def test_a_webp_of_one_colour_is_read_up_to_four_megapixels():
    data = saved(Image.new("RGB", (2048, 2048), (9, 8, 7)), "WEBP", lossless=True, method=0)
    assert len(data) < 100
    assert decode_image_bytes(data)[[0, 2047], [0, 2047]].tolist() == [[9, 8, 7]] * 2


def test_limits_on_arrays_and_pillow_pictures():
    row = np.broadcast_to(np.uint8(0), (1, 65_536, 3))
    with pytest.raises(ImageTooLargeError, match="65536x1 pixels"):
        as_uint8(row)
    with pytest.raises(ImageTooLargeError, match="65536x1 pixels"):
        as_uint8(Image.new("L", (65_536, 1)))
    with pytest.raises(ImageTooLargeError, match=r"10001x10000 pixels; .* 100,000,000 in all"):
        as_uint8(np.broadcast_to(np.uint8(0), (10_000, 10_001)))
    assert as_uint8(np.zeros((1, 65_535), np.uint8)).shape == (1, 65_535, 1)


def test_caller_may_lower_the_limit():
    assert decode_image_bytes(WHOLE["PNG"], max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(ImageTooLargeError, match=r"30x20 pixels; .* and 599 in all"):
        decode_image_bytes(WHOLE["PNG"], max_pixels=599)


def test_files_that_would_keep_the_reader_busy_are_refused():
    data = WHOLE["progressive JPEG"]
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match=r"JPEG of 4[0-9] scans; at most 32"):
        decode_image_bytes(data[:scan] + data[scan:-2] * 40 + data[-2:])
    with pytest.raises(ImageError, match="JPEG of more than 65536 segments"):
        decode_image_bytes(b"\xff\xd8" + b"\xff\xfe\0\2" * 65_536 + data[2:])
    with pytest.raises(ImageError, match="PNG of more than 65536 chunks"):
        decode_image_bytes(grey_png([[1, 2]], before=[chunk(b"tEXt", b"")] * 65_536))
