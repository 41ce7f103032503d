"""Images that commands write: decoded ones, and sheets of samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hvae_codec.cli.common import output_file
from hvae_codec.cli.jobs.batches import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.codec.images.strips import Strips

    Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = (".png", ".ppm", ".pgm")
"""Endings of the names that `write_image` goes by."""

COLUMNS = 8
"""Images in a row of a sheet."""


def whole(picture: Pixels) -> Strips:
    """An image in one strip."""
    from hvae_codec.codec.images.strips import Strips

    height, width, channels = picture.shape
    return Strips(height, width, channels, iter([picture]))


def write_image(path: Path, picture: Strips) -> None:
    """As a PPM or PGM if the name says so, else as a PNG; large images strip by strip."""
    from hvae_codec.codec.images.load import encode_png
    from hvae_codec.codec.images.strips import PNM_SUFFIXES, write_png, write_ppm

    with output_file(path) as file:
        if path.suffix.lower() in PNM_SUFFIXES:
            write_ppm(file, picture)
        elif picture.height * picture.width >= MAX_PIXELS:
            write_png(file, picture)
        else:
            import numpy as np

            file.write(encode_png(np.concatenate(list(picture.rows))))


def check_sheet(count: int, image_shape: tuple[int, int, int]) -> None:
    """Refuse a sheet of so many images that is too large, before they are drawn."""
    from hvae_codec.codec.images.limits import check_size

    _, height, width = image_shape
    check_size(width * min(count, COLUMNS), height * -(-count // COLUMNS))


def sheet(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images [N, h, w, C] side by side, COLUMNS to a row, unused places white."""
    import numpy as np

    count, height, width, channels = pictures.shape
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    sheet = np.full((rows * columns, height, width, channels), 255, dtype=np.uint8)
    sheet[:count] = pictures
    grid = sheet.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)
