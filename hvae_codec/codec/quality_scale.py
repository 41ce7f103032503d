"""The scale on which users state the quality of a model that has many, and what is encoded with."""

from __future__ import annotations

from typing import NamedTuple

from hvae_codec.errors import HvaeCodecError, UnknownQualityError
from hvae_codec.utils.arguments import is_real, real, shown, whole

LOWEST, HIGHEST = 1.0, 100.0
"""Ends of the scale."""

MAX_NUMBER = 255
"""In files a quality is a number from 0, for LOWEST, to this, for HIGHEST."""


def as_quality(quality: object) -> float:
    """A quality of any kind of number as a float.

    Raises:
        UnknownQualityError: it is no number.
    """
    if not is_real(quality):
        kind = type(quality).__name__
        raise UnknownQualityError(f"a quality is a number; got {kind} {shown(quality)}")
    try:
        return real("a quality", quality)
    except HvaeCodecError as error:
        raise UnknownQualityError(str(error)) from error


def quality_number(quality: float) -> int:
    """The number in a file, 0..MAX_NUMBER, of a quality between LOWEST and HIGHEST.

    Raises:
        UnknownQualityError: it lies elsewhere.
    """
    quality = as_quality(quality)
    if not LOWEST <= quality <= HIGHEST:
        raise UnknownQualityError(
            f"qualities of this model lie in {LOWEST:g}..{HIGHEST:g}, not {quality!r}"
        )
    return round((quality - LOWEST) / (HIGHEST - LOWEST) * MAX_NUMBER)


def checked_number(number: int) -> int:
    """A quality's number in files.

    Raises:
        UnknownQualityError: it does not lie in 0..MAX_NUMBER.
    """
    number = whole("a quality's number", number)
    if not 0 <= number <= MAX_NUMBER:
        raise UnknownQualityError(
            f"a quality's number lies in 0..{MAX_NUMBER}, not {shown(number)}"
        )
    return number


def stated_quality(number: int) -> float:
    """The quality between LOWEST and HIGHEST that a number in a file stands for: the whole number
    that has it, if there is one, else with 2 decimals.
    """
    exact = LOWEST + number * (HIGHEST - LOWEST) / MAX_NUMBER
    whole = float(round(exact))
    return whole if quality_number(whole) == number else round(exact, 2)


class OperatingPoint(NamedTuple):
    """What a codec encodes with; files of any point are decoded alike.

    number: the quality's number in files, 0..255, of a model of many qualities; else None.
    effort: 0 rounds what the networks say; 1 and 2 search for better symbols.
    trade: what a byte is worth to that search, times the weight that the model trained with.
    """

    number: int | None = None
    effort: int = 0
    trade: float = 1.0
