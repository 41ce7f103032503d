"""Qualities between the quality levels of a model family: which quality level, and how its encoder
is to trade.

A card may hold a calibration, measured once by `hvae_codec.evaluation.calibrate`: mean payload and
PSNR of the model at effort 1 over a range of trades. Joined, those of neighbouring quality levels
are one curve, on which quality 2.5 is the point whose PSNR lies half-way between those of quality
levels 2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.checkpoint import ModelInfo
from hvae_codec.errors import CheckpointError, UnknownQualityError

EFFORT = 1
"""The effort that calibrations are measured at."""

TRADES = tuple(2.0 ** (half / 2.0) for half in range(-4, 7))
"""The trades that a calibration covers: 1/4 to 8. Lower ones change little; higher ones ask for
more than the search can do.
"""


def operating_point(levels: Sequence[ModelInfo], quality: float) -> tuple[ModelInfo, float]:
    """The quality level and trade that stand for a `quality` between the first and last quality
    level's.

    Of the two neighbouring quality levels it is the one that needs fewer bytes for the PSNR asked
    for, so that both bytes and PSNR rise with quality.

    Raises:
        UnknownQualityError: `quality` is outside the model family, or a card has no calibration.
        CheckpointError: a calibration is not one.
    """
    ordered = sorted(levels, key=lambda info: info.quality)
    numbers = [info.quality for info in ordered]
    if not numbers[0] <= quality <= numbers[-1]:
        raise UnknownQualityError(
            f"model {ordered[0].name!r} has qualities {numbers[0]} to {numbers[-1]}; "
            f"got {quality!r}"
        )
    above = max(int(np.searchsorted(numbers, quality)), 1)
    pair = [ordered[above - 1], ordered[above]] if len(ordered) > 1 else ordered
    curves = [_curve(info) for info in pair]
    at_levels = [
        float(np.interp(0.0, np.sort(logs), psnr[np.argsort(logs)])) for logs, _, psnr in curves
    ]
    wanted = float(np.interp(quality, [info.quality for info in pair], at_levels))
    found = []
    for info, curve in zip(pair, curves, strict=True):
        logs, sizes, psnr = _efficient(*curve)
        gap = max(psnr[0] - wanted, wanted - psnr[-1], 0.0)
        size = float(np.interp(wanted, psnr, sizes))
        found.append((gap, size, info, 2.0 ** float(np.interp(wanted, psnr, logs))))
    _, _, info, trade = min(found, key=lambda entry: entry[:2])
    return info, trade


def _curve(
    info: ModelInfo,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """log2 of the trade, payload bytes and PSNR of the points of a calibration."""
    calibration: dict[str, Any] | None = info.card.get("calibration")
    if calibration is None:
        raise UnknownQualityError(
            f"model {info.name!r} quality {info.quality} has no calibration in its card, which "
            "qualities between whole ones need"
        )
    try:
        logs = np.log2(np.array(calibration["trade"], np.float64))
        sizes = np.array(calibration["payload_bytes"], np.float64)
        psnr = np.array(calibration["psnr_db"], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the card's calibration is not one: {error!r}") from error
    if not (len(logs) == len(sizes) == len(psnr) > 1 and np.isfinite([logs, sizes, psnr]).all()):
        raise CheckpointError("the card's calibration is not one: lengths differ, or not finite")
    return logs, sizes, psnr


def _efficient(
    logs: NDArray[np.float64], sizes: NDArray[np.float64], psnr: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The points that no other beats in both bytes and PSNR, both rising: trades so large that the
    search does not get there end in files that are larger and worse.
    """
    order = np.lexsort((-psnr, sizes))
    best = np.maximum.accumulate(psnr[order])
    kept = order[np.concatenate([[True], best[1:] > best[:-1]])]
    return logs[kept], sizes[kept], psnr[kept]
