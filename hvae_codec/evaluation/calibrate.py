"""What a codec's bytes and PSNR become over the range of its encoder's trade."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.tiled.quality_interpolation import EFFORT, TRADES
from hvae_codec.evaluation.metrics.psnr import mean_psnr_db, squared_error_each
from hvae_codec.utils.progress import progress

CALIBRATION_IMAGES = 1024
"""Images that a card's calibration is measured on: all quality levels of a model family on the same
ones.
"""


def calibrate_codec(codec: Codec, images: NDArray[np.uint8]) -> dict[str, Any]:
    """The `calibration` of a card (`hvae_codec.codec.tiled.quality_interpolation`), measured on
    images uint8 [N, H, W, C] of the model's size: mean payload bytes and PSNR at effort 1, a
    value per trade.

    The PSNR is the mean over the images (`hvae_codec.evaluation.metrics.psnr.PSNR_RULE`).

    Raises:
        CheckpointError: the model is fully convolutional, and has no trade to measure.
    """
    _ = codec.checkpoint.of_one_size  # which raises it
    sizes, decibels = [], []
    for trade in progress("calibrating", TRADES, unit="trades", leave=False):
        size, psnr = measure_trade(codec, images, EFFORT, trade)
        sizes.append(round(size, 4))
        decibels.append(round(psnr, 4))
    return {
        "effort": EFFORT,
        "images": len(images),
        "trade": list(TRADES),
        "payload_bytes": sizes,
        "psnr_db": decibels,
    }


def measure_trade(
    codec: Codec, images: NDArray[np.uint8], effort: int, trade: float
) -> tuple[float, float]:
    """Mean payload bytes and mean PSNR in dB of images coded as single records."""
    blobs = codec.encode_batch(images, effort=effort, trade=trade)
    size = float(np.mean([len(blob) - parse(blob).payload_at for blob in blobs]))
    error = squared_error_each(codec.reference(images), np.asarray(codec.decode_batch(blobs)))
    return size, mean_psnr_db(error, images[0].size)
