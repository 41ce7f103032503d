"""One point of a rate-distortion curve: what a codec at one setting makes of the images.

Times are processor time, of this process and of the programs that it ran, so that neighbours on
the machine count little.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.codec import Codec
from hvae_codec.evaluation.metrics.perceptual import (
    has_ssimulacra2,
    similarities,
    similarity_name,
    ssimulacra2,
)
from hvae_codec.evaluation.metrics.psnr import mean_psnr_db, squared_error_each
from hvae_codec.evaluation.rate_distortion.container_bytes import payload_bytes
from hvae_codec.evaluation.rate_distortion.peers import Peer, Setting

QUALITIES = (1, 5, 10, 16, 23, 31, 40, 50, 60, 70, 80, 90, 100)
"""Qualities measured of a model that has all from 1 to 100."""

SSIMULACRA2 = "SSIMULACRA2"

SSIMULACRA2_IMAGES = 24
"""About how many images a quick benchmark measures by SSIMULACRA2: most of its time, if all."""

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


def processor_seconds() -> float:
    """Processor time of this process and of the programs that it has waited for."""
    programs = getrusage(RUSAGE_CHILDREN)
    return time.process_time() + programs.ru_utime + programs.ru_stime


def joined(parts: Iterable[Coded]) -> Coded:
    """Images that were coded in parts as one."""
    whole = Coded([], [], [], 0.0, 0.0)
    for part in parts:
        whole = Coded(
            whole.blobs + part.blobs,
            whole.payloads + part.payloads,
            whole.decoded + part.decoded,
            whole.encode_seconds + part.encode_seconds,
            whole.decode_seconds + part.decode_seconds,
        )
    return whole


def code_ours(codec: Codec, pictures: Sequence[Pixels], effort: int) -> Coded:
    """Single files of images uint8 [H, W, C], coded in one batch."""
    start = processor_seconds()
    blobs = codec.encode_batch(list(pictures), effort=effort)
    middle = processor_seconds()
    decoded = list(codec.decode_batch(blobs))
    end = processor_seconds()
    payloads = [payload_bytes(".hvae", blob) for blob in blobs]
    return Coded(blobs, payloads, decoded, middle - start, end - middle)


def code_peer(peer: Peer, pictures: Iterable[Pixels], setting: Setting) -> Coded:
    """A peer's files of images uint8 [H, W, C], image by image."""
    blobs, decoded, encoding, decoding = [], [], 0.0, 0.0
    for picture in pictures:
        start = processor_seconds()
        blobs.append(peer.encode(picture, setting))
        middle = processor_seconds()
        decoded.append(peer.decode(blobs[-1], picture.shape[2]))
        encoding, decoding = encoding + middle - start, decoding + processor_seconds() - middle
    return Coded(blobs, [peer.payload(blob) for blob in blobs], decoded, encoding, decoding)


def measures_of(pictures: Sequence[Pixels]) -> tuple[str, ...]:
    """The perceptual measures that fit the sizes of all these images."""
    return (similarity_name(pictures), *([SSIMULACRA2] if has_ssimulacra2(pictures) else []))


def image_rows(
    pictures: Sequence[Pixels], coded: Coded, measures: Sequence[str] | None = None
) -> list[Row]:
    """What was measured of each image: sizes in bytes, mean squared error, perceptual measures.

    measures: those of `measures_of` to take; default: all.
    """
    measures = measures_of(pictures) if measures is None else measures
    rows: list[Row] = [
        {
            "pixels": original.shape[0] * original.shape[1],
            "samples": original.size,
            "file_bytes": len(blob),
            "payload_bytes": payload,
            "squared_error": float(squared_error_each(original[None], decoded[None])[0]),
            "differing_samples": float((original != decoded).mean()),
            "encode_seconds": coded.encode_seconds / len(pictures),
            "decode_seconds": coded.decode_seconds / len(pictures),
        }
        for original, decoded, blob, payload in zip(
            pictures, coded.decoded, coded.blobs, coded.payloads, strict=True
        )
    ]
    for name in measures:
        if name == SSIMULACRA2:
            pairs = zip(pictures, coded.decoded, strict=True)
            values = [ssimulacra2(original, decoded) for original, decoded in pairs]
        else:
            values = similarities(pictures, coded.decoded, name).tolist()
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def point_of(rows: Sequence[Row]) -> Row:
    """Means over images of their `image_rows`: bytes, bits per pixel of the whole file and of the
    payload, PSNR, perceptual measures, and milliseconds.

    The PSNR is the mean over the images (`quality.PSNR_RULE`); None if all are unchanged. Where
    only some images have a perceptual measure, it is their mean, and `SSIMULACRA2_images` and so
    on are their number, bytes and bits per pixel.
    """

    def mean(key: str) -> float:
        return float(np.mean([row[key] for row in rows if key in row]))

    pixels = sum(row["pixels"] for row in rows)
    errors = np.array([row["squared_error"] for row in rows])
    psnr = mean_psnr_db(errors, np.array([row["samples"] for row in rows]))
    digits = {"MS-SSIM": 5, "SSIM": 5, SSIMULACRA2: 3}
    found = {name: [row for row in rows if name in row] for name in digits}
    return {
        **_size(rows),
        "payload_bytes": round(mean("payload_bytes"), 4),
        "payload_bits_per_pixel": round(8 * sum(row["payload_bytes"] for row in rows) / pixels, 5),
        "psnr_db": round(psnr, 4) if errors.any() else None,
        **{name: round(mean(name), digits[name]) for name in digits if found[name]},
        **{
            f"{name}_{key}": value
            for name, some in found.items()
            if 0 < len(some) < len(rows)
            for key, value in ({"images": len(some)} | _size(some)).items()
        },
        "differing_samples": round(mean("differing_samples"), 6),
        "encode_ms": round(1e3 * mean("encode_seconds"), 4),
        "decode_ms": round(1e3 * mean("decode_seconds"), 4),
    }


def size_key(rows: Sequence[Mapping[str, Any]], measure: str) -> str:
    """The key of the bytes, in points of `point_of`, of the images that have this measure."""
    key = f"{measure}_file_bytes"
    return key if any(key in row for row in rows) else "file_bytes"


def _size(rows: Sequence[Row]) -> Row:
    size = float(np.mean([row["file_bytes"] for row in rows]))
    bits = 8 * sum(row["file_bytes"] for row in rows) / sum(row["pixels"] for row in rows)
    return {"file_bytes": round(size, 4), "bits_per_pixel": round(bits, 5)}


def point(pictures: Sequence[Pixels], coded: Coded) -> Row:
    """`point_of` of images and what a codec made of them, by all `measures_of` them."""
    return point_of(image_rows(pictures, coded))
