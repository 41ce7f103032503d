"""What a codec's card reports: real bytes, information content, Eq. 7's rates and PSNR."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.quality_scale import MAX_NUMBER
from hvae_codec.evaluation.metrics.psnr import mean_psnr_db, squared_error_each
from hvae_codec.evaluation.rows import run_passes
from hvae_codec.models.build import Model
from hvae_codec.models.hvae import noise_seed
from hvae_codec.models.inference import inference
from hvae_codec.models.integer.model import IntegerConvVAE
from hvae_codec.models.likelihoods import dtype_of
from hvae_codec.models.plane import BetaRanges, PlaneVAE
from hvae_codec.utils.progress import progress

BATCH = 256

QUALITIES = (1.0, 10.0, 25.0, 50.0, 75.0, 100.0)
"""Those that the card of a fully convolutional model has figures of."""


def measure_codec(codec: Codec, images: NDArray[np.uint8], *, seed: int = 0) -> dict[str, Any]:
    """Means over images uint8 [N, H, W, C] of the model's size, each coded as a record.

    `payload_bytes` excludes the header and `file_bytes` includes it; `information_bytes` is the
    content of the same symbols under the tables, per layer and in total. `rates_nats` are the rates
    of Eq. 7 per layer, top first; of an integer model, which draws no samples, that content in
    nats. `psnr_db` is the mean over images of the PSNR of the decoded 8-bit image
    (`quality.PSNR_RULE`), `exact_images` the share of those that are unchanged.
    """
    number = codec.point.number
    share = None if number is None else number / MAX_NUMBER
    file_sizes, payload_sizes, bits, errors = [], [], [], []
    starts = range(0, len(images), BATCH)
    for start in progress("measuring", starts, unit="batches", leave=False):
        batch = images[start : start + BATCH]
        blobs = codec.encode_batch(batch)
        file_sizes += [len(blob) for blob in blobs]
        payload_sizes += [len(blob) - parse(blob).payload_at for blob in blobs]
        bits.append(codec.information_bits(batch))
        decoded = np.asarray(codec.decode_batch(blobs))
        errors.append(squared_error_each(codec.reference(batch), decoded))
    error = np.concatenate(errors)
    exact = float((error == 0).mean())
    layer_bytes = np.concatenate(bits).mean(axis=0) / 8.0
    if isinstance(codec.model, IntegerConvVAE):  # has no samples, only what is coded
        rates = list(layer_bytes * 8.0 * math.log(2.0))
    else:
        rates = rates_nats(codec.model, images, seed=seed, share=share)
    return {
        "images": len(images),
        "payload_bytes": round(float(np.mean(payload_sizes)), 4),
        "file_bytes": round(float(np.mean(file_sizes)), 4),
        "information_bytes": round(float(layer_bytes.sum()), 4),
        "information_bytes_per_layer": [round(float(value), 4) for value in layer_bytes],
        "psnr_db": round(mean_psnr_db(error, images[0].size), 4),
        "exact_images": round(exact, 6),
        "rates_nats": [round(rate, 4) for rate in rates],
    }


def measure_qualities(codec: Codec, images: NDArray[np.uint8]) -> list[dict[str, float]]:
    """Mean bits a pixel of whole files, and mean PSNR, at each of QUALITIES of a fully
    convolutional model.
    """
    rows = []
    pixels = images.shape[1] * images.shape[2]
    for quality in progress("measuring", QUALITIES, unit="qualities", leave=False):
        at = codec.at_quality(quality)
        blobs = at.encode_batch(images)
        error = squared_error_each(images, np.asarray(at.decode_batch(blobs)))
        rows.append(
            {
                "quality": quality,
                "bits_per_pixel": round(8 * float(np.mean([len(b) for b in blobs])) / pixels, 5),
                "psnr_db": round(mean_psnr_db(error, images[0].size), 4),
            }
        )
    return rows


def measure_plane(
    model: PlaneVAE, images: NDArray[np.uint8], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Rates, PSNR and loss of a model for a range of betas at some of them, means over images.

    These are the middle of the ranges, their two ends, and for each layer its greatest beta with
    the least ones of all others. The loss is that of Eq. 8 in nats, above that of an exact image.
    """
    least = model.likelihood.least_nats(math.prod(model.spec.image_shape))
    rows = []
    for betas in _some_betas(model.ranges):
        passes = run_passes(model.at(betas), images, seed=seed)
        loss = passes.distortion_nats - least + float(np.dot(betas, passes.rates_nats))
        rows.append(
            {
                "betas": list(betas),
                "rates_nats": [round(float(rate), 4) for rate in passes.rates_nats],
                "psnr_db": round(passes.psnr_modes_db, 4),
                "loss_nats": round(loss, 4),
            }
        )
    return rows


def _some_betas(ranges: BetaRanges) -> list[tuple[float, ...]]:
    lows, highs = zip(*ranges, strict=True)
    middle = tuple(math.sqrt(low * high) for low, high in ranges)
    one_high = [(*lows[:i], high, *lows[i + 1 :]) for i, high in enumerate(highs)]
    return list(dict.fromkeys([lows, *one_high, middle, highs]))


@inference
def rates_nats(
    model: Model, images: NDArray[np.uint8], *, seed: int = 0, share: float | None = None
) -> list[float]:
    """Mean rate of each layer (Eq. 7), nats per image, top first; one posterior sample an image.

    share: for a fully convolutional model, its quality in [0, 1]; by default all of them.
    """
    device = next(model.parameters()).device
    total = torch.zeros(len(model.spec.latents), dtype=torch.float64, device="cpu")
    for index, start in enumerate(range(0, len(images), BATCH)):
        chunk = torch.from_numpy(images[start : start + BATCH]).to(device)
        x = model.likelihood.pixels(chunk.permute(0, 3, 1, 2), dtype_of(model))
        of_all = torch.full((len(x),), share or 0.0, dtype=torch.float32, device=device)
        options = {} if share is None else {"qualities": of_all}
        outcome = model(x, seed=noise_seed(seed, index), **options)
        total += outcome.rates_nats.sum(dim=0).double().cpu()
    return [float(value) for value in total / len(images)]
