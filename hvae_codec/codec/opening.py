"""The codec of a checkpoint, whichever kind of model it holds."""

from __future__ import annotations

from hvae_codec.codec.checkpoint import Checkpoint
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.fully_convolutional.codec import MapCodec
from hvae_codec.models.fully_convolutional.model import MapVAE


def open_codec(checkpoint: Checkpoint) -> Codec:
    """The codec of a loaded checkpoint.

    Raises:
        CheckpointError: its card lacks a field or has a wrong one.
    """
    return MapCodec(checkpoint) if isinstance(checkpoint.model, MapVAE) else Codec(checkpoint)
