"""A size, a quality or a budget instead of a quality level: the search over operating points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hvae_codec.codec.codec import Codec, checked_codec
from hvae_codec.codec.fully_convolutional.rate_search import QualitySearch, coarse_qualities
from hvae_codec.codec.images.load import Picture, as_batch, as_uint8
from hvae_codec.codec.model_choice import AUTO
from hvae_codec.codec.model_shape import Pictures
from hvae_codec.codec.rate_control.budget import spread
from hvae_codec.codec.rate_control.candidates import Candidate, CandidateSearch
from hvae_codec.codec.registry import family, load, model_for
from hvae_codec.codec.tiled.rate_search import TradeSearch, coarse_trades
from hvae_codec.codec.transform import Pixels
from hvae_codec.errors import HvaeCodecError, RateError
from hvae_codec.utils.arguments import byte_count, decibels, shown

_SHARE, _NEAR_BYTES = 0.02, 2.0


def encode(
    image: Picture,
    model: str | Sequence[Codec] = AUTO,
    *,
    quality: float | None = None,
    target_bytes: int | None = None,
    target_psnr: float | None = None,
    max_bytes: int | None = None,
    effort: int | None = None,
) -> bytes:
    """An image as a `.hvae` file: of a quality, or of a wanted size or PSNR by whichever quality
    does it best.

    Args:
        image: one image, as `Codec.encode` takes it.
        model: a name, as `models()` lists it, or codecs to choose from; "auto" is the model that
            `registry.model_for` gives for the image's size.
        quality: as `load` takes it; without it and without a target, the model's default.
        target_bytes: size of the file, met within 2 % or two bytes; of such
            files the one of highest PSNR.
        target_psnr: least PSNR, in dB, of the decoded 8-bit image; the smallest file that has it.
        max_bytes: a limit on the file that always holds. Given alone: the best image within it.
        effort: as `load` takes it; for a target 1, by default, or 2. Fully convolutional models
            have none and need none.

    Raises:
        RateError: what was asked for cannot be reached; `nearest` is the nearest that can.
        ImageError: the image cannot be taken. UnknownModelError: no such model.
        UnknownQualityError: no such quality.
        HvaeCodecError: targets or codecs beside a quality, two targets, an effort below 1 for one,
            or no codecs.
    """
    if target_bytes is not None and target_psnr is not None:
        raise HvaeCodecError("target_bytes and target_psnr exclude each other")
    if target_bytes is None and target_psnr is None and max_bytes is None:
        return _of_quality(as_uint8(image), model, quality, effort)
    if quality is not None:
        raise HvaeCodecError("a quality and a target exclude each other")
    effort = 1 if effort is None else effort
    target_bytes = None if target_bytes is None else byte_count("target_bytes", target_bytes)
    target_psnr = None if target_psnr is None else decibels("target_psnr", target_psnr)
    max_bytes = None if max_bytes is None else byte_count("max_bytes", max_bytes)
    picture = as_uint8(image)
    codecs = _codecs(model, picture)
    search = _search(picture, codecs, effort)
    if target_psnr is not None:
        return _smallest(search, target_psnr, max_bytes).blob
    least, most = _window(target_bytes, max_bytes)
    return _best_within(search, most, least).blob


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
            f"{len(pictures)} images take at least {least} bytes, not {total_bytes}", least
        )
    chosen = spread(sizes, errors, total_bytes)
    return [row[index].blob for row, index in zip(options, chosen, strict=True)]


def _of_quality(
    picture: Pixels, model: str | Sequence[Codec], quality: float | None, effort: int | None
) -> bytes:
    """A file of a named model."""
    if not isinstance(model, str):
        raise HvaeCodecError(
            "codecs to choose from need target_bytes, target_psnr or max_bytes; a quality needs "
            f"the name of a model; got {shown(model)}"
        )
    name = model_for(*picture.shape[:2]) if model == AUTO else model
    return load(name, quality, effort=effort).encode(picture)


def _codecs(model: str | Sequence[Codec], picture: Pixels) -> list[Codec]:
    """The codecs that an image may be coded with."""
    if isinstance(model, str):
        return family(model_for(*picture.shape[:2]) if model == AUTO else model)
    if not isinstance(model, Iterable) or getattr(model, "ndim", 1) == 0:
        raise HvaeCodecError(f"a model is a name or codecs; got {shown(model)}")
    codecs = list(map(checked_codec, model))
    if not codecs:
        raise HvaeCodecError("no codec to choose from")
    return codecs


def _search(picture: Pixels, codecs: Sequence[Codec], effort: int) -> CandidateSearch:
    if codecs[0].info.continuous:
        return QualitySearch(picture, codecs[0])
    return TradeSearch(picture, codecs, effort)


def _options(
    pictures: Sequence[Pixels], model: str | Sequence[Codec], effort: int
) -> list[list[Candidate]]:
    """The candidates of every image, equally many: some twice where models have fewer."""
    groups: dict[tuple[Codec, ...], list[int]] = {}
    for number, picture in enumerate(pictures):
        groups.setdefault(tuple(_codecs(model, picture)), []).append(number)
    options: list[list[Candidate]] = [[] for _ in pictures]
    for codecs, numbers in groups.items():
        same = [pictures[number] for number in numbers]
        if codecs[0].info.continuous:
            found = [coarse_qualities(picture, codecs[0]) for picture in same]
        else:
            found = coarse_trades(same, codecs, effort)
        for number, row in zip(numbers, found, strict=True):
            options[number] = row
    most = max(map(len, options))
    return [row + row[:1] * (most - len(row)) for row in options]


def _best_within(search: CandidateSearch, most: float, least: float) -> Candidate:
    """The best image of `least` to `most` bytes."""
    search.refine(lambda one: one.size <= most)
    fitting = [one for one in search.candidates if least <= one.size <= most]
    if not fitting:
        nearest = min((one.size for one in search.candidates), key=lambda n: _gap(n, least, most))
        wanted = f"at most {most:.0f}" if least <= 1.0 else f"{least:.0f} to {most:.0f}"
        raise RateError(f"no file of {wanted} bytes; the nearest has {nearest}", nearest)
    return search.best(fitting)


def _smallest(search: CandidateSearch, target_psnr: float, limit: int | None) -> Candidate:
    """The smallest file of at least this PSNR, dB, and of at most `limit` bytes."""
    search.refine(lambda one: one.psnr_db < target_psnr)
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


def _window(target: int | None, limit: int | None) -> tuple[float, float]:
    """Least and most bytes of a file that counts as one of the size asked for."""
    if target is None:
        assert limit is not None
        return 0.0, limit
    tolerance = max(_NEAR_BYTES, _SHARE * target)
    most = min(target + tolerance, target + tolerance if limit is None else limit)
    if most < target - tolerance:
        raise RateError(f"max_bytes {limit} excludes target_bytes {target}", float(most))
    return max(target - tolerance, 1.0), most


def _gap(size: float, least: float, most: float) -> float:
    return max(least - size, size - most, 0.0)
