"""The strips of images that `hvae-codec evaluate` writes beside its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.images.load import decode_image_bytes
from hvae_codec.errors import EvaluationError, ImageError
from hvae_codec.reporting.results import PICTURES

Strip = NDArray[np.uint8]


def read_strip(path: Path, rows: int) -> list[Strip]:
    """The rows of a strip, each uint8 [H, 8 W, C]: reconstructions, then samples; or the originals.

    Raises:
        EvaluationError: it is no image, or not of so many rows of eight images.
    """
    try:
        picture = decode_image_bytes(path.read_bytes())
    except ImageError as error:
        raise EvaluationError(f"{path}: {error}") from error
    height, width = picture.shape[:2]
    if height % rows or width % PICTURES:
        raise EvaluationError(
            f"{path} is {width}x{height} pixels, not {rows} rows of {PICTURES} images"
        )
    return list(np.split(picture, rows))


def folded(strip: Strip) -> Strip:
    """A row of eight images as two rows of four, uint8 [2 H, 4 W, C]."""
    return np.concatenate(np.split(strip, 2, axis=1))
