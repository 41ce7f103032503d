"""How good an image is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

PEAK = 255.0

PSNR_RULE = (
    "mean over images of PSNR in dB; an unchanged image counts as off by one level in one sample"
)
"""What every PSNR of several images is, here and in benchmarks: `mean_psnr_db`."""


def psnr_db(reference: NDArray[np.uint8], picture: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of one 8-bit image against its reference, in dB; inf if equal.

    Both uint8 of one shape; 10 log10(255^2 / MSE) over all pixels and channels.

    Raises:
        ValueError: the shapes differ.
    """
    return float(psnr_each_db(reference[None], picture[None])[0])


def psnr_of_strips(pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> float:
    """`psnr_db` of an image whose strips come in pairs, those of the reference first.

    Raises:
        ValueError: the shapes of a pair differ.
    """
    total, samples = 0.0, 0
    for reference, strip in pairs:
        total += float(squared_error_each(reference[None], strip[None])[0]) * strip.size
        samples += strip.size
    return float(psnr_of(np.float64(total / samples)))


def squared_error_each(
    references: NDArray[np.uint8], pictures: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Mean squared error of each image of a batch uint8 [N, ...], in squared grey levels, [N].

    Raises:
        ValueError: the shapes differ.
    """
    if references.shape != pictures.shape:
        raise ValueError(
            f"images {pictures.shape} do not have the references' shape {references.shape}"
        )
    difference = references.astype(np.int32) - pictures.astype(np.int32)
    means: NDArray[np.float64] = np.square(difference).reshape(len(difference), -1).mean(axis=1)
    return means


def psnr_of(squared_error: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """10 log10(255^2 / MSE) in dB; inf where the error is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(PEAK**2 / squared_error))


def bounded_psnr_db(
    squared_error: NDArray[np.float64], samples: int | NDArray[np.int64]
) -> NDArray[np.float64]:
    """PSNR of each image as a mean counts it, float64 [N], in dB: never infinite.

    Args:
        squared_error: mean squared errors in squared grey levels, [N].
        samples: of an image, or of each: an error counts as that of one sample by one level at the
            least, so a better image never makes a mean lower.
    """
    return psnr_of(np.maximum(squared_error, 1.0 / np.asarray(samples)))


def mean_psnr_db(squared_error: NDArray[np.float64], samples: int | NDArray[np.int64]) -> float:
    """PSNR of several images by PSNR_RULE, in dB; arguments as `bounded_psnr_db` takes them."""
    return float(bounded_psnr_db(squared_error, samples).mean())


def psnr_each_db(references: NDArray[np.uint8], pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """PSNR of each image of a batch uint8 [N, ...], float64 [N], in dB; inf where equal.

    Raises:
        ValueError: the shapes differ.
    """
    return psnr_of(squared_error_each(references, pictures))
