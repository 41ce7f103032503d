"""Colour of images that come in: what a file states of its samples, and their conversion to sRGB.

The first statement that is there counts, in the order of the PNG specification: cICP (nclx where an
AVIF has no ICC profile), ICC profile, sRGB chunk, gAMA and cHRM; then Adobe RGB as EXIF states it.
What other formats state stands where cICP does, unless there is an ICC profile.
A statement counts by what it does to colours, never by its name: each becomes an ICC profile, and
one that moves no level by more than `TOLERANCE` leaves the image as it is.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile

from hvae_codec.codec.images.colour_codes import Cicp, profile_cicp
from hvae_codec.codec.images.stated_colour import (
    GAMMA_TOLERANCE,
    POINT_TOLERANCE,
    SRGB_GAMMA,
    SRGB_POINTS,
    Ignored,
    Statement,
)
from hvae_codec.errors import ColourWarning, ImageError

TOLERANCE = 2
"""Levels of 255 by which a profile may differ from sRGB and still be taken as sRGB."""

ContextIds: TypeAlias = "tuple[int, ...]"
Info: TypeAlias = "dict[str | tuple[int, int], Any]"
Warn: TypeAlias = "Callable[[ColourWarning], None]"
"""What is done with a warning; Python's own way is not for several threads."""

Points: TypeAlias = "tuple[float, ...]"
"""x and y of the white point, red, green and blue."""

_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
_SRGB: Points = SRGB_POINTS
_ADOBE: Points = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA = 563 / 256
# ITU-T H.273, table 2: its code 2 is "unspecified".
_PRIMARIES: dict[int, Points] = {
    1: _SRGB,
    2: _SRGB,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
# Table 3: gammas; None is sRGB's curve, as which viewers show those of television, too.
_TRANSFERS: dict[int, float | None] = {
    **dict.fromkeys((1, 2, 6, 7, 13, 14, 15)),
    4: 2.2,
    5: 2.8,
    8: 1.0,
}
_UNSPECIFIED = Cicp(2, 2, 0, True)  # which leaves it to what else is stated
_HDR = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}
_GAMMAS = (0.01, 100.0)  # of a gAMA chunk; beyond them nothing is left of an image
_CACHED_BYTES = 1 << 16
_D50 = (0.9642, 1.0, 0.8249)  # of ICC's connection space
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_GREYS = Image.frombytes("L", (256, 1), bytes(range(256)))


def warn_caller(warning: ColourWarning) -> None:
    """Warn in Python's way."""
    warnings.warn(warning, stacklevel=3)


def to_srgb(
    picture: Image.Image,
    source: Image.Image,
    stated: Statement | None,
    name: str,
    warn: Warn = warn_caller,
) -> Image.Image:
    """An image of mode L or RGB with its samples converted to sRGB; itself if nothing is to do.

    Args:
        picture: the samples.
        source: the image that they are of; its `info` and EXIF are read.
        stated: what its file states beside that, as `stated_colour.file_colour` gives it.
        name: where it is from, for a warning; may be empty.
        warn: takes the warning.

    Raises:
        ImageError: its transfer function is one of HDR, or it is of unknown codes.

    Warns:
        ColourWarning: what it states cannot be used; the samples are taken as sRGB.
    """
    try:
        profile = _stated_profile(source, stated)
        if profile is None:
            return picture
        _refuse_hdr(profile_cicp(profile))
        return _converted(picture, profile)
    except _UnusableError as error:
        reason = str(error)
    except (ImageCms.PyCMSError, OSError, UnicodeError):
        reason = "damaged ICC profile"
    except ImportError:
        reason = "Pillow was built without LittleCMS"
    # Without a name one of few texts: Python keeps each that it has shown.
    message = f"{name}: {reason}" if name else reason
    warn(ColourWarning(f"{message}: its samples are taken as sRGB"))
    return picture


