"""What the main job shows: a line of its table for each image, and its contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hvae_codec.evaluation.metrics.psnr import psnr_db

PART = (312, 208)
"""Width and height, in pixels, of the part of a photograph that is shown, as it is."""

CELL = 96
"""Side, in pixels, of a small image: three for each of its own."""

SMALL_A_LINE = 4
_GAP, _LABEL = 8, 16
_WIDTH = 4 * (PART[0] + _GAP) + _GAP

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class WebP:
    """A WebP file's image and size."""

    decoded: Pixels
    file_bytes: int


@dataclass(frozen=True)
class Row:
    """One image on its way through the server; a photograph, and it alone, with the WebP file of
    equal bytes.
    """

    name: str
    model: str
    original: Pixels
    decoded: Pixels
    preview: Pixels
    payload_bytes: int
    file_bytes: int
    milliseconds: float
    webp: WebP | None

    def line(self) -> str:
        """A line of the table under HEADING."""
        height, width = self.original.shape[:2]
        bits = 8 * self.file_bytes / (width * height)
        webp = "-" if self.webp is None else f"{psnr_db(self.original, self.webp.decoded):.2f}"
        return (
            f"{self.name:<14} {self.model:<8} {f'{width}x{height}':>9} {self.payload_bytes:>9}"
            f" {self.file_bytes:>8} {bits:>10.3f} {psnr_db(self.original, self.decoded):>8.2f}"
            f" {webp:>8} {self.milliseconds:>8.1f}"
        )


HEADING = (
    f"{'image':<14} {'model':<8} {'size':>9} {'payload B':>9} {'file B':>8} {'bits/pixel':>10}"
    f" {'PSNR dB':>8} {'WebP dB':>8} {'ms':>8}"
)


def contact_sheet(rows: Sequence[Row], samples: Pixels) -> Image.Image:
    """Photographs, one a line: original, reconstruction, WebP of equal bytes, top layer alone.
    Below them small images, and below these the samples [n, h, w, C], enlarged without smoothing.
    """
    large = [row for row in rows if row.webp is not None]
    small = [row for row in rows if row.webp is None]
    parts = [_photograph(row) for row in large]
    lines = [small[at : at + SMALL_A_LINE] for at in range(0, len(small), SMALL_A_LINE)]
    parts += [_small_line(line) for line in lines] + [_sample_line(samples)]
    sheet = Image.new("RGB", (_WIDTH, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _photograph(row: Row) -> Image.Image:
    assert row.webp is not None
    cells = [
        (row.original, f"{row.name}, original (a part)"),
        (row.decoded, _measured(row, row.decoded, row.file_bytes, "reconstruction")),
        (
            row.webp.decoded,
            _measured(row, row.webp.decoded, row.webp.file_bytes, "WebP, equal bytes"),
        ),
        (row.preview, "top layer alone"),
    ]
    width, height = PART
    line = Image.new("RGB", (_WIDTH, _LABEL + height + _GAP), "white")
    draw = ImageDraw.Draw(line)
    for column, (pixels, caption) in enumerate(cells):
        left = _GAP + column * (width + _GAP)
        draw.text((left, 2), caption, "black")
        y, x = ((side - cut) // 2 for side, cut in zip(pixels.shape, (height, width), strict=False))
        part = pixels[max(0, y) : max(0, y) + height, max(0, x) : max(0, x) + width]
        line.paste(Image.fromarray(part), (left, _LABEL))
    return line


def _measured(row: Row, pixels: Pixels, file_bytes: int, name: str) -> str:
    return f"{name}: {file_bytes} bytes, {psnr_db(row.original, pixels):.2f} dB"


def _small_line(rows: Sequence[Row]) -> Image.Image:
    line = Image.new("RGB", (_WIDTH, 2 * _LABEL + CELL + _GAP), "white")
    draw = ImageDraw.Draw(line)
    block = 3 * (CELL + _GAP) + _GAP
    for place, row in enumerate(rows):
        left = _GAP + place * block
        shown = (("original", row.original), ("decoded", row.decoded), ("z2 alone", row.preview))
        for column, (title, pixels) in enumerate(shown):
            at = left + column * (CELL + _GAP)
            draw.text((at, 2), title, "black")
            line.paste(_enlarged(pixels, CELL), (at, _LABEL))
        caption = _measured(row, row.decoded, row.file_bytes, row.name)
        draw.text((left, _LABEL + CELL + 1), caption, "black")
    return line


def _sample_line(samples: Pixels) -> Image.Image:
    line = Image.new("RGB", (_WIDTH, _LABEL + CELL + _GAP), "white")
    ImageDraw.Draw(line).text((_GAP, 2), "samples from the prior", "black")
    for place, pixels in enumerate(samples):
        line.paste(_enlarged(pixels, CELL), (_GAP + place * (CELL + _GAP), _LABEL))
    return line


def _enlarged(pixels: Pixels, side: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.NEAREST)
