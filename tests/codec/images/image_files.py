"""Image files for tests: as Pillow writes them, and PNGs written byte by byte."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

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


def rgba():
    return Image.new("RGBA", (4, 4), (1, 2, 3, 255))


def transparent_palette():
    image = Image.new("P", (4, 4))
    image.putpalette([10, 20, 30])
    return image


WHOLE = {
    "PNG": saved(Image.fromarray(picture()), "PNG"),
    "JPEG": saved(Image.fromarray(picture()), "JPEG"),
    "progressive JPEG": saved(Image.fromarray(picture()), "JPEG", progressive=True),
    "WebP": saved(Image.fromarray(picture()), "WEBP"),
    "lossless WebP": saved(Image.fromarray(picture()), "WEBP", lossless=True),
}
