"""What EXIF states of an image's colours."""

from __future__ import annotations

from typing import Literal

from PIL import ExifTags, Image

_SRGB = 1  # as ColorSpace

Stated = tuple[tuple[float, ...] | None, float | None]
"""x and y of the white point, red, green and blue, and gamma; None where it is not stated."""


def exif_colour(exif: Image.Exif) -> Stated | Literal["Adobe RGB"] | None:
    """White point and primaries, which count together alone, and gamma; None: sRGB, or nothing.

    DCF's optional colour space, with which cameras mean Adobe RGB, is given by that name. What is
    damaged raises errors of many kinds.
    """
    interoperability = exif.get_ifd(ExifTags.IFD.Interop)
    index = str(interoperability.get(ExifTags.Interop.InteropIndex, ""))
    if index.rstrip("\0 ") == "R03":
        return "Adobe RGB"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    if details.get(ExifTags.Base.ColorSpace) == _SRGB:
        return None
    white, primaries = (
        exif.get(tag) for tag in (ExifTags.Base.WhitePoint, ExifTags.Base.PrimaryChromaticities)
    )
    gamma = details.get(ExifTags.Base.Gamma)
    points = None
    if white is not None and primaries is not None:
        points = tuple(map(float, (*white, *primaries)))
    if points is None and gamma is None:
        return None
    return points, None if gamma is None else float(gamma)
