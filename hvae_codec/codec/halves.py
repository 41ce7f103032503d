"""The two halves of a codec, made of its checkpoint: where the model families part."""

from __future__ import annotations

from hvae_codec.codec.bitstream.conv_files import ConvFileCoder
from hvae_codec.codec.bitstream.files import FileCoder
from hvae_codec.codec.bitstream.tiled_files import TiledFileCoder
from hvae_codec.codec.checkpoint import Checkpoint, model_info
from hvae_codec.codec.entropy.context_tables import ContextTables
from hvae_codec.codec.fully_convolutional.transform import ConvTransform
from hvae_codec.codec.quality_scale import OperatingPoint, quality_number
from hvae_codec.codec.tiled.transform import TiledTransform
from hvae_codec.codec.transform import Transform
from hvae_codec.errors import CheckpointError, UnknownQualityError
from hvae_codec.models.hvae import HierarchicalVAE


def halves_of(checkpoint: Checkpoint) -> tuple[FileCoder, Transform, OperatingPoint]:
    """The half without networks, that with them, and the model's own operating point.

    Raises CheckpointError if the card of a model of many qualities states none of them.
    """
    model, info = checkpoint.model, model_info(checkpoint.card)
    _, height, width = model.spec.image_shape
    if isinstance(model, HierarchicalVAE):
        tables = checkpoint.of_one_size[1]
        tiled = TiledFileCoder(tables, checkpoint.model_id, (height, width))
        return tiled, TiledTransform(checkpoint, tiled, info.psnr_db), OperatingPoint()
    assert isinstance(checkpoint.tables, ContextTables)
    stride = model.spec.coarsest
    coder = ConvFileCoder(checkpoint.tables, checkpoint.model_id, (height, width), stride)
    return coder, ConvTransform(model, coder, info.name), OperatingPoint(_own_number(checkpoint))


def _own_number(checkpoint: Checkpoint) -> int:
    """The number of the quality that a card states as the model's own."""
    try:
        return quality_number(float(checkpoint.card["quality"]))
    except UnknownQualityError as error:
        raise CheckpointError(f"a checkpoint's card has a wrong quality: {error}") from error
