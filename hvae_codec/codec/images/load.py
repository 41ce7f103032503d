"""Images in and out: anything the codec accepts becomes a uint8 array [H, W, C], C = 1 or 3.

How each kind of image is taken:

* grey stays grey ([H, W, 1]), 1-bit becomes grey, a palette becomes RGB;
* alpha in any form (a channel, a transparent palette entry or colour, opaque or not) is refused
  with AlphaError: dropping it is the caller's decision. So is CMYK. Both are converted on request
  (`conversions.py`);
* 16-bit and floating-point samples and animations are refused, not approximated;
* the orientation of EXIF is applied to a file, and to an image that Pillow opened and that is still
  the file's own. A copy of it (`rotate`, `convert`, `copy`) keeps the tag whether or not it was
  turned: its pixels are taken as they are, as Pillow saves them. `PIL.ImageOps.exif_transpose`
  turns an image before it is copied;
* a path may lead to a PNG, JPEG or WebP file, or to an uncompressed one, PPM, PGM or `.npy`: it is
  read whole and at once, never mapped;
* samples are converted to sRGB as the file states their colours (`colour.py`): ICC profile
  (perceptual intent), cICP, gAMA and cHRM, Adobe RGB or white point,
  primaries and gamma of EXIF, what an opened JPEG 2000, BMP, TIFF
  or QOI states itself; those of HDR are refused, and a statement that is damaged, of another
  colour space or of no use here is ignored with a ColourWarning.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from hvae_codec.codec.images.arrays import (
    ALPHA_ADVICE,
    check_array,
    check_tensor,
    from_array,
    from_tensor,
    is_tensor,
)
from hvae_codec.codec.images.colour import Warn, cmyk_to_srgb, to_srgb, warn_caller
from hvae_codec.codec.images.conversions import NONE, Conversions, over_background, split_alpha
from hvae_codec.codec.images.limits import MAX_PICTURE_PIXELS, check_size
from hvae_codec.codec.images.sniff import read_image_header
from hvae_codec.codec.images.stated_colour import COLOUR_OF_INFO, KEPT_AS, file_colour
from hvae_codec.codec.images.stored_arrays import layout_of, read_array
from hvae_codec.errors import AlphaError, ColourWarning, ImageError, ImageTooLargeError
from hvae_codec.utils.arguments import is_unordered

if TYPE_CHECKING:  # clients of a server take images too, and do not wait for torch
    import torch

FORMATS = ("PNG", "JPEG", "WEBP")
"""Compressed formats read from bytes and paths. Images of others: open them with Pillow first."""

Picture: TypeAlias = "NDArray[np.uint8] | Image.Image | torch.Tensor | str | os.PathLike[str]"
"""One image: array [H, W], [H, W, 1 or 3]; Pillow image; tensor [C, H, W]; path of a file."""

_ACCEPTED = (
    "uint8 array [H, W], [H, W, 1] or [H, W, 3], Pillow image, uint8 tensor [C, H, W], "
    "or path of a PNG, JPEG, WebP, PPM, PGM or .npy file"
)
# Bytes of a file that holds the largest image uncompressed, with room for metadata.
_MAX_FILE_BYTES = 4 * MAX_PICTURE_PIXELS + 2**26

_STRIP_PIXELS = 1 << 20

_OPENERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_READ_AS = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def as_uint8(image: Picture, conversions: Conversions = NONE) -> NDArray[np.uint8]:
    """Any accepted image as a C-contiguous uint8 array [H, W, C], C = 1 (grey) or 3 (RGB).

    The result may share memory with an array or tensor that was given. `conversions` are of files
    and Pillow images.

    Raises:
        AlphaError: the image has alpha, and no background is given for it.
        ImageTooLargeError: it exceeds the limits of `hvae_codec.codec.images.limits`.
        ImageError: it is of another kind, dtype or shape, has no pixels, or cannot be read.
    """
    if isinstance(image, np.ndarray):
        return from_array(image)
    if is_tensor(image):
        return from_tensor(image)
    if isinstance(image, Image.Image):
        _refuse_frames(image)
        return _from_pillow(image, MAX_PICTURE_PIXELS, conversions=conversions)
    if isinstance(image, str | os.PathLike):
        return _from_path(Path(os.fsdecode(image)), conversions)
    raise ImageError(f"an image must be a {_ACCEPTED}; got {type(image).__name__}")


def as_batch(
    images: NDArray[np.uint8] | torch.Tensor | Iterable[Picture],
) -> list[NDArray[np.uint8]]:
    """Many images, each as `as_uint8` gives it; their sizes may differ.

    Args:
        images: uint8 array [N, H, W, C], uint8 tensor [N, C, H, W], or an iterable of images of
            any kind that `as_uint8` accepts. Where it is no sequence, images that are not
            converted are copied: the next may lie in the same memory.

    Raises:
        ImageError: as `as_uint8`, the message saying which image; also for a single image.
    """
    check_batch(images)
    held = isinstance(images, Sequence | np.ndarray) or is_tensor(images)
    batch = []
    for index, image in enumerate(images):
        try:
            pixels = as_uint8(image)
            own = held or isinstance(image, str | bytes | os.PathLike | Image.Image)
            batch.append(pixels if own else pixels.copy())
        except ImageError as error:
            raise type(error)(f"image {index} of the batch: {error}") from error
    return batch


def check_batch(images: object) -> None:
    """Refuse what holds no images in an order, before one is read: ImageError."""
    if is_tensor(images):
        check_tensor(images)
    if isinstance(images, np.ndarray) or is_tensor(images):
        if images.ndim != 4:
            raise ImageError(
                "a batch must be an array [N, H, W, C], a tensor [N, C, H, W] or a list of images; "
                f"got {images.ndim} dimensions {list(images.shape)}"
            )
        return
    single = isinstance(images, str | bytes | memoryview | os.PathLike | Image.Image)
    if single or not isinstance(images, Iterable):
        raise ImageError(
            f"a batch must hold many images; got one {type(images).__name__}: put it in a list"
        )
    if is_unordered(images):
        raise ImageError(f"a {type(images).__name__} of images has no order: give a list")


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of the image in a file as stored, before any orientation is applied. No
    pixel is decoded.

    Raises:
        ImageError, OSError, ValueError: it cannot be read; `as_uint8` says more.
    """
    with path.open("rb") as file:
        layout = layout_of(file)
    if layout is not None:
        height, width = layout.shape[:2]
        return height, width
    header = read_image_header(_bytes_of(path))
    return header.height, header.width


