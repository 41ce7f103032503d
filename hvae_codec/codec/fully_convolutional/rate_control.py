"""A size or a quality of an image by a fully convolutional model: bisection over its 256 qualities.

Bytes and PSNR grow with the quality, but for small steps back; so what bisection finds is within a
quality or two of the best, and is always checked by coding the image.
"""

from __future__ import annotations

from collections.abc import Callable

from hvae_codec.codec.candidates import Candidate, decoded_candidates
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.quality_scale import MAX_NUMBER
from hvae_codec.codec.transform import Pixels
from hvae_codec.errors import RateError


def of_size(codec: Codec, picture: Pixels, most: float, least: float = 0.0) -> bytes:
    """The file of the highest quality that has at most `most` bytes, and at least `least`.

    Raises:
        RateError: no quality has such a file; `nearest` is the size that is nearest.
    """
    sizes: dict[int, bytes] = {}

    def fits(number: int) -> bool:
        sizes[number] = codec.at_number(number).encode(picture)
        return len(sizes[number]) <= most

    number = highest_that(fits)
    if number is not None and len(sizes[number]) >= least:
        return sizes[number]
    found = sorted(len(blob) for blob in sizes.values())
    nearest = min(found, key=lambda size: max(size - most, least - size))
    wanted = f"at most {most:.0f}" if least <= 1.0 else f"{least:.0f} to {most:.0f}"
    raise RateError(f"no file of {wanted} bytes; the nearest has {nearest}", nearest)


def of_psnr(codec: Codec, picture: Pixels, psnr_db: float, most: float | None) -> bytes:
    """The file of the lowest quality whose image has at least this PSNR.

    Raises:
        RateError: no quality reaches it (`nearest`: the best PSNR), or not within `most` bytes
            (`nearest`: the PSNR within them).
    """
    tried: dict[int, Candidate] = {}

    def falls_short(number: int) -> bool:
        tried[number] = coded(codec, picture, number)
        return tried[number].psnr_db < psnr_db

    last_short = highest_that(falls_short)
    good = [one for one in tried.values() if one.psnr_db >= psnr_db]
    if not good:
        best = max(one.psnr_db for one in tried.values())
        if last_short == MAX_NUMBER:
            raise RateError(f"no file reaches {psnr_db:.2f} dB; the best has {best:.2f}", best)
        good = [coded(codec, picture, MAX_NUMBER)]
    smallest = min(good, key=lambda one: one.size)
    if most is not None and smallest.size > most:
        within = [one.psnr_db for one in tried.values() if one.size <= most]
        nearest = max(within, default=float("nan"))
        raise RateError(
            f"no file reaches {psnr_db:.2f} dB within {most:.0f} bytes; {smallest.size} bytes do",
            nearest,
        )
    return smallest.blob


def coded(codec: Codec, picture: Pixels, number: int) -> Candidate:
    """The image at the quality of a number, coded and decoded."""
    at = codec.at_number(number)
    return decoded_candidates(at, number, [picture], [1.0], [at.encode(picture)])[0]


def highest_that(holds: Callable[[int], bool]) -> int | None:
    """The highest number of a quality at which something holds that does up to a point; None if it
    holds nowhere. Nine questions.
    """
    if not holds(0):
        return None
    low, high = 0, MAX_NUMBER + 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
