"""A size, a quality or a budget instead of a quality level: the search over a model family and its
trades.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.arguments import byte_count, real
from hvae_codec.codec.candidates import Candidate, decoded_candidates
from hvae_codec.codec.codec import Codec, Pictures
from hvae_codec.codec.fully_convolutional.rate_control import coded, of_psnr, of_size
from hvae_codec.codec.images.load import Picture, as_batch, as_uint8
from hvae_codec.codec.model_choice import AUTO
from hvae_codec.codec.quality_scale import MAX_NUMBER
from hvae_codec.codec.registry import ladder, model_for
from hvae_codec.codec.transform import Pixels
from hvae_codec.errors import HvaeCodecError, RateError

COARSE_TRADES = tuple(2.0**power for power in range(-2, 4))
"""The trades tried on every quality level: 1/4 to 8."""

_REFINEMENTS, _BETWEEN = 2, 6
_BATCH_BYTES = 1 << 26
_SHARE, _NEAR_BYTES = 0.02, 2.0


_QUALITIES = tuple(range(0, MAX_NUMBER + 1, 17))
"""Numbers of the qualities among which images choose within a budget (fully convolutional)."""


def encode(
    image: Picture,
    model: str | Sequence[Codec] = AUTO,
    *,
    target_bytes: int | None = None,
    target_psnr: float | None = None,
    max_bytes: int | None = None,
    effort: int = 1,
) -> bytes:
    """An image as a `.hvae` file of a wanted size or quality, by whichever quality level does it
    best.

    Args:
        image: one image, as `Codec.encode` takes it.
        model: a name, as `models()` lists it, or codecs to choose from; "auto" is the model that
            `registry.model_for` gives for the image's size.
        target_bytes: size of the file, met within 2 % or two bytes; of such
            files the one of highest PSNR.
        target_psnr: least PSNR, in dB, of the decoded 8-bit image; the smallest file that has it.
        max_bytes: a limit on the file that always holds. Given alone: the best image within it.
        effort: 1 or 2; see `Codec`. Fully convolutional models have none and need none.

    Raises:
        RateError: what was asked for cannot be reached; `nearest` is the nearest that can.
        ImageError: the image cannot be taken. UnknownModelError: no such model.
        HvaeCodecError: no target was given, two were, or an effort below 1.
    """
    if target_bytes is not None and target_psnr is not None:
        raise HvaeCodecError("target_bytes and target_psnr exclude each other")
    if target_bytes is None and target_psnr is None and max_bytes is None:
        raise HvaeCodecError("give target_bytes, target_psnr or max_bytes")
    target_bytes = None if target_bytes is None else byte_count("target_bytes", target_bytes)
    target_psnr = None if target_psnr is None else real("target_psnr", target_psnr)
    max_bytes = None if max_bytes is None else byte_count("max_bytes", max_bytes)
    picture = as_uint8(image)
    codecs = _codecs(model, picture)
    if codecs[0].info.continuous:
        return _by_quality(codecs[0], picture, target_bytes, target_psnr, max_bytes)
    search = _Search(picture, codecs, effort)
    if target_psnr is not None:
        return _smallest(search, target_psnr, max_bytes).blob
    if target_bytes is not None:
        return _of_size(search, target_bytes, max_bytes).blob
    assert max_bytes is not None
    return _best_within(search, max_bytes).blob


def encode_within(
    images: Pictures,
    total_bytes: int,
    model: str | Sequence[Codec] = AUTO,
    *,
    effort: int = 1,
) -> list[bytes]:
    """Images as `.hvae` files that together take at most `total_bytes`, with least total error.

    Every image gets the quality level and trade at which one more byte would save as much squared
    error as it would in any other image (equal slopes), so that hard images get more bytes; what is
    left over goes where it does most. The other arguments are `encode`'s. Holds some 30 files a
    image in memory.

    Raises:
        RateError: they cannot be so small; `nearest` is the least total.
        ImageError, UnknownModelError, ValueError: as `encode`.
    """
    total_bytes = byte_count("total_bytes", total_bytes)
    pictures = as_batch(images)
    if not pictures:
        return []
    options = _options(pictures, model, effort)
    sizes = np.array([[candidate.size for candidate in row] for row in options], np.float64)
    errors = np.array([[candidate.squared_error for candidate in row] for row in options])
    least = int(sizes.min(axis=1).sum())
    if least > total_bytes:
        raise RateError(
            f"{len(pictures)} pictures take at least {least} bytes, not {total_bytes}", least
        )
    chosen = spread(sizes, errors, total_bytes)
    return [row[index].blob for row, index in zip(options, chosen, strict=True)]


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


def _codecs(model: str | Sequence[Codec], picture: Pixels) -> list[Codec]:
    """The codecs that an image may be coded with."""
    if isinstance(model, str):
        return ladder(model_for(*picture.shape[:2]) if model == AUTO else model)
    if not model:
        raise HvaeCodecError("no codec to choose from")
    return list(model)


def _options(
    pictures: Sequence[Pixels], model: str | Sequence[Codec], effort: int
) -> list[list[Candidate]]:
    """The candidates of every image, equally many: some twice where models have fewer."""
    groups: dict[tuple[Codec, ...], list[int]] = {}
    for number, picture in enumerate(pictures):
        groups.setdefault(tuple(_codecs(model, picture)), []).append(number)
    options: list[list[Candidate]] = [[] for _ in pictures]
    for codecs, numbers in groups.items():
        found = _coarse([pictures[number] for number in numbers], codecs, effort)
        for number, row in zip(numbers, found, strict=True):
            options[number] = row
    most = max(map(len, options))
    return [row + row[:1] * (most - len(row)) for row in options]


def _coarse(
    pictures: Sequence[Pixels], codecs: Sequence[Codec], effort: int
) -> list[list[Candidate]]:
    """All coarse candidates of images of one model, in one order."""
    if codecs[0].info.continuous:
        return [[coded(codecs[0], one, n) for n in _QUALITIES] for one in pictures]
    options: list[list[Candidate]] = [[] for _ in pictures]
    for rung, codec in enumerate(codecs):
        for trade in COARSE_TRADES:
            found = _candidates(codec, rung, pictures, [trade] * len(pictures), effort)
            for row, candidate in zip(options, found, strict=True):
                row.append(candidate)
    return options


def _candidates(
    codec: Codec,
    rung: int,
    pictures: Sequence[Pixels],
    trades: Sequence[float],
    effort: int,
) -> list[Candidate]:
    """Each image coded and decoded at its trade, some at a time where they are large."""
    found: list[Candidate] = []
    at_once = max(1, _BATCH_BYTES // max(picture.nbytes for picture in pictures))
    for start in range(0, len(pictures), at_once):
        part = pictures[start : start + at_once]
        own = trades[start : start + at_once]
        blobs = codec.encode_batch(part, effort=effort, trade=own)
        found += decoded_candidates(codec, rung, part, own, blobs)
    return found


class _Search:
    """The candidates of one image, more of which are made where they are wanted."""

    def __init__(self, picture: Pixels, codecs: Sequence[Codec], effort: int) -> None:
        if effort < 1:
            raise HvaeCodecError(
                f"a size or quality is reached with effort 1 or more; got {effort}"
            )
        self._picture = picture
        self._codecs = codecs
        self._effort = effort
        self.candidates: list[Candidate] = []
        for rung in range(len(codecs)):
            self._add(rung, COARSE_TRADES)

    def refine(self, large: NDArray[np.bool_]) -> None:
        """More candidates of each quality level between the last that is `large` and the next that
        is not, in the order of their trades.
        """
        known = list(zip(self.candidates, large, strict=True))
        for rung in range(len(self._codecs)):
            own = sorted((one.trade, bool(big)) for one, big in known if one.rung == rung)
            trades: list[float] = []
            for (low, big), (high, next_big) in pairwise(own):
                if big and not next_big:
                    trades += [float(t) for t in np.geomspace(low, high, _BETWEEN + 2)[1:-1]]
            if trades:
                self._add(rung, trades)

    def _add(self, rung: int, trades: Iterable[float]) -> None:
        own = list(trades)
        pictures = [self._picture] * len(own)
        self.candidates += _candidates(self._codecs[rung], rung, pictures, own, self._effort)


def _best_within(search: _Search, limit: float, least: float = 0.0) -> Candidate:
    """The best image of `least` to `limit` bytes."""
    for _ in range(_REFINEMENTS):
        search.refine(np.array([candidate.size > limit for candidate in search.candidates]))
    fitting = [one for one in search.candidates if least <= one.size <= limit]
    if not fitting:
        nearest = min((one.size for one in search.candidates), key=lambda n: _gap(n, least, limit))
        wanted = f"at most {limit:.0f}" if least == 0.0 else f"{least:.0f} to {limit:.0f}"
        raise RateError(f"no file of {wanted} bytes; the nearest has {nearest}", nearest)
    return max(fitting, key=lambda one: (one.psnr_db, -one.size))


def _of_size(search: _Search, target: int, limit: int | None) -> Candidate:
    least, most = _window(target, limit)
    return _best_within(search, most, least)


def _window(target: int, limit: int | None) -> tuple[float, float]:
    """Least and most bytes of a file that counts as one of the size asked for."""
    tolerance = max(_NEAR_BYTES, _SHARE * target)
    most = min(target + tolerance, target + tolerance if limit is None else limit)
    if most < target - tolerance:
        raise RateError(f"max_bytes {limit} excludes target_bytes {target}", float(most))
    return max(target - tolerance, 1.0), most


def _by_quality(
    codec: Codec,
    picture: Pixels,
    target_bytes: int | None,
    target_psnr: float | None,
    max_bytes: int | None,
) -> bytes:
    """`encode` by a fully convolutional model."""
    if target_psnr is not None:
        return of_psnr(codec, picture, target_psnr, max_bytes)
    if target_bytes is not None:
        least, most = _window(target_bytes, max_bytes)
        return of_size(codec, picture, most, least)
    assert max_bytes is not None
    return of_size(codec, picture, max_bytes)


def _smallest(search: _Search, target_psnr: float, limit: int | None) -> Candidate:
    for _ in range(_REFINEMENTS):
        search.refine(np.array([one.psnr_db >= target_psnr for one in search.candidates]))
    within = [one for one in search.candidates if limit is None or one.size <= limit]
    if not within:
        least = min(one.size for one in search.candidates)
        raise RateError(f"no file of at most {limit} bytes; the nearest has {least}", least)
    good = [one for one in within if one.psnr_db >= target_psnr]
    if not good:
        best = max(one.psnr_db for one in within)
        where = "" if limit is None else f" within {limit} bytes"
        raise RateError(
            f"no file reaches {target_psnr:.2f} dB{where}; the best has {best:.2f}", best
        )
    return min(good, key=lambda one: (one.size, -one.psnr_db))


def _gap(size: float, least: float, most: float) -> float:
    return max(least - size, size - most, 0.0)