def decode_image_bytes(
    data: bytes,
    max_pixels: int = MAX_PICTURE_PIXELS,
    name: str = "",
    warn: Warn = warn_caller,
    conversions: Conversions = NONE,
) -> NDArray[np.uint8]:
    """The image in the bytes of a PNG, JPEG or WebP file, as uint8 [H, W, C].

    Size, wholeness and what makes an image unacceptable are read from the file's structure first:
    nothing is allocated for the pixels of an image that is refused.

    Args:
        data: the whole file.
        max_pixels: refuse images of more pixels; never more than MAX_PICTURE_PIXELS.
        name: of the file, for warnings.
        warn: takes a ColourWarning; by default it is given in Python's way.
        conversions: what to convert instead of refusing it.

    Raises:
        AlphaError, ImageTooLargeError, ImageError: as `as_uint8`.
    """
    data = bytes(data)
    with _opened(data, max_pixels) as picture:
        return _from_pillow(picture, max_pixels, name, warn, conversions)


def encode_png(array: NDArray[np.uint8]) -> bytes:
    """PNG file of an image: uint8 [H, W], [H, W, 1] (grey) or [H, W, 3] (RGB).

    Raises:
        AlphaError, ImageTooLargeError, ImageError: as `as_uint8`.
    """
    pixels = from_array(array)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def upright_copy(image: Image.Image, exif: Image.Exif | None = None) -> Image.Image:
    """A copy of a Pillow image, turned as `exif` says; by default as `as_uint8` turns it."""
    stated = file_colour(image)
    image.load()  # which turns a TIFF
    turn = _turn(image) if exif is None else _TRANSPOSE.get(exif.get(_EXIF_ORIENTATION, 1))
    copy = image.copy() if turn is None else image.transpose(turn)
    if stated is not None:
        copy.info[KEPT_AS] = stated
    return copy


def with_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A copy of a Pillow image, turned as `as_uint8` turns it, of the colours of an ICC profile
    instead of those that it states; None: of sRGB.
    """
    copy = upright_copy(image)
    for key in (KEPT_AS, "exif", *COLOUR_OF_INFO):
        copy.info.pop(key, None)
    if profile is not None:
        copy.info["icc_profile"] = profile
    return copy


def _from_path(path: Path, conversions: Conversions) -> NDArray[np.uint8]:
    try:
        stored = _from_uncompressed(path) if path.is_file() else None
        if stored is not None:
            return stored
        return decode_image_bytes(_bytes_of(path), name=str(path), conversions=conversions)
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise ImageError(f"{str(path)!r} cannot be read: {error}") from error


def _bytes_of(path: Path) -> bytes:
    """A whole file. Raises ImageTooLargeError, also of a device that has no end; OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > _MAX_FILE_BYTES else file.read(_MAX_FILE_BYTES + 1)
    if (size := max(size, len(data))) > _MAX_FILE_BYTES:
        raise ImageTooLargeError(f"file of {size:,} bytes; at most {_MAX_FILE_BYTES:,}")
    return data


