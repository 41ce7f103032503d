"""Perceptual measures of decoded images, by the libraries that the field measures them with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hvae_codec.errors import MissingDependencyError

try:
    from pytorch_msssim import ms_ssim, ssim
except ImportError as error:
    raise MissingDependencyError(
        "MS-SSIM needs pytorch-msssim: pip install 'hvae-codec[peers]'"
    ) from error

Pixels = NDArray[np.uint8]

WINDOW = 11
SCALES = 5
SMALLEST_SIDE = (WINDOW - 1) * 2 ** (SCALES - 1) + 1
"""MS-SSIM of five scales needs images with sides of at least this many pixels."""

SSIMULACRA2_SIDE = 8 * 2**5 - 31
"""SSIMULACRA2 needs images whose sides, halved five times, rounded up, have 8 pixels at least.

Of smaller images it takes weights that were trained for other scales; its scores jump by 20.
"""

BATCH = 256


def similarity_name(pictures: Sequence[Pixels]) -> str:
    """ "MS-SSIM" where every image is large enough for its five scales, else "SSIM"."""
    smallest = min(min(picture.shape[:2]) for picture in pictures)
    return "MS-SSIM" if smallest >= SMALLEST_SIDE else "SSIM"


def has_ssimulacra2(pictures: Sequence[Pixels]) -> bool:
    """Whether all images are large enough for all scales of SSIMULACRA2, and it is installed."""
    large = all(min(picture.shape[:2]) >= SSIMULACRA2_SIDE for picture in pictures)
    return large and ssimulacra2_missing() is None


def ssimulacra2_missing() -> str | None:
    """Why SSIMULACRA2 cannot be measured here; None if it can."""
    if find_spec("ssimulacra2") is None:
        return "no module ssimulacra2 (pip install hvae-codec[peers])"
    return None


def similarities(
    references: Sequence[Pixels], decoded: Sequence[Pixels], name: str
) -> NDArray[np.float64]:
    """MS-SSIM or SSIM of each image uint8 [H, W, C], Gaussian window of 11 pixels, [N]."""
    measure = ms_ssim if name == "MS-SSIM" else ssim
    alike = len({picture.shape for picture in references}) == 1
    step = BATCH if alike and name == "SSIM" else 1  # one large image is batch enough
    groups = [slice(start, start + step) for start in range(0, len(references), step)]
    values = [
        measure(_planes(references[part]), _planes(decoded[part]), size_average=False)
        for part in groups
    ]
    return torch.cat(values).double().numpy()


def ssimulacra2(reference: Pixels, decoded: Pixels) -> float:
    """SSIMULACRA2 of an image uint8 [H, W, C]: 100 for an exact one, 90 visually lossless, 50 of
    medium quality (github.com/cloudinary/ssimulacra2). A grey image is measured as colour.
    """
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(_png(reference), _png(decoded)))


def _png(image: Pixels) -> io.BytesIO:
    """The library reads files."""
    buffer = io.BytesIO()
    colour = np.broadcast_to(image, (*image.shape[:2], 3))
    Image.fromarray(colour).save(buffer, "PNG", compress_level=0)
    buffer.seek(0)
    return buffer


def _planes(pictures: Sequence[Pixels]) -> torch.Tensor:
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).float()
