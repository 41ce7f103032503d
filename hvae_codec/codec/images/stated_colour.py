"""What image files state of their colours and Pillow does not give out.

It is read from the file behind an image while that is open; of a TIFF from its tags. Once Pillow
has loaded an image of a path and closed its file, it is read from the file that now lies there, if
this has the same pixels. Otherwise what the image states is not known, and said so.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageFile

from hvae_codec.codec.images.colour_codes import (
    MAX_META_BYTES,
    Cicp,
    avif_cicp,
    box_of_file,
    boxes,
    png_cicp,
)
from hvae_codec.utils.import_time import changed_since_import

_DAMAGED = (OSError, ValueError, struct.error, IndexError)  # which Pillow judges

SRGB_POINTS = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""x and y of the white point, red, green and blue of sRGB."""

SRGB_GAMMA = 2.2
"""How files that know gammas alone state sRGB."""

GAMMA_TOLERANCE = 0.05
POINT_TOLERANCE = 0.002

KEPT_AS = "stated_colour"
"""Where the `info` of an upright copy has what the file of its original states."""

_FIXED_TOLERANCE = 0.005  # of the points of a BMP, which writers round
_TABLE_TOLERANCE = 2.0  # levels of 255
# Tags of TIFF.
_BITS, _PHOTOMETRIC, _TRANSFER_FUNCTION, _WHITE_POINT, _PRIMARIES = 258, 262, 301, 318, 319
_REFERENCE_BLACK_WHITE = 532
_GREY_OR_RGB = (0, 1, 2)
_QOI_COLOUR_SPACE = 13
COLOUR_OF_INFO = ("icc_profile", "srgb", "gamma", "chromaticity")
"""Where Pillow's readers put what a file states."""
_COMPARED_PIXELS = 1 << 20  # at a time
# Enumerated colour spaces of JPEG 2000 whose samples Pillow gives as sRGB or grey.
_JP2_SRGB = frozenset({0, 15, 16, 17, 18})


class Calibration(NamedTuple):
    """White point and primaries as `SRGB_POINTS`, and a gamma; None: that of sRGB."""

    points: tuple[float, ...]
    gamma: float | None


class Ignored(NamedTuple):
    """A statement that is damaged or that nothing here can use, in words."""

    reason: str


Statement: TypeAlias = "Cicp | Calibration | Ignored | bytes"
"""Codes, a calibration, what is ignored, or an ICC profile."""


def file_colour(image: Image.Image) -> Statement | None:
    """What the file states that an image was opened from; None if nothing.

    A copy that Pillow makes of an opened image knows of no file, nor does a loaded one from memory.
    Of a loaded one from a path, whose file is gone or has other pixels by now, it is `Ignored`, or
    None where the image's `info` has a colour, or the file is older than this process and states
    nothing: pixels of its image were changed, as by `thumbnail`.
    """
    kept = image.info.get(KEPT_AS)  # of a copy that `images.upright_copy` made
    if isinstance(kept, Cicp | Calibration | Ignored | bytes):
        return kept
    stated = image.info.get("nclx_profile")  # of pillow-heif
    if isinstance(stated, dict) and "transfer_characteristics" in stated:
        primaries = int(stated.get("color_primaries", 2))
        return Cicp(primaries, int(stated["transfer_characteristics"]), 0, True)
    if not isinstance(image, ImageFile.ImageFile):
        return None
    if image.format == "TIFF":
        return _of_tags(getattr(image, "tag_v2", {}))
    read = _READERS.get(image.format or "")
    return None if read is None else _of_file(image, read)


def _of_file(image: ImageFile.ImageFile, read: _Reader) -> Statement | None:
    # An image that was pickled has no `fp`; one in memory, once loaded, has its file as `_fp`.
    for place in ("fp", "_fp"):
        file = getattr(image, place, None)
        if file is not None and _is_open(file):
            with suppress(*_DAMAGED):
                return _kept_position(file, read)
            return None
    name = getattr(image, "filename", "")
    return _of_path(image, Path(os.fsdecode(name)), read) if name else None


def _of_path(image: ImageFile.ImageFile, path: Path, read: _Reader) -> Statement | None:
    """Of the file that lies where an image was opened from, if that has the image's pixels."""
    # Pillow keeps nothing of a closed file that would tell it from another one.
    try:
        with path.open("rb") as file:
            same, stated = _has_pixels(file, image), None
            with suppress(*_DAMAGED):
                stated = _kept_position(file, read)
            if same or (stated is None and not changed_since_import(file)):
                return stated
    except MemoryError:
        raise
    except Exception:  # readers let out errors of many kinds: it is another file
        pass
    if any(key in image.info for key in COLOUR_OF_INFO):
        return None
    return Ignored(
        f"{image.format} that was loaded before and whose file is gone or has other pixels now, so "
        "that what it states of its colour is not known"
    )


