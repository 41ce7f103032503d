"""A checkpoint of integers made of one of floats, calibrated and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.checkpoint import (
    Checkpoint,
    check_replaces,
    make_checkpoint,
    save_checkpoint,
)
from hvae_codec.codec.codec import Codec
from hvae_codec.data import ImageDataset
from hvae_codec.errors import CheckpointError
from hvae_codec.evaluation.calibrate import CALIBRATION_IMAGES
from hvae_codec.evaluation.card_figures import measure_codec, measure_qualities
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.integer.convert import to_integers
from hvae_codec.models.integer.model import Arithmetic


def quantised(
    checkpoint: Checkpoint,
    calibration: ImageDataset,
    test: ImageDataset,
    *,
    count: int,
    arithmetic: Arithmetic,
    name: str | None,
    path: Path,
    replace: bool = False,
) -> Checkpoint:
    """The integer model of a fully convolutional one, written to `path` (.safetensors).

    The tables are those of the float model: its symbols are nearly the same.

    Args:
        checkpoint: the float model.
        calibration: images that tell how large activations become; `count` of them are used.
        test: images that the card's measurements are of.
        count: as said.
        arithmetic: that of the integers.
        name: of the model in its card; None: as before.
        path: where the checkpoint and its card go.
        replace: whether a checkpoint of another id at `path` is overwritten.

    Raises:
        CheckpointError: the model is not a fully convolutional one of floats, or `path` holds
            another.
        SpecError: its numbers of channels are odd, or it has numbers that are not finite.
    """
    model = checkpoint.model
    if not isinstance(model, ConvVAE):
        raise CheckpointError(
            f"model {checkpoint.card.get('name')!r} cannot become one of integers: that takes a "
            "fully convolutional model of floats"
        )
    chosen = np.linspace(0, len(calibration.images) - 1, count).astype(int)
    images = [calibration.images[index] for index in np.unique(chosen)]
    integer = to_integers(model, images, arithmetic, extreme_images(model.spec.image_shape[1:]))
    card: dict[str, Any] = {
        key: value
        for key, value in checkpoint.card.items()
        if key not in {"format", "sha256", "posterior", "spec", "measured", "qualities"}
    }
    card["name"] = card["name"] if name is None else name
    card["float_model"] = {
        "sha256": checkpoint.card["sha256"],
        "calibration": f"{calibration.name} {calibration.split}",
        "images": len(images),
    }
    made = make_checkpoint(integer, checkpoint.tables, card)
    if not replace:
        check_replaces(path, made)
    codec = Codec(made)
    card["measured"] = measure_codec(codec, test.images)
    card["qualities"] = measure_qualities(codec, test.images[:CALIBRATION_IMAGES])
    return save_checkpoint(path, integer, checkpoint.tables, card, replace=replace)


def extreme_images(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Images uint8 [H, W, 3] of more contrast than photographs have, for ranges to hold them.

    They are noise of all levels, noise of black and white, and chequers of several sizes.
    """
    generator = np.random.default_rng(0)
    height, width = size
    levels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    extremes = generator.integers(0, 2, (height, width, 3), dtype=np.uint8) * np.uint8(255)
    rows, columns = np.indices(size)
    chequers = [
        np.repeat((((rows // side + columns // side) % 2) * 255)[:, :, None], 3, axis=2)
        for side in (1, 2, 4, 8, 16)
    ]
    return [levels, extremes, *(one.astype(np.uint8) for one in chequers)]