def cmyk_to_srgb(picture: Image.Image, name: str, warn: Warn = warn_caller) -> Image.Image:
    """An image of mode CMYK as one of mode RGB: by its ICC profile (perceptual intent), or, where
    it has none, each ink as the opposite of its colour.

    Args:
        picture: the image.
        name: where it is from, for a warning; may be empty.
        warn: takes the warning.

    Warns:
        ColourWarning: its profile cannot be used; it is taken as if it had none.
    """
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture.convert("RGB")
    srgb = ImageCms.createProfile("sRGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(bytes(profile)))
        converted = ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError):
        where = f"{name}: " if name else ""
        warn(ColourWarning(f"{where}ICC profile of no use for CMYK: its inks are taken as plain"))
        return picture.convert("RGB")
    return cast(Image.Image, converted)


class _UnusableError(Exception):
    """A statement of colour that is damaged or of no use here."""


def _stated_profile(source: Image.Image, stated: Statement | None) -> bytes | None:
    """ICC profile of what is stated; None if that is sRGB, or nothing."""
    info, icc = source.info, source.info.get("icc_profile")
    if stated not in (None, _UNSPECIFIED) and not (icc and source.format != "PNG"):
        return _profile_of_statement(stated)
    if isinstance(icc, bytes | bytearray | memoryview) and len(icc) > 0:
        return bytes(icc)
    if icc or ("icc_profile" in info and isinstance(source, ImageFile.ImageFile)):
        raise _UnusableError("damaged ICC profile")  # that Pillow could not read
    if getattr(source, "icclist", None):
        raise _UnusableError("ICC profile behind the frame header of a JPEG")
    if "srgb" in info:
        return None
    if "gamma" in info or "chromaticity" in info:
        return _profile_of_png(info)
    return _rgb_profile(_ADOBE, _ADOBE_GAMMA) if _states_adobe_rgb(source) else None


def _profile_of_statement(stated: Statement) -> bytes | None:
    if isinstance(stated, bytes):
        return stated
    if isinstance(stated, Cicp):
        return _profile_of_codes(stated)
    if isinstance(stated, Ignored):
        raise _UnusableError(stated.reason)
    try:
        return _profile_unless_srgb(stated.points, stated.gamma)
    except _UnusableError as error:
        raise _UnusableError("damaged white point or primaries") from error


def _profile_of_codes(cicp: Cicp) -> bytes | None:
    _refuse_hdr(cicp)
    if cicp.matrix != 0:
        raise _UnusableError("damaged cICP chunk")
    if not cicp.full_range:
        raise ImageError("image of narrow range (cICP): convert it to levels from 0 to 255 first")
    if cicp.transfer not in _TRANSFERS:
        raise ImageError(
            f"image with transfer function {cicp.transfer} of ITU-T H.273; "
            f"allowed: {', '.join(map(str, sorted(_TRANSFERS)))}. Convert it to sRGB first"
        )
    if cicp.primaries not in _PRIMARIES:
        raise ImageError(
            f"image with colour primaries {cicp.primaries} of ITU-T H.273; "
            f"allowed: {', '.join(map(str, sorted(_PRIMARIES)))}. Convert it to sRGB first"
        )
    return _profile_unless_srgb(_PRIMARIES[cicp.primaries], _TRANSFERS[cicp.transfer])


def _refuse_hdr(cicp: Cicp | None) -> None:
    if cicp is not None and cicp.transfer in _HDR:
        raise ImageError(
            f"HDR image with the transfer function {_HDR[cicp.transfer]}: "
            "its samples are no sRGB; convert it to SDR first"
        )


def _profile_of_png(info: Info) -> bytes | None:
    gamma, points = None, _SRGB
    if (encoding := info.get("gamma")) is not None:
        if not _GAMMAS[0] <= encoding <= _GAMMAS[1]:
            raise _UnusableError("damaged gAMA chunk")
        if abs(encoding * SRGB_GAMMA - 1) > GAMMA_TOLERANCE:
            gamma = 1 / encoding
    if (stated := info.get("chromaticity")) is not None:
        points = tuple(stated)
    return _profile_unless_srgb(points, gamma)


def _states_adobe_rgb(source: Image.Image) -> bool:
    """Whether EXIF states DCF's optional colour space, with which cameras mean Adobe RGB."""
    if not ({"exif", "Raw profile type exif"} & source.info.keys()):
        return False
    try:
        interoperability = source.getexif().get_ifd(ExifTags.IFD.Interop)
        index = str(interoperability.get(ExifTags.Interop.InteropIndex, ""))
    except MemoryError:
        raise
    except Exception:  # the metadata is not the image: damage there is not the image's
        return False
    return index.rstrip("\0 ") == "R03"


