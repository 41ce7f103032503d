"""Numbers and paths that callers give, of any kind, as Python's own."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import HvaeCodecError, UnknownQualityError

_SHOWN = 80


def shown(given: object) -> str:
    """An argument as messages show it, its text cut off where it is long. It never raises."""
    try:
        text = repr(given)
    except Exception:  # of any class: some tensors cannot be shown, nor integers of many digits
        return f"a {type(given).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _kind_of(given: object) -> str:
    return f"{type(given).__name__} {shown(given)}"


def is_unordered(given: object) -> bool:
    """Whether it is a set, whose order differs from run to run."""
    return isinstance(given, set | frozenset)


def is_masked(given: object) -> bool:
    """Whether values are masked in an array of NumPy, or in a list of arrays or of rows of values.

    `numpy.asarray` would give what lies under the mask.
    """
    if not isinstance(given, list | tuple):
        return bool(np.ma.is_masked(given))
    parts = [each if isinstance(each, list | tuple) else (each,) for each in given]
    return any(isinstance(each, np.ma.MaskedArray) and is_masked(each) for p in parts for each in p)


def is_real(given: object) -> bool:
    """Whether it is a number: Python's, NumPy's, a fraction or a decimal one."""
    return isinstance(given, Real | Decimal) and not isinstance(given, np.timedelta64)


def is_whole(given: object) -> bool:
    """Whether it is a whole number, Python's or NumPy's."""
    return isinstance(given, Integral) and is_real(given)


def path_of(name: str, given: object) -> Path:
    """A path. Raises HvaeCodecError, naming the argument."""
    if not isinstance(given, str | os.PathLike):
        raise HvaeCodecError(f"{name} must be a path; got {_kind_of(given)}")
    text = os.fsdecode(given)
    if not text or "\0" in text:
        raise HvaeCodecError(f"{name} must be a path of a file; got {shown(text)}")
    return Path(text)


def real(name: str, given: object) -> float:
    """A number as a float. Raises HvaeCodecError, naming the argument."""
    if not is_real(given):
        raise HvaeCodecError(f"{name} must be a number; got {_kind_of(given)}")
    try:
        return float(given)  # type: ignore[arg-type]
    except (OverflowError, ValueError) as error:  # ValueError: a signalling NaN
        raise HvaeCodecError(
            f"{name} must be a number that a float can hold; got {shown(given)}"
        ) from error


def equals(given: object, number: float) -> bool:
    """Whether it is this number; never raises, whatever it is."""
    try:
        return is_real(given) and float(given) == number  # type: ignore[arg-type]
    except (OverflowError, ValueError):
        return False


def flag(name: str, given: object) -> bool:
    """True or False, also as a whole number. Raises HvaeCodecError, naming the argument."""
    if is_whole(given) or isinstance(given, np.bool_):
        return bool(given)
    raise HvaeCodecError(f"{name} must be True or False; got {_kind_of(given)}")


def decibels(name: str, given: object) -> float:
    """A number of dB, of which infinity is one. Raises HvaeCodecError, naming the argument."""
    value = real(name, given)
    if math.isnan(value):
        raise HvaeCodecError(f"{name} must be a number of dB; got {shown(given)}")
    return value


def byte_count(name: str, given: object) -> int:
    """A number of bytes, rounded down. Raises HvaeCodecError, naming the argument."""
    count = real(name, given)
    if not math.isfinite(count):
        raise HvaeCodecError(f"{name} must be finite; got {shown(given)}")
    return math.floor(count)


def whole(name: str, given: object) -> int:
    """A whole number. Raises HvaeCodecError, naming the argument."""
    if is_whole(given):
        return int(given)  # type: ignore[call-overload, no-any-return]
    raise HvaeCodecError(f"{name} must be a whole number; got {_kind_of(given)}")


def take(owner: object, name: str, read: Callable[[str, object], object]) -> None:
    """Make a field of a frozen data class what `read` makes of it, unless it is None.

    Raises HvaeCodecError, naming the field."""
    given = getattr(owner, name)
    if given is not None:
        object.__setattr__(owner, name, read(name, given))


def finite(name: str, given: object) -> NDArray[np.float32]:
    """Finite numbers as an array float32. Raises HvaeCodecError, naming the argument."""
    if is_masked(given):
        raise HvaeCodecError(f"{name} must have a value everywhere; some are masked")
    try:
        array = np.asarray(given)
        numbers = array.astype(np.float32) if array.dtype.kind in "biufO" else None
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise HvaeCodecError(f"{name} must hold numbers: {error}") from error
    if numbers is None:
        raise HvaeCodecError(f"{name} must hold numbers; got {array.dtype} {list(array.shape)}")
    if not np.isfinite(numbers).all():
        raise HvaeCodecError(f"{name} must be finite; got some that are not")
    return numbers


def layer_count(layers: int | None, total: int) -> int:
    """How many of `total` layers are asked for (None: all).

    Raises UnknownQualityError, a ValueError, for a number of layers that there is not.
    """
    if layers is None:
        return total
    if not (is_whole(layers) and 1 <= layers <= total):
        raise UnknownQualityError(f"layers must lie in 1..{total}, not {shown(layers)}")
    return int(layers)


def sample_arguments(count: Any, seed: Any, temperature: Any) -> tuple[int, int, float]:
    """Arguments of `sample` as Python's own numbers.

    Raises HvaeCodecError for others."""
    number, start = whole("count", count), whole("seed", seed)
    if not (1 <= number < 2**31 and 0 <= start < 2**63):
        raise HvaeCodecError(
            f"count must be in 1..2^31-1 and seed in 0..2^63-1; got {shown(count)}, {shown(seed)}"
        )
    scale = real("temperature", temperature)
    if not 0.0 <= scale < math.inf:
        raise HvaeCodecError(f"temperature must be finite and at least 0; got {shown(temperature)}")
    return number, start, scale
