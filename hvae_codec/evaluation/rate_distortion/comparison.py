"""A whole benchmark: images chosen, curves measured, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hvae_codec.evaluation.environment import environment
from hvae_codec.evaluation.metrics.perceptual import (
    SMALLEST_SIDE,
    SSIMULACRA2_SIDE,
    ssimulacra2_missing,
)
from hvae_codec.evaluation.rate_distortion.bd_rate import bd_rate_percent, bytes_within
from hvae_codec.evaluation.rate_distortion.curves import (
    BLOCKS,
    OURS,
    PEER,
    SHEETS,
    Curve,
    choose_curves,
)
from hvae_codec.evaluation.rate_distortion.image_set import ImageSet
from hvae_codec.evaluation.rate_distortion.points import (
    SSIMULACRA2,
    SSIMULACRA2_IMAGES,
    Row,
    size_key,
)
from hvae_codec.evaluation.rate_distortion.run import claim, measure_curves

Result = dict[str, Any]
Curves = Mapping[str, Sequence[Row]]

COUNTERPARTS = {OURS: PEER, BLOCKS: SHEETS}
"""The use of a peer that each use of our codec is compared with."""

PACKAGES = ("pillow", "bjontegaard", "pytorch-msssim", "ssimulacra2", "pillow-jxl-plugin")

SHOWN_QUALITIES = 5
"""Settings of ours whose bytes are compared at equal PSNR, spread over all."""


@dataclass(frozen=True)
class Order:
    """What is asked for: models by name or "auto", all settings or the quick ones, processes."""

    models: tuple[str, ...]
    thorough: bool
    workers: int


def run_benchmark(
    images: ImageSet, order: Order, folder: Path, say: Callable[[str], object]
) -> tuple[Result, list[Curve]]:
    """Measure what is missing in the folder; return the result, and the curves.

    Raises:
        UnknownModelError, EvaluationError: as `choose_curves`, `claim`.
        ExecutorError, OSError: as `measure_curves`.
    """
    curves, missing = choose_curves(images, order.models, thorough=order.thorough)
    left_out = dict(missing)
    measures = _measures(images, left_out)
    claim(folder, images)
    step = 1 if order.thorough else math.ceil(len(images) / SSIMULACRA2_IMAGES)
    rows = measure_curves(
        images,
        curves,
        measures,
        folder,
        workers=order.workers,
        say=say,
        ssimulacra2_step=step,
    )
    result = {
        "data": images.name,
        "images": len(images),
        "sizes": images.sizes,
        "fingerprint": images.fingerprint,
        "thorough": order.thorough,
        "measures": ["psnr_db", *measures],
        "curves": {
            curve.name: {"kind": curve.kind, "codec": curve.codec, "remark": curve.remark}
            | {"rows": rows[curve.name]}
            for curve in curves
        },
        "bd_rate_percent": bd_rates(curves, rows, ["psnr_db", *measures]),
        "equal_psnr": equal_psnr(curves, rows),
        "left_out": left_out,
        "definitions": definitions(measures),
        "environment": environment(*_installed(PACKAGES)),
    }
    return result, curves


def bd_rates(curves: Sequence[Curve], rows: Curves, measures: Sequence[str]) -> list[Result]:
    """Our bytes against each counterpart's at equal quality, by each measure, in percent; None
    where the curves have too little in common (`bd_rate_percent`).
    """
    return [
        {"ours": ours.name, "against": peer.name}
        | {name: _bd_rate(rows[ours.name], rows[peer.name], name) for name in measures}
        for ours, peer in _pairs(curves)
    ]


def _bd_rate(ours: Sequence[Row], peer: Sequence[Row], measure: str) -> float | None:
    size = size_key(ours, measure)
    return _rounded(bd_rate_percent(peer, ours, size, measure))


def equal_psnr(curves: Sequence[Curve], rows: Curves) -> list[Result]:
    """Bytes of each counterpart at the PSNR of some of our settings; None where its settings do
    not reach it.
    """
    found = []
    for ours in (curve for curve in curves if curve.ours):
        own = [row for row in rows[ours.name] if row["psnr_db"] is not None]
        peers = [peer for other, peer in _pairs(curves) if other is ours]
        for row in _spread(own, SHOWN_QUALITIES):
            sizes = {
                peer.name: _rounded(bytes_within(rows[peer.name], "file_bytes", row["psnr_db"]))
                for peer in peers
            }
            found.append(
                {"ours": ours.name, "quality": row["quality"], "psnr_db": row["psnr_db"]}
                | {"bytes": row["file_bytes"], "bits_per_pixel": row["bits_per_pixel"]}
                | {"peers": sizes}
            )
    return found


def definitions(measures: Sequence[str]) -> dict[str, str]:
    """What each figure is."""
    texts = {
        "file_bytes": "whole file, mean over images; of blocks and sheets an image's equal part",
        "payload_bytes": "file without container and headers, mean over images",
        "psnr_db": "mean over images of the 8-bit image's; null where all are exact",
        "MS-SSIM": "mean over images, five scales, Gaussian window of 11 pixels, pytorch-msssim",
        "SSIM": f"mean over images, as some have sides below {SMALLEST_SIDE} pixels, which MS-SSIM "
        "needs",
        SSIMULACRA2: "mean over images, of more than "
        f"{SSIMULACRA2_IMAGES} without --thorough about so many, whose bytes it is set against; by "
        "the package ssimulacra2; 90 is visually lossless",
        "bd_rate_percent": "our bytes against the other codec's at equal quality (Bjontegaard, "
        "PCHIP); null where the curves have less than half of the shorter one, or less than 1 dB, "
        "in common",
        "encode_ms, decode_ms": "processor time per image, one thread",
    }
    absent = {"MS-SSIM", "SSIM", SSIMULACRA2} - set(measures)
    return {name: text for name, text in texts.items() if name not in absent}


def _measures(images: ImageSet, left_out: dict[str, str]) -> list[str]:
    """The perceptual measures that fit all images; those that do not are named as left out."""
    side = images.shorter_side
    found = ["MS-SSIM" if side >= SMALLEST_SIDE else "SSIM"]
    reason = ssimulacra2_missing()
    if side < SSIMULACRA2_SIDE:
        reason = f"needs sides of {SSIMULACRA2_SIDE} pixels; the shortest here has {side}"
    if reason is None:
        return [*found, SSIMULACRA2]
    left_out[SSIMULACRA2] = reason
    return found


def _pairs(curves: Sequence[Curve]) -> list[tuple[Curve, Curve]]:
    """Each curve of ours with each counterpart."""
    return [
        (ours, peer)
        for ours in curves
        if ours.ours
        for peer in curves
        if peer.kind == COUNTERPARTS[ours.kind]
    ]


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    if len(rows) <= count:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (count - 1))] for index in range(count)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _installed(packages: Sequence[str]) -> list[str]:
    found = []
    for name in packages:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found
