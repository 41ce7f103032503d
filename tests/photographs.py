"""scikit-learn's two photographs, read without importing it: that takes seconds."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.sample_photographs import sample_photographs


@functools.cache
def _pixels(name: str) -> NDArray[np.uint8]:
    (path,) = (path for path in sample_photographs() if path.name == name)
    pixels = np.asarray(Image.open(path))
    pixels.flags.writeable = False
    return pixels


def load_sample_image(name: str) -> NDArray[Any]:
    """As `sklearn.datasets.load_sample_image`: uint8 [427, 640, 3] of china.jpg or flower.jpg."""
    return _pixels(name).copy()


def two_crops():
    """Two crops of 48x40 pixels (width x height): two by two tiles, the lower ones padded."""
    return [
        load_sample_image(name)[200:240, 300:348].copy() for name in ("china.jpg", "flower.jpg")
    ]
