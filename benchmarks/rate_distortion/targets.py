"""The figures that the codec is to reach against classical codecs, and whether a run reaches them.

A target is met, not met, or None where the run lacks what it compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.tables import Result, target
from hvae_codec.evaluation.rate_distortion.bd_rate import (
    Curve,
    at_equal_psnr,
    bd_rate_percent,
    bytes_at,
)

FILE_PSNR_DB = tuple(float(value) for value in np.arange(20.0, 25.01, 0.25))
PAYLOAD_PSNR_DB = tuple(float(value) for value in np.arange(22.0, 25.01, 0.25))
FILE_RATIO = 0.50
PAYLOAD_RATIO = 0.55
EFFORT_SAVINGS_PERCENT = {"1": 4.0, "2": 10.0}
INFORMATION_OVERHEAD = 0.02
DIFFERING_SAMPLES = 0.02
PHOTOGRAPH_BITS = (0.12, 1.0)
PHOTOGRAPH_BD_RATES_PERCENT = {"JPEG": -50.0, "WebP": -33.0, "AVIF": -5.0}
PUBLISHED_BD_RATES_PERCENT = {"bmshj2018-hyperprior": -15.0}
PHOTOGRAPH_OVERHEAD = 0.01
MAPS_PSNR_DB = 24.3
MAPS_PAYLOAD_BYTES = 46.0

Curves = Mapping[str, Curve]


def lossy_targets(ours: Curves, peers: Curves) -> list[Result]:
    """Bytes at equal PSNR, what efforts save, and payload over information, from rows by effort
    and by peer.
    """
    webp = {"WebP": peers.get("WebP", [])}
    targets = []
    for effort, rows in ours.items():
        ratio = _largest_ratio(rows, peers, "file_bytes", FILE_PSNR_DB)
        what = f"effort {effort}, largest whole file / smallest peer's, 20 to 25 dB"
        targets.append(target(what, ratio, FILE_RATIO))
        ratio = _largest_ratio(rows, webp, "payload_bytes", PAYLOAD_PSNR_DB)
        what = f"effort {effort}, largest payload / WebP's, 22 to 25 dB"
        targets.append(target(what, ratio, PAYLOAD_RATIO))
    for effort, least in EFFORT_SAVINGS_PERCENT.items():
        change = bd_rate_percent(ours.get("0", []), ours.get(effort, []), "payload_bytes")
        what = f"effort {effort}, payload against effort 0 at equal PSNR, percent"
        targets.append(target(what, change, -least))
    return targets + _information_targets(ours)


def binary_targets(ours: Curves, peers: Curves) -> list[Result]:
    """The smallest quality level with at most 2 % of the pixels wrong, against the smallest
    lossless peer.
    """
    targets = []
    for size, name in (("file_bytes", "whole file"), ("payload_bytes", "payload")):
        smallest = min((row[size] for rows in peers.values() for row in rows), default=None)
        for effort, rows in ours.items():
            near = [row[size] for row in rows if row["differing_samples"] <= DIFFERING_SAMPLES]
            what = f"effort {effort}, {name} at <= 2 % of pixels wrong / smallest lossless peer's"
            ratio = min(near) / smallest if near and smallest is not None else None
            targets.append(target(what, ratio, 1.0))
    return targets + _information_targets(ours)


def against_each(
    ours: Curves, peers: Curves, size: str = "file_bytes", measure: str = "psnr_db"
) -> dict[str, dict[str, float | None]]:
    """BD-rates of whole files against each peer over PHOTOGRAPH_BITS a pixel, in percent, for each
    effort.

    size: what the rows of all call bytes, or bits per pixel. measure: of quality.
    """
    lowest, highest = PHOTOGRAPH_BITS
    rates = {}
    for effort, rows in ours.items():
        within = [row for row in rows if lowest <= row["bits_per_pixel"] <= highest]
        rates[effort] = {
            name: bd_rate_percent(curve, within, size, measure) for name, curve in peers.items()
        }
    return rates


def photograph_targets(ours: Curves, peers: Curves) -> list[Result]:
    """BD-rates against each peer over PHOTOGRAPH_BITS a pixel, and files over information."""
    targets = []
    lowest, highest = PHOTOGRAPH_BITS
    rates = against_each(ours, peers)
    for effort, rows in ours.items():
        within = [row for row in rows if lowest <= row["bits_per_pixel"] <= highest]
        for name, limit in PHOTOGRAPH_BD_RATES_PERCENT.items():
            what = f"effort {effort}, BD-rate of whole files against {name}, percent"
            targets.append(target(what, rates[effort].get(name), limit))
        targets += [
            target(
                f"quality {row['quality']}, effort {effort}, whole file over information content",
                row["file_bytes"] / row["information_bytes"] - 1.0,
                PHOTOGRAPH_OVERHEAD,
            )
            for row in within
        ]
    return targets


def published_targets(rates: Mapping[str, Mapping[str, float | None]]) -> list[Result]:
    """BD-rates against published points, by effort and name, as `against_each` gives them."""
    return [
        target(
            f"effort {effort}, BD-rate of whole files against {name} as published, percent",
            by_name.get(name),
            limit,
        )
        for effort, by_name in rates.items()
        for name, limit in PUBLISHED_BD_RATES_PERCENT.items()
    ]


def map_targets(maps: Curves) -> list[Result]:
    """Payload at MAPS_PSNR_DB of fully convolutional models that code small images, in bytes."""
    return [
        target(
            f"{name}, payload bytes at {MAPS_PSNR_DB:g} dB",
            bytes_at(rows, "payload_bytes", MAPS_PSNR_DB),
            MAPS_PAYLOAD_BYTES,
        )
        for name, rows in maps.items()
    ]


def _information_targets(ours: Curves) -> list[Result]:
    return [
        target(
            f"quality level {row['quality']}, effort {effort}, payload over information content",
            row["payload_bytes"] / row["information_bytes"] - 1.0,
            INFORMATION_OVERHEAD,
        )
        for effort, rows in ours.items()
        for row in rows
    ]


def _largest_ratio(
    ours: Curve, peers: Curves, size: str, psnrs_db: Sequence[float]
) -> float | None:
    table = at_equal_psnr(ours, peers, size, psnrs_db)
    return max(point.ratio for point in table) if len(table) == len(psnrs_db) else None
