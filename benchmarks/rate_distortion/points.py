"""One point of a rate-distortion curve: what a codec at one setting makes of the images.

Times are processor time of one process, so that neighbours on the machine count little; ours run
with one thread in batches, the peers image by image.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hvae_codec
from benchmarks.common import progress
from benchmarks.rate_distortion.classical_peers import Peer, Setting
from benchmarks.rate_distortion.container_bytes import payload_bytes
from benchmarks.rate_distortion.ms_ssim import (
    has_ssimulacra2,
    similarities,
    similarity_name,
    ssimulacra2,
)
from hvae_codec.codec.tiled.tiling import split
from hvae_codec.evaluation.card_figures import rates_nats
from hvae_codec.evaluation.metrics.psnr import mean_psnr_db, squared_error_each

BATCH = 256
QUALITIES = (1, 5, 10, 16, 23, 31, 40, 50, 60, 70, 80, 90, 100)
"""Qualities measured of a model that has all from 1 to 100."""

Pixels = NDArray[np.uint8]
Row = dict[str, Any]


@dataclass(frozen=True)
class Coded:
    """What a codec made of images: files, their payloads' sizes, images, processor seconds."""

    blobs: list[bytes]
    payloads: list[int]
    decoded: list[Pixels]
    encode_seconds: float
    decode_seconds: float


def code_ours(codec: hvae_codec.Codec, pictures: Sequence[Pixels], effort: int) -> Coded:
    """Single files, coded in batches of 256 images where one tile is an image."""
    step = BATCH if _tile_each(codec, pictures) else 1
    batches = [pictures[start : start + step] for start in range(0, len(pictures), step)]
    codec.decode(codec.encode(pictures[0], effort=effort))  # whatever is prepared once
    blobs, decoded, encoding, decoding = [], [], 0.0, 0.0
    for batch in progress(batches, _label(codec, effort), unit="batch"):
        start = time.process_time()
        files = codec.encode_batch(list(batch), effort=effort)
        middle = time.process_time()
        decoded += list(codec.decode_batch(files))
        encoding, decoding = encoding + middle - start, decoding + time.process_time() - middle
        blobs += files
    return Coded(blobs, [payload_bytes(".hvae", b) for b in blobs], decoded, encoding, decoding)


def code_peer(peer: Peer, pictures: Sequence[Pixels], setting: Setting) -> Coded:
    """A peer's files, image by image."""
    blobs, decoded, encoding, decoding = [], [], 0.0, 0.0
    label = peer.name if setting is None else f"{peer.name} {setting}"
    for picture in progress(pictures, label, unit="image"):
        start = time.process_time()
        blobs.append(peer.encode(picture, setting))
        middle = time.process_time()
        decoded.append(peer.decode(blobs[-1], picture.shape[2]))
        encoding, decoding = encoding + middle - start, decoding + time.process_time() - middle
    return Coded(blobs, [peer.payload(blob) for blob in blobs], decoded, encoding, decoding)


def point(pictures: Sequence[Pixels], coded: Coded) -> Row:
    """Means over images: bytes, bits a pixel of the whole file and of the payload, PSNR,
    similarity, of photographs SSIMULACRA2, and milliseconds.

    The PSNR is the mean over the images (`quality.PSNR_RULE`); None if all are unchanged.
    """
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    sizes = [len(blob) for blob in coded.blobs]
    pairs = list(zip(pictures, coded.decoded, strict=True))
    errors = np.array([squared_error_each(a[None], b[None])[0] for a, b in pairs])
    psnr = mean_psnr_db(errors, np.array([picture.size for picture in pictures]))
    name = similarity_name(pictures)
    perceptual = {name: round(float(similarities(pictures, coded.decoded, name).mean()), 5)}
    if has_ssimulacra2(pictures):
        scores = [ssimulacra2(a, b) for a, b in pairs]
        perceptual["SSIMULACRA2"] = round(float(np.mean(scores)), 3)
    return {
        "file_bytes": round(float(np.mean(sizes)), 4),
        "payload_bytes": round(float(np.mean(coded.payloads)), 4),
        "bits_per_pixel": round(8 * sum(sizes) / pixels, 5),
        "payload_bits_per_pixel": round(8 * sum(coded.payloads) / pixels, 5),
        "psnr_db": round(psnr, 4) if errors.any() else None,
        **perceptual,
        "differing_samples": round(float(np.mean([(a != b).mean() for a, b in pairs])), 6),
        "encode_ms": round(1e3 * coded.encode_seconds / len(pictures), 4),
        "decode_ms": round(1e3 * coded.decode_seconds / len(pictures), 4),
    }


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
    for quality in progress(levels, "our qualities"):
        codec = hvae_codec.load(model, quality)
        tiles = _tiles(codec, pictures)
        rates = np.array(rates_nats(codec.model, tiles)) * len(tiles) / len(pictures)
        for effort in efforts:
            coded = code_ours(codec, pictures, effort)
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
    row |= point(pictures, code_ours(codec, pictures, 0))
    layers = np.mean([codec.information_bits([picture])[0] for picture in pictures], axis=0) / 8.0
    row["information_bytes"] = round(float(layers.sum()), 4)
    row["information_bytes_per_layer"] = [round(float(size), 4) for size in layers]
    return row


def peer_points(peer: Peer, pictures: Sequence[Pixels]) -> list[Row]:
    """A peer at each of its settings."""
    return [
        {"setting": setting, **point(pictures, code_peer(peer, pictures, setting))}
        for setting in progress(peer.settings, peer.name)
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


def _label(codec: hvae_codec.Codec, effort: int) -> str:
    return f"quality {getattr(codec, 'quality', codec.info.quality):g}, effort {effort}"
