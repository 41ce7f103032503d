"""What a model's reconstructions and samples look like: strips of eight images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hvae_codec.evaluation.rows import mean_picture, model_input
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.inference import inference
from hvae_codec.utils.atomic_files import write_atomically

SHOWN = 8
ORIGINALS = "originals.webp"


@inference
def write_strip(
    path: Path, model: HierarchicalVAE, images: NDArray[np.uint8], *, seed: int = 0
) -> None:
    """Lossless WebP: above, reconstructions of the first SHOWN test images [N, H, W, C] through the
    modes; below, as many samples from the prior. Where `originals.webp` is not beside it, it is
    written too: the same images as the model takes them.
    """
    x = model_input(model, images[:SHOWN])
    modes = [mean for mean, _ in model.posteriors(x)]
    samples = model.sample_latents(SHOWN, seed=seed)
    rows = [_strip(mean_picture(model, model.decode(latents))) for latents in (modes, samples)]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _webp(np.concatenate(padded)))
    originals = path.with_name(ORIGINALS)
    if not originals.exists():
        write_atomically(originals, _webp(_strip(x)))


def _strip(pictures: Tensor) -> NDArray[np.uint8]:
    """Images [N, C, H, W] in [0, 1] side by side, uint8 [H, N W, C]."""
    levels = (pictures * 255.0).round().to(torch.uint8)
    count, channels, height, width = levels.shape
    return levels.permute(2, 0, 3, 1).reshape(height, count * width, channels).numpy()


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.convert("RGB").save(buffer, "WEBP", lossless=True, method=4)
    return buffer.getvalue()