def _converted(picture: Image.Image, profile: bytes) -> Image.Image:
    effect = _effect if len(profile) <= _CACHED_BYTES else _effect.__wrapped__
    same, levels, grey_profile = effect(profile, picture.mode)
    if same:
        return picture
    if picture.mode == "L" or grey_profile:
        return picture.point(levels * len(picture.getbands()))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"))
    return cast(Image.Image, converted)


@functools.lru_cache(maxsize=64)
def _effect(profile: bytes, mode: str) -> tuple[bool, ContextIds, bool]:
    """What converting from a profile to sRGB does: whether nothing, to each level of grey, and
    whether the profile is one of grey.

    Raises:
        ImageCms.PyCMSError, OSError: it is damaged. _UnusableError: it is of another space.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if space not in ("RGB", "GRAY"):
        raise _UnusableError("ICC profile of another colour space than RGB or grey")
    srgb = ImageCms.createProfile("sRGB")
    read_as = "L" if space == "GRAY" else "RGB"
    transform = ImageCms.buildTransform(
        source, srgb, read_as, "RGB", flags=ImageCms.Flags.NOOPTIMIZE
    )
    greys = np.asarray(ImageCms.applyTransform(_GREYS.convert(read_as), transform))
    levels = tuple(int(level) for level in greys[0, :, 1])
    shown = Image.fromarray(_lattice()) if mode == "RGB" and space == "RGB" else None
    moved = max(abs(level - index) for index, level in enumerate(levels))
    if shown is not None:
        after = np.asarray(ImageCms.applyTransform(shown, transform)).astype(int)
        moved = max(moved, int(np.abs(after - _lattice()).max()))
    return moved <= TOLERANCE, levels, space == "GRAY"


@functools.cache
def _lattice() -> NDArray[np.uint8]:
    """Colours spread over the cube, uint8 [17, 289, 3]."""
    axis = np.linspace(0, 255, 17).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    return np.ascontiguousarray(colours.reshape(17, 289, 3))


def _profile_unless_srgb(points: Points, gamma: float | None) -> bytes | None:
    near = np.allclose(points, _SRGB, rtol=0, atol=POINT_TOLERANCE)
    return None if near and gamma is None else _rgb_profile(points, gamma)


def _rgb_profile(points: Points, gamma: float | None) -> bytes:
    """ICC profile of an RGB space; `gamma` None: sRGB's curve.

    Raises:
        _UnusableError: the points span no space.
    """
    colorants = _colorants(points)
    if gamma is None:
        curve = b"para" + struct.pack(">4xH2x", 3)
        curve += _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    else:
        curve = b"para" + struct.pack(">4xH2x", 0) + _fixed(gamma)
    parts = {b"wtpt": b"XYZ " + bytes(4) + _fixed(*_D50)}
    for name, column in zip((b"r", b"g", b"b"), colorants.T, strict=True):
        parts[name + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(*column)
        parts[name + b"TRC"] = curve
    table, bodies, start = b"", b"", 132 + 12 * len(parts)
    for tag, body in parts.items():
        table += tag + struct.pack(">II", start + len(bodies), len(body))
        bodies += body
    head = struct.pack(">I4xI", start + len(bodies), 0x04300000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_D50)
    return head + bytes(48) + struct.pack(">I", len(parts)) + table + bodies


def _colorants(points: Points) -> NDArray[np.float64]:
    """XYZ of red, green and blue in the columns of [3, 3], their white adapted to D50."""
    x, y = np.array(points, dtype=np.float64).reshape(4, 2).T
    if not (y > 0).all():
        raise _UnusableError("damaged cHRM chunk")
    white, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)
    columns = np.array(primaries).T
    if abs(np.linalg.det(columns)) < 1e-6:
        raise _UnusableError("damaged cHRM chunk")
    scaled = columns * np.linalg.solve(columns, white)
    cones = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ (cones[:, None] * _BRADFORD) @ scaled
    if not (np.isfinite(adapted).all() and np.abs(adapted).max() < 100):
        raise _UnusableError("damaged cHRM chunk")
    return adapted


def _fixed(*numbers: float) -> bytes:
    """s15Fixed16 numbers of ICC."""
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)
