"""Points of whole curves: our models at each quality and effort, and peers at each setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import hvae_codec
from hvae_codec.codec.tiled.tiling import split
from hvae_codec.evaluation.card_figures import rates_nats
from hvae_codec.evaluation.rate_distortion.peers import Peer, Setting
from hvae_codec.evaluation.rate_distortion.points import (
    QUALITIES,
    Coded,
    Pixels,
    Row,
    code_ours,
    code_peer,
    joined,
    point,
)
from hvae_codec.utils.progress import progress

BATCH = 256


def coded_by_ours(codec: hvae_codec.Codec, pictures: Sequence[Pixels], effort: int) -> Coded:
    """Single files, coded in batches of 256 images where one tile is an image."""
    step = BATCH if _tile_each(codec, pictures) else 1
    batches = [pictures[start : start + step] for start in range(0, len(pictures), step)]
    codec.decode(codec.encode(pictures[0], effort=effort))  # whatever is prepared once
    label = f"quality {getattr(codec, 'quality', codec.info.quality):g}, effort {effort}"
    return joined(
        code_ours(codec, batch, effort)
        for batch in progress(label, batches, unit="batches", leave=False)
    )


def coded_by_peer(peer: Peer, pictures: Sequence[Pixels], setting: Setting) -> Coded:
    """A peer's files, image by image."""
    label = peer.name if setting is None else f"{peer.name} {setting}"
    return code_peer(peer, progress(label, pictures, unit="images", leave=False), setting)


def our_points(model: str, pictures: Sequence[Pixels], efforts: Sequence[int]) -> list[Row]:
    """Every quality level of a model family at every effort, or a model of many qualities at some
    of them.

    Besides what `point` gives: `information_bytes`, the content of the symbols that were coded
    under the tables; of a model family `rates_nats`, the rates of Eq. 7 per layer, top first, and
    `elbo_bytes`, their sum in bytes: all per image.
    """
    rows = []
    infos = [info for info in hvae_codec.models() if info.name == model]
    if infos[0].continuous:
        return [_conv_point(model, quality, pictures) for quality in QUALITIES]
    levels = [info.quality for info in infos]
    for quality in progress("our qualities", levels, leave=False):
        codec = hvae_codec.load(model, quality)
        tiles = _tiles(codec, pictures)
        rates = np.array(rates_nats(codec.checkpoint.of_one_size[0], tiles))
        rates *= len(tiles) / len(pictures)
        for effort in efforts:
            coded = coded_by_ours(codec, pictures, effort)
            row = {"quality": quality, "effort": effort, "model_id": codec.info.model_id}
            row |= point(pictures, coded)
            if effort == 0 and _tile_each(codec, pictures):
                row["block_file_bytes"] = round(_block_bytes(codec, pictures), 4)
            row["information_bytes"] = round(_information_bytes(codec, coded.blobs), 4)
            row["rates_nats"] = [round(float(rate), 4) for rate in rates]
            row["elbo_bytes"] = round(float(rates.sum() / np.log(2.0) / 8.0), 4)
            rows.append(row)
    return rows


def _conv_point(model: str, quality: int, pictures: Sequence[Pixels]) -> Row:
    codec = hvae_codec.load(model, quality)
    row = {"quality": quality, "effort": 0, "model_id": codec.info.model_id}
    row |= point(pictures, coded_by_ours(codec, pictures, 0))
    layers = np.mean([codec.information_bits([picture])[0] for picture in pictures], axis=0) / 8.0
    row["information_bytes"] = round(float(layers.sum()), 4)
    row["information_bytes_per_layer"] = [round(float(size), 4) for size in layers]
    return row


def peer_points(peer: Peer, pictures: Sequence[Pixels]) -> list[Row]:
    """A peer at each of its settings."""
    return [
        {"setting": setting, **point(pictures, coded_by_peer(peer, pictures, setting))}
        for setting in progress(peer.name, peer.settings, leave=False)
    ]


def _tiles(codec: hvae_codec.Codec, pictures: Sequence[Pixels]) -> Pixels:
    channels, height, width = codec.model.spec.image_shape
    parts = [split(picture, (height, width)) for picture in pictures]
    tiles: Pixels = np.concatenate(parts)
    assert tiles.shape[3] == channels
    return tiles


def _information_bytes(codec: hvae_codec.Codec, blobs: list[bytes]) -> float:
    """Mean content of the files' symbols under the tables, in bytes an image."""
    _, tables = codec.checkpoint.of_one_size
    total = 0.0
    for start in range(0, len(blobs), BATCH):
        total += float(tables.information_bits(codec.symbols(blobs[start : start + BATCH])).sum())
    return total / 8.0 / len(blobs)


def _tile_each(codec: hvae_codec.Codec, pictures: Sequence[Pixels]) -> bool:
    """Whether one tile is an image."""
    tile = codec.model.spec.image_shape[1:]
    return all(picture.shape[:2] == tile for picture in pictures)


def _block_bytes(codec: hvae_codec.Codec, pictures: Sequence[Pixels]) -> float:
    """Mean bytes of an image in blocks of 256, which share a header."""
    starts = range(0, len(pictures), BATCH)
    blocks = [codec.encode_block(np.stack(pictures[start : start + BATCH])) for start in starts]
    return sum(map(len, blocks)) / len(pictures)
