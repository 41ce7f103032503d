"""What a layer knows about the class: I_q(y; z) by Monte Carlo, and what it bounds (Eq. 10, 11).

The aggregate posterior q(z) = 1/N sum_j q(z|x_j) and its parts by class, q(z|y), are mixtures over
the labelled images, so that their densities are known; only the mean over z is estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import EvaluationError, MissingDependencyError

_CHUNK = 512


@dataclass(frozen=True)
class Information:
    """An estimate of I_q(y; z) and its standard error, both in nats."""

    nats: float
    standard_error_nats: float


def gaussian_information(
    mean: NDArray[np.floating],
    deviation: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    seed: int = 0,
) -> Information:
    """I_q(y; z) where q(z|x_i) = N(mean_i, diag(deviation_i^2)); one draw of z an image.

    mean, deviation: [N, D], deviation > 0; labels: [N]. The estimate is the mean over i of
    log q(z_i|y_i) - log q(z_i). As the mixture weighs classes by their frequencies among the
    images, no term exceeds -log p(y_i), nor the estimate H[p(y)]. The standard error is that of
    independent draws of (i, z); taking each image once makes the true one smaller. Where posteriors
    of N images hardly overlap, as they do at rates far above log N, the estimate tends to H[p(y)]:
    it is the information about the class in z among these images, not among all there could be.

    Raises:
        EvaluationError: arrays that do not belong together, or numbers that are not finite.
    """
    mean, deviation = np.asarray(mean, np.float64), np.asarray(deviation, np.float64)
    _check(mean, deviation, labels)
    # Images of one class stand together, so that each class is a slice of the mixture.
    order = np.argsort(labels, kind="stable")
    mean, deviation, labels = mean[order], deviation[order], labels[order]
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    z = mean + deviation * noise
    # log N(z; m, s) = -1/2 (z^2 / s^2 - 2 z m / s^2) - 1/2 (m^2 / s^2 + 2 log s) + constant: one
    # product of matrices. In float64 what cancels leaves errors of 1e-10 even at s = 1e-3.
    precision = deviation**-2
    factors = np.concatenate([-0.5 * precision, precision * mean], axis=1).T
    offsets = -0.5 * (precision * mean**2).sum(axis=1) - np.log(deviation).sum(axis=1)
    terms = []
    for first, last in _class_slices(labels):
        for start in range(first, last, _CHUNK):
            part = z[start : min(start + _CHUNK, last)]
            log_density = np.concatenate([part**2, part], axis=1) @ factors + offsets
            inside = _log_mean_exp(log_density[:, first:last])
            terms.append(inside - _log_mean_exp(log_density))
    return _estimate(np.concatenate(terms))


def uniform_information(
    mean: NDArray[np.floating],
    step: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    seed: int = 0,
) -> Information:
    """As `gaussian_information`, where q(z|x_i) is uniform of width `step` [D] around mean_i.

    All boxes are of one size, so that densities are shares of the boxes that z lies in.

    Raises:
        EvaluationError: as `gaussian_information`.
        MissingDependencyError: SciPy is not installed.
    """
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise MissingDependencyError(
            'information in uniform posteriors needs SciPy: pip install "hvae-codec[evaluation]"'
        ) from error
    mean, step = np.asarray(mean, np.float64), np.asarray(step, np.float64)
    _check(mean, np.broadcast_to(step, mean.shape), labels)
    scaled = mean / step
    z = scaled + np.random.default_rng(seed).uniform(-0.5, 0.5, scaled.shape)
    boxes = cKDTree(scaled).query_ball_point(z, 0.5, p=math.inf)
    counts = {int(y): int(n) for y, n in zip(*np.unique(labels, return_counts=True), strict=True)}
    terms = np.empty(len(labels))
    for index, (label, found) in enumerate(zip(labels, boxes, strict=True)):
        # Its own box holds z, whatever the rounding of z says at an edge.
        own = max(int((labels[found] == label).sum()), 1)
        total = max(len(found), 1)
        terms[index] = math.log(own / counts[int(label)]) - math.log(total / len(labels))
    return _estimate(terms)


def class_entropy_nats(labels: NDArray[np.int64]) -> float:
    """H[p(y)] of the labels' frequencies, in nats."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(shares * np.log(shares)).sum())


def information_of_accuracy(accuracy: float, entropy_nats: float, classes: int) -> float:
    """Eq. 11's f: the least information, in nats, that an accuracy in [1/M, 1] takes.

    f(a) = H[p(y)] + a log a + (1 - a) log((1 - a) / (M - 1)), M = `classes` >= 2.
    """
    missed = 1.0 - accuracy
    gained = 0.0 if accuracy <= 0.0 else accuracy * math.log(accuracy)
    lost = 0.0 if missed <= 0.0 else missed * math.log(missed / (classes - 1))
    return entropy_nats + gained + lost


def accuracy_bound(information_nats: float, entropy_nats: float, classes: int) -> float:
    """Eq. 11's f^-1 on [1/M, 1]: the greatest accuracy that so much information allows.

    1 from H[p(y)] nats on; 1/M at, or below, the least value of f.
    """
    low, high = 1.0 / classes, 1.0
    if information_nats >= entropy_nats:
        return high
    if information_nats <= information_of_accuracy(low, entropy_nats, classes):
        return low
    for _ in range(100):
        middle = 0.5 * (low + high)
        if information_of_accuracy(middle, entropy_nats, classes) < information_nats:
            low = middle
        else:
            high = middle
    return high


def _check(
    mean: NDArray[np.floating], deviation: NDArray[np.floating], labels: NDArray[np.int64]
) -> None:
    if mean.ndim != 2 or deviation.shape != mean.shape or labels.shape != mean.shape[:1]:
        raise EvaluationError(
            f"posteriors [N, D] and labels [N] are wanted; got {list(mean.shape)}, "
            f"{list(deviation.shape)} and {list(labels.shape)}"
        )
    if not (len(mean) and np.isfinite(mean).all() and (deviation > 0).all()):
        raise EvaluationError("posteriors must be of finite means and deviations above 0")


def _class_slices(labels: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last + 1 of each run of equal labels."""
    starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1)).tolist()
    return list(zip(starts, [*starts[1:], len(labels)], strict=True))


def _log_mean_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of the mean of exp over the last axis; [B, K] -> [B]."""
    peak = values.max(axis=1)
    means: NDArray[np.float64] = peak + np.log(np.exp(values - peak[:, None]).mean(axis=1))
    return means


def _estimate(terms: NDArray[np.float64]) -> Information:
    error = float(terms.std(ddof=1) / math.sqrt(len(terms))) if len(terms) > 1 else math.inf
    return Information(float(terms.mean()), error)
