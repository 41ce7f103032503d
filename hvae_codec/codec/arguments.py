"""Numbers that callers give, of any kind, as Python's own."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import HvaeCodecError


def is_real(given: object) -> bool:
    """Whether it is a number: Python's, NumPy's, a fraction or a decimal one."""
    return isinstance(given, Real | Decimal)


def real(name: str, given: object) -> float:
    """A number as a float. Raises HvaeCodecError, naming the argument."""
    if isinstance(given, Real | Decimal):
        return float(given)
    raise HvaeCodecError(f"{name} must be a number; got {type(given).__name__} {given!r}")


def byte_count(name: str, given: object) -> int:
    """A number of bytes, rounded down. Raises HvaeCodecError, naming the argument."""
    count = real(name, given)
    if not math.isfinite(count):
        raise HvaeCodecError(f"{name} must be finite; got {given!r}")
    return math.floor(count)


def whole(name: str, given: object) -> int:
    """A whole number. Raises HvaeCodecError, naming the argument."""
    if isinstance(given, Integral):
        return int(given)
    raise HvaeCodecError(f"{name} must be a whole number; got {type(given).__name__} {given!r}")


def finite(name: str, given: object) -> NDArray[np.float32]:
    """Finite numbers as an array float32. Raises HvaeCodecError, naming the argument."""
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
