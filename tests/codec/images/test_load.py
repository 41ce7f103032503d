"""Pictures in and out: values that another reader agrees on, and every way to be refused."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from hvae_codec.codec.images.load import (
    FORMATS,
    as_batch,
    as_uint8,
    decode_image_bytes,
    encode_png,
    picture_size,
)
from hvae_codec.errors import AlphaError, HvaeCodecError, ImageError, ImageTooLargeError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(height=20, width=30, channels=3, seed=0):
    """A smooth picture with some noise, so that every format has something to code."""
    y, x = np.mgrid[:height, :width]
    planes = [60 + 4 * x + 2 * y, 200 - 3 * x + y, 40 + 5 * y][:channels]
    noise = np.random.default_rng(seed).normal(0, 4, (height, width, channels))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, bits, colour, *chunks):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return SIGNATURE + b"".join([chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


def grey_png(rows, bits=8, *, before=()):
    """PNG written byte by byte from the specification: grey, filter type 0 in every row."""
    raw = b"".join(b"\0" + bytes(row) for row in rows)
    width = len(rows[0]) * 8 // bits
    return png(width, len(rows), bits, 0, *before, chunk(b"IDAT", zlib.compress(raw)))


def peak_bytes(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# What is accepted


def test_png_written_from_the_specification_is_read_to_its_values():
    assert decode_image_bytes(grey_png([[0, 127, 255], [1, 2, 3]])).tolist() == [
        [[0], [127], [255]],
        [[1], [2], [3]],
    ]


def test_one_bit_picture_becomes_black_and_white_grey():
    decoded = decode_image_bytes(grey_png([[0b10100000]], bits=1))
    assert decoded[..., 0].tolist() == [[255, 0, 255, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "ppm", "npy"])
def test_the_size_of_a_file_is_that_of_its_picture(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, picture())
    else:
        Image.fromarray(picture()).save(path)
    assert picture_size(path) == as_uint8(path).shape[:2] == (20, 30)
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="not a PNG"):
        picture_size(path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (32, 32), (61, 45)])
def test_png_round_trip(size, channels):
    pixels = picture(*size, channels)
    decoded = decode_image_bytes(encode_png(pixels))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


def test_lossless_webp_round_trip_and_jpeg_as_pillow_reads_it():
    pixels = picture()
    webp = saved(Image.fromarray(pixels), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode_image_bytes(webp), pixels)
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        jpeg = saved(Image.fromarray(pixels), "JPEG", quality=90, **options)
        reference = np.asarray(Image.open(io.BytesIO(jpeg)))
        np.testing.assert_array_equal(decode_image_bytes(jpeg), reference)
        assert np.abs(reference.astype(int) - pixels).mean() < 5
    grey = saved(Image.fromarray(pixels[..., 0]), "JPEG")
    assert decode_image_bytes(grey).shape == (20, 30, 1)


def test_every_kind_of_picture_gives_the_same_array(tmp_path):
    pixels = picture()
    path = tmp_path / "picture.png"
    path.write_bytes(encode_png(pixels))
    kinds = [
        pixels,
        np.asfortranarray(pixels),
        Image.fromarray(pixels),
        Image.open(path),
        path,
        str(path),
        torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
    ]
    for kind in kinds:
        taken = as_uint8(kind)
        np.testing.assert_array_equal(taken, pixels)
        assert taken.flags.c_contiguous
    grey = pixels[..., 0]
    for kind in (grey, grey[..., None], Image.fromarray(grey), torch.tensor(grey)[None]):
        np.testing.assert_array_equal(as_uint8(kind), grey[..., None])


def test_palette_becomes_rgb():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode_image_bytes(saved(image, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]


# Rows of the picture [[1, 2, 3], [4, 5, 6]] as stored, and as EXIF 2.32 (tag 0x0112) shows it.
ORIENTED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.repeat(np.array(ORIENTED[1], np.uint8)[..., None], 3, 2))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(stored, kind, exif=exif, **options)
    assert decode_image_bytes(data)[..., 0].tolist() == ORIENTED[orientation]


OPERATIONS = {
    "rotate": lambda image: image.rotate(90, expand=True),
    "transpose": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "flip": ImageOps.mirror,
    "convert": lambda image: image.convert("L"),
    "copy": lambda image: image.copy(),
    "crop": lambda image: image.crop((0, 0, 2, 2)),
    "exif_transpose": ImageOps.exif_transpose,
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_pillow_made_of_an_opened_image_is_taken_as_it_is(operation, kind):
    """As Pillow's own `save` writes it: its pixels, and no orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(picture()), kind, exif=exif)
    made = operation(Image.open(io.BytesIO(data)))
    kept = Image.open(io.BytesIO(saved(made, "PNG")))
    assert 0x0112 not in kept.getexif()
    pixels = np.asarray(kept)
    np.testing.assert_array_equal(as_uint8(made).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_what_pillow_opened_is_turned_as_exif_says_once(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(picture()), kind, exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert shown.shape == (30, 20, 3)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(as_uint8(opened), shown)
    ImageOps.exif_transpose(opened, in_place=True)
    np.testing.assert_array_equal(as_uint8(opened), shown)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_taken_as_absent():
    body = b"MM\0*\xff\xff\xff\xff"
    data = grey_png([[5, 6]], before=[chunk(b"eXIf", body)])
    assert decode_image_bytes(data)[..., 0].tolist() == [[5, 6]]


def test_batches():
    pixels = np.stack([picture(seed=seed) for seed in range(3)])
    tensor = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    mixed = [pixels[0], Image.fromarray(pixels[1]), torch.from_numpy(pixels[2]).permute(2, 0, 1)]
    for batch in (pixels, tensor, mixed, iter(mixed)):
        np.testing.assert_array_equal(np.stack(as_batch(batch)), pixels)
    assert [p.shape for p in as_batch([pixels[0], pixels[1, :5, :, 0]])] == [
        (20, 30, 3),
        (5, 30, 1),
    ]
    assert as_batch([]) == []


# What is refused


def rgba():
    return Image.new("RGBA", (4, 4), (1, 2, 3, 255))


def transparent_palette():
    image = Image.new("P", (4, 4))
    image.putpalette([10, 20, 30])
    return image


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


WHOLE = {
    "PNG": saved(Image.fromarray(picture()), "PNG"),
    "JPEG": saved(Image.fromarray(picture()), "JPEG"),
    "progressive JPEG": saved(Image.fromarray(picture()), "JPEG", progressive=True),
    "WebP": saved(Image.fromarray(picture()), "WEBP"),
    "lossless WebP": saved(Image.fromarray(picture()), "WEBP", lossless=True),
}

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


# Sizes and bombs


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


@pytest.mark.parametrize(
    "part",
    [
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(100_000_000))),
        chunk(b"zTXt", b"text\0\0" + zlib.compress(bytes(100_000_000))),
        chunk(b"iTXt", b"text\0\1\0\0\0" + zlib.compress(bytes(100_000_000))),
    ],
    ids=["profile", "text", "international text"],
)
def test_bombs_in_metadata_do_not_inflate(part):
    data = grey_png([[1, 2]], before=[part])

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


# Anything at all


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


@settings(max_examples=600, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_FILE)
def test_any_bytes_give_a_picture_or_an_error_of_the_library(data):
    try:
        decoded = decode_image_bytes(data)
    except HvaeCodecError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3
    assert decoded.shape[2] in (1, 3)
    assert decoded.size > 0


def test_formats_are_stated():
    assert FORMATS == ("PNG", "JPEG", "WEBP")