def _has_pixels(file: IO[bytes], image: ImageFile.ImageFile) -> bool:
    """Whether it has the size, mode, pixels and `info` of colour of an image of the same format."""
    found = type(image)(file)
    if (found.size, found.mode) != (image.size, image.mode):
        return False
    found.load()
    if any(found.info.get(key) != image.info.get(key) for key in COLOUR_OF_INFO):
        return False
    width, height = image.size
    lines = max(1, _COMPARED_PIXELS // width)
    boxes_of_lines = [(0, top, width, min(top + lines, height)) for top in range(0, height, lines)]
    same = found.getpalette() == image.getpalette()
    return same and all(
        found.crop(box).tobytes() == image.crop(box).tobytes() for box in boxes_of_lines
    )


def _is_open(file: IO[bytes]) -> bool:
    with suppress(*_DAMAGED):
        file.tell()
        return True
    return False


def _kept_position(file: IO[bytes], read: _Reader) -> Statement | None:
    position = file.tell()
    try:
        file.seek(0)
        return read(file)
    finally:
        file.seek(position)


def _jpeg2000(file: IO[bytes]) -> Statement | None:
    """Of the first box colr, which counts: an ICC profile, or the number of a colour space."""
    header = box_of_file(file, b"jp2h")
    colours = () if header is None else (body for kind, body in boxes(header) if kind == b"colr")
    for body in colours:
        method, rest = body[0], body[3:]
        if method in (2, 3):
            return bytes(rest)
        if method != 1:
            return Ignored("colour of JPEG 2000 that is neither sRGB nor an ICC profile")
        number = int.from_bytes(rest[:4])
        return None if number in _JP2_SRGB else Ignored(f"colour space {number} of JPEG 2000")
    return None


def _bmp(file: IO[bytes]) -> Statement | None:
    file.seek(14)
    return _dib(file)


def _dib(file: IO[bytes]) -> Statement | None:
    """Of a header of version 4, or of 5, which may have an ICC profile behind the pixels."""
    start = file.tell()
    size = int.from_bytes(file.read(4), "little")
    if size not in (108, 124):
        return None
    header = file.read(size - 4)
    kind, *numbers = struct.unpack("<I9I3I", header[52:104])
    if kind == int.from_bytes(b"MBED") and size == 124:
        offset, length = struct.unpack("<2I", header[108:116])
        file.seek(start + offset)
        return file.read(min(length, MAX_META_BYTES)) or Ignored("damaged ICC profile")
    if kind == 0:
        same = _states_srgb(numbers[:9], numbers[9:])
        return None if same else Ignored("primaries and gamma of a BMP")
    if kind in (int.from_bytes(b"sRGB"), int.from_bytes(b"Win ")):
        return None
    return Ignored("linked ICC profile" if kind == int.from_bytes(b"LINK") else "colour of a BMP")


def _states_srgb(ends: list[int], gammas: list[int]) -> bool:
    """Whether a BMP's x, y and z of its primaries, and its gammas, are those of sRGB, or none."""
    points = np.array(ends, np.float64).reshape(3, 3) / 2**30
    same = True
    if points.any():
        points /= np.maximum(points.sum(axis=1, keepdims=True), 1e-9)
        found, srgb = points[:, :2].ravel(), SRGB_POINTS[2:]
        same = bool(np.allclose(found, srgb, rtol=0, atol=_FIXED_TOLERANCE))
    gamma = np.array(gammas) / 2**16
    return same and not (np.abs(gamma[gamma > 0] / SRGB_GAMMA - 1) > GAMMA_TOLERANCE).any()


def _qoi(file: IO[bytes]) -> Statement | None:
    linear = file.read(_QOI_COLOUR_SPACE + 1)[_QOI_COLOUR_SPACE] == 1
    return Calibration(SRGB_POINTS, 1.0) if linear else None


def _of_tags(tags: Any) -> Statement | None:
    """Of TIFF: a transfer function, which counts where it is sRGB's, and white and primaries."""
    with suppress(TypeError, ValueError, ZeroDivisionError):
        if not _has_full_range(tags):
            return Ignored("reference black and white of a TIFF")
        table = tags.get(_TRANSFER_FUNCTION)
        if table is not None and not _is_srgb_table(np.array(table, np.float64)):
            return Ignored("transfer function of a TIFF")
        white, primaries = tags.get(_WHITE_POINT), tags.get(_PRIMARIES)
        if white is None and primaries is None:
            return None
        points = tuple(map(float, (*(white or SRGB_POINTS[:2]), *(primaries or SRGB_POINTS[2:]))))
        if len(points) != len(SRGB_POINTS) or not all(0 <= point <= 1 for point in points):
            raise ValueError
        if np.allclose(points, SRGB_POINTS, rtol=0, atol=POINT_TOLERANCE):
            return None
        if white is None or primaries is None:
            return Ignored("white point or primaries alone, of a TIFF,")
        return Calibration(points, None)
    return Ignored("damaged white point, primaries or transfer function of a TIFF")


def _has_full_range(tags: Any) -> bool:
    reference = tags.get(_REFERENCE_BLACK_WHITE)
    if reference is None or tags.get(_PHOTOMETRIC) not in _GREY_OR_RGB:
        return True
    white = 2 ** int(tags.get(_BITS, (1,))[0]) - 1
    return np.array(reference, np.float64).reshape(-1, 2).tolist() in (
        [[0, white]],
        [[0, white]] * 3,
    )


def _is_srgb_table(table: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """Whether light from 0 to 65535 of each level is that of sRGB's curve, or of its gamma."""
    if table.size % 256:
        return False
    light = table.reshape(-1, 256) / 65535
    levels = np.arange(256)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    shown = (255 * curve, 255 * light ** (1 / SRGB_GAMMA))
    return any(bool((np.abs(each - levels) <= _TABLE_TOLERANCE).all()) for each in shown)


_Reader: TypeAlias = "Callable[[IO[bytes]], Statement | None]"
_READERS: dict[str, _Reader] = {
    "PNG": png_cicp,
    "AVIF": avif_cicp,
    "JPEG2000": _jpeg2000,
    "BMP": _bmp,
    "DIB": _dib,
    "QOI": _qoi,
}
