"""How images share a number of bytes, so that their total error is least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread(
    sizes: NDArray[np.float64], errors: NDArray[np.float64], total: float
) -> NDArray[np.intp]:
    """Which option [N] each of N images takes, from sizes and errors [N, options], so that the
    sizes add up to at most `total`, which the smallest do, and the errors to little.

    The best choice for some common price of a byte, found by bisection; then, with the bytes left,
    the single changes that save most per byte.
    """
    rows = np.arange(len(sizes))
    dear, cheap = 1.0, 1.0
    while _priced(sizes, errors, dear)[1] > total:
        dear *= 4.0
        if dear > 1e18:  # so dear that only size counts
            break
    while _priced(sizes, errors, cheap)[1] <= total and cheap > 1e-9:
        cheap /= 4.0
    for _ in range(60):
        price = float(np.sqrt(dear * cheap))
        if _priced(sizes, errors, price)[1] > total:
            cheap = price
        else:
            dear = price
    chosen, used = _priced(sizes, errors, dear)
    if used > total:
        chosen = np.lexsort((errors, sizes), axis=1)[:, 0]
        used = float(sizes[rows, chosen].sum())
    while True:
        more = sizes - sizes[rows, chosen][:, None]
        less = errors[rows, chosen][:, None] - errors
        fits = (less > 0.0) & (more <= total - used)
        if not fits.any():
            return chosen
        worth = np.where(fits, less / np.maximum(more, 0.5), -np.inf)
        row, option = np.unravel_index(int(worth.argmax()), worth.shape)
        used += float(more[row, option])
        chosen[row] = option


def _priced(
    sizes: NDArray[np.float64], errors: NDArray[np.float64], price: float
) -> tuple[NDArray[np.intp], float]:
    chosen = (errors + price * sizes).argmin(axis=1)
    return chosen, float(sizes[np.arange(len(sizes)), chosen].sum())
