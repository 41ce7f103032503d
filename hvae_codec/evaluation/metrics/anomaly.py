"""Rate as an anomaly score: an image of another kind costs another number of bits.

The encoder's tables are fitted to the training images, so what they did not foresee is dear. But
rate alone may be fooled: simple images of any kind are cheap (E. Nalisnick et al. 2019, "Do deep
generative models know what they don't know?"). `distance_from_typical` takes those that are too
cheap for strange as well, as their later work on typicality does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.codec import Codec, checked_codec
from hvae_codec.codec.model_shape import Pictures
from hvae_codec.errors import EvaluationError
from hvae_codec.utils.arguments import is_masked, shown

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Roc:
    """Shares of the normal and of the strange images whose score reaches each threshold.

    false_positive_rate, true_positive_rate: [K], both rising from 0 to 1. auc: the area below, the
    chance that a strange image has a higher score than a normal one, ties counting half.
    """

    false_positive_rate: Scores
    true_positive_rate: Scores
    auc: float


def rate_bits(codec: Codec, images: Pictures) -> Scores:
    """Bits that each image's symbols take under the codec's tables, all layers, float64 [N].

    Symbols outside the tables' support are clipped to it before, as the encoder does. For the rate
    of each layer see `Codec.information_bits`.

    Raises:
        ImageError: as `Codec.information_bits`: images are of the model's own size.
    """
    bits: Scores = checked_codec(codec).information_bits(images).sum(axis=1)
    return bits


def distance_from_typical(scores: Scores, normal: Scores) -> Scores:
    """How far each score lies from the median of those of images known to be normal.

    Raises:
        EvaluationError: a set has no score, or one that is not finite.
    """
    distance: Scores = np.abs(_finite(scores) - np.median(_finite(normal)))
    return distance


def roc(normal: Scores, strange: Scores) -> Roc:
    """The curve of a score, higher for the strange, [N] and [M] finite numbers, neither empty.

    Raises:
        EvaluationError: a set has no score, or one that is not finite.
    """
    normal, strange = _finite(normal), _finite(strange)
    thresholds = np.unique(np.concatenate([normal, strange]))[::-1]

    def reached(scores: Scores) -> Scores:
        below = np.searchsorted(np.sort(scores), thresholds, side="left")
        return np.concatenate([[0.0], 1.0 - below / len(scores)])

    false, true = reached(normal), reached(strange)
    return Roc(false, true, float(np.trapezoid(true, false)))


def _finite(scores: Scores) -> Scores:
    try:
        found = np.asarray(scores)
        if found.ndim == 1 and found.size and found.dtype.kind in "iufO" and not is_masked(scores):
            numbers: Scores = found.astype(np.float64)
            if np.isfinite(numbers).all():
                return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    raise EvaluationError(f"scores are one or more finite numbers [N]; got {shown(scores)}")