def _refuse_frames(picture: Image.Image) -> None:
    """Refuse an image of several frames. Of a JPEG in several sizes the first one is the image."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise ImageError(
            f"{picture.format} of {frames} frames: seek to one of them and give its copy()"
        )


def _from_uncompressed(path: Path) -> NDArray[np.uint8] | None:
    """The image of a PPM, PGM or `.npy` file; None if it is no such file."""
    with path.open("rb") as file:
        layout = layout_of(file)
        if layout is None:
            return None
        check_array(layout.dtype, layout.shape)
        return from_array(read_array(file, layout))


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """An image whose structure was checked, opened by the one reader of its format."""
    header = read_image_header(data)
    check_size(header.width, header.height, max_pixels)
    if header.animated:
        raise ImageError(f"animated {header.format}: give one of its images")
    if header.bits > 8:
        raise ImageError(f"{header.format} of {header.bits} bits per sample; at most 8 are read")
    # Not Image.open: it would try readers of other formats, and warn of sizes that are allowed.
    try:
        picture = _OPENERS[header.format](io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # readers let out errors of many kinds on damaged files
        raise _unreadable(header.format, error) from error
    if picture.size != (header.width, header.height) or getattr(picture, "is_animated", False):
        raise ImageError(f"damaged {header.format}: its parts disagree on its size or number")
    return picture


def _unreadable(format_name: str, error: Exception) -> ImageError:
    return ImageError(f"damaged or truncated {format_name}: {error or type(error).__name__}")


def _from_pillow(
    picture: Image.Image,
    max_pixels: int,
    name: str = "",
    warn: Warn = warn_caller,
    conversions: Conversions = NONE,
) -> NDArray[np.uint8]:
    check_size(*picture.size, max_pixels)
    _check_mode(picture, conversions)
    try:
        stated = file_colour(picture)  # of a file that Pillow may let go of as it loads
        picture.load()
        _check_mode(picture, conversions)  # a palette's alpha, which some readers read with pixels
        if picture.mode == "CMYK":
            upright = cmyk_to_srgb(picture, name, warn)
        elif (background := conversions.background) is not None and _has_alpha(picture):
            colours, alpha = split_alpha(picture)
            colours = to_srgb(colours, picture, stated, name, warn)
            upright = over_background(colours, alpha, background)
        else:
            read_as = _READ_AS[picture.mode]  # a conversion to the same would be a copy
            upright = picture if picture.mode == read_as else picture.convert(read_as)
            upright = to_srgb(upright, picture, stated, name, warn)
        turn = _turn(picture)
        upright = upright if turn is None else upright.transpose(turn)
    except (MemoryError, ImageError, ColourWarning):
        raise
    except Exception as error:  # readers let out errors of many kinds on damaged files
        raise _unreadable(picture.format or "picture", error) from error
    return from_array(_pixels_of(upright))


def _check_mode(picture: Image.Image, conversions: Conversions) -> None:
    """Refuse what is neither taken nor to be converted."""
    if picture.mode in _DEEP_MODES:
        raise ImageError(
            f"image of mode {picture.mode} has more than 8 bits per sample: scale it to 0..255"
        )
    if _has_alpha(picture):
        if conversions.background is None:
            raise AlphaError(f"image of mode {picture.mode} has alpha; {ALPHA_ADVICE}")
        if picture.mode in _ALPHA_MODES:
            return
    if picture.mode not in _READ_AS and not (picture.mode == "CMYK" and conversions.cmyk):
        raise ImageError(f"image of mode {picture.mode}: convert it to RGB or grey first")


def _has_alpha(picture: Image.Image) -> bool:
    """Whether it has a channel, a colour or a palette of transparency, opaque or not."""
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        return True
    palette = picture.palette if picture.mode == "P" else None
    return palette is not None and "A" in f"{palette.mode}{palette.rawmode or ''}"


def _pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    """Copied in strips: in one go Pillow makes a string of bytes of them in between."""
    width, height = picture.size
    lines = max(1, _STRIP_PIXELS // width)
    if height <= lines:
        return np.array(picture)
    pixels = np.empty((height, width, len(picture.getbands())), np.uint8)
    for top in range(0, height, lines):
        part = picture.crop((0, top, width, min(top + lines, height)))
        pixels[top : top + lines] = np.asarray(part).reshape(-1, *pixels.shape[1:])
    return pixels


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """How an opened file's pixels have to be turned; None for any other image."""
    if not isinstance(picture, ImageFile.ImageFile):
        return None
    try:
        return _TRANSPOSE.get(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # the metadata is not the image: damage there is not the image's
        return None
