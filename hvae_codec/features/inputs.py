"""What a transformer is given as X: arrays of images, flat or not, or lists of many kinds.

Arrays of numbers are read as follows, and refused where they could mean two things:

* uint8 values are grey levels 0..255, always;
* other whole numbers with one above 1 among them are grey levels, too;
* floats in [0, 1] with a fraction among them are levels divided by 255, and rounded to those;
* whole numbers 0 and 1 (and no others, not uint8) could be either: refused, unless all are 0;
* a flat row is one image of the model's own size: its values in the order height, width,
  channels, or, where rows are planar, channels, height, width; or height, width for a grey one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hvae_codec.codec.archive.reader import Archive
from hvae_codec.codec.bitstream.encoded import read_file
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.features import Features, joined, none_of
from hvae_codec.codec.images.arrays import check_tensor
from hvae_codec.errors import HvaeCodecError, ImageError
from hvae_codec.features.archive_pictures import ArchivePicture, ArchivePictures, archive_features
from hvae_codec.utils.arguments import is_masked, is_unordered, shown

Rows = Literal["interleaved", "planar"]
"""Order of the values of a flat row: height, width, channels; or channels, height, width."""

FILE_SUFFIX, ARCHIVE_SUFFIX = ".hvae", ".hvaa"


def features_of(
    codec: Codec, given: Any, layers: int, batch_size: int, rows: Rows = "interleaved"
) -> list[Features]:
    """Features [N, D_l] of the first `layers` layers, top first, of whatever `given` holds.

    At most `batch_size` images or files are in memory at once, beside those in `given` itself.

    Raises:
        ImageError: it is, or holds, what no image can be made of.
        BitstreamError, OSError: a file cannot be read, or is of another model.
    """
    if isinstance(given, Archive) or _suffix(given) == ARCHIVE_SUFFIX:
        given = ArchivePictures(given)
    if isinstance(given, ArchivePictures):
        return archive_features(given, codec, layers, batch_size)
    items = _items(given, codec.info.image_shape, rows)
    kinds = {_kind(item) for item in items} if isinstance(items, list) else {"picture"}
    if len(kinds) > 1:
        raise ImageError(
            f"X mixes {' and '.join(sorted(f'{kind}s' for kind in kinds))}; take them apart: "
            "latents of images and latents as they were coded are not the same"
        )
    if kinds == {"archived image"}:
        return archive_features(items, codec, layers, batch_size)
    parts = []
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        if kinds == {"encoded file"}:
            files = [
                read_file(Path(os.fsdecode(item))) if _suffix(item) else item for item in batch
            ]
            parts.append(codec.layer_features_from_bytes(files, layers))
        else:
            parts.append(codec.layer_features(batch, layers))
    if not parts:
        return none_of(codec.info.z_dims[:layers])
    return joined(parts, np.arange(len(items)))


def check_rows(rows: object) -> None:
    """Raises HvaeCodecError unless it is an order of the values of flat rows."""
    if not isinstance(rows, str) or rows not in get_args(Rows):
        raise HvaeCodecError(f"rows {shown(rows)}; allowed: 'interleaved', 'planar'")


def refuse_sparse(given: Any) -> None:
    """Raises ImageError if X is a sparse matrix."""
    if hasattr(given, "toarray"):
        raise ImageError("sparse matrices are not taken: images are dense, use X.toarray()")


def pictures_of(
    array: NDArray[Any], image_shape: tuple[int, int, int], rows: Rows = "interleaved"
) -> NDArray[np.uint8]:
    """Images uint8 [N, H, W, C] of an array of numbers: [N, H, W, C], or [N, columns] flat.

    image_shape: (C, H, W) of the model, whose size flat rows have. rows: the order of their values.

    Raises:
        ImageError: another shape, or values that are no grey levels or could mean two things.
    """
    channels, height, width = image_shape
    if array.ndim == 2:
        allowed = {height * width * c: c for c in (1, channels)}
        if array.shape[1] not in allowed:
            sizes = ", or ".join(f"{n} ({height} x {width} x {c})" for n, c in allowed.items())
            order = "channels, height, width" if rows == "planar" else "height, width, channels"
            raise ImageError(
                f"flat rows of {array.shape[1]} features are no images of the model's size; it "
                f"takes {sizes}, in the order {order}"
            )
        channels = allowed[array.shape[1]]
        if rows == "planar":
            array = array.reshape(len(array), channels, height, width).transpose(0, 2, 3, 1)
        else:
            array = array.reshape(len(array), height, width, channels)
    if array.ndim != 4:
        raise ImageError(
            "an array of images is [N, H, W, C], or flat [N, H*W*C]; got "
            f"{array.ndim} dimensions, {list(array.shape)}: reshape your data"
        )
    return grey_levels(array)


def grey_levels(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers as grey levels 0..255, by the rules at the top of this file.

    Raises:
        ImageError: they are no levels, or could be two kinds of them.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise ImageError(f"images are arrays of numbers; got {array.dtype}")
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 255.0):  # NaN and inf too
        raise ImageError(
            f"grey levels lie in 0..255 (or [0, 1] as floats), without NaN or inf; found values "
            f"from {low:g} to {high:g}"
        )
    rounded = np.rint(array)
    whole = array.dtype.kind != "f" or bool(np.abs(array - rounded).max() == 0.0)
    if high > 1.0:
        if not whole:
            raise ImageError(
                f"floats up to {high:g} with fractions are neither grey levels 0..255 nor levels "
                "divided by 255: give levels as they are in image files, not standardised"
            )
        return np.asarray(rounded, np.uint8)
    if whole and high > 0.0:
        raise ImageError(
            f"{array.dtype} values of 0 and 1 alone could be grey levels 0..255 or levels divided "
            "by 255: give uint8, (255 * X).astype(np.uint8) if 1 is white"
        )
    levels: NDArray[np.uint8] = np.rint(array * 255.0).astype(np.uint8)
    return levels


def _items(given: Any, image_shape: tuple[int, int, int], rows: Rows) -> Any:
    """Images uint8 [N, H, W, C], a tensor, or a list of single things."""
    if isinstance(given, torch.Tensor):
        check_tensor(given)
        return given
    refuse_sparse(given)
    if isinstance(given, str | bytes | memoryview | os.PathLike | Image.Image) or not (
        isinstance(given, Iterable) or hasattr(given, "__array__")
    ):
        raise ImageError(
            f"X must hold many images; got one {type(given).__name__}: put it in a list "
            "(the path of an archive is taken alone)"
        )
    if is_unordered(given):
        raise ImageError(f"X is a {type(given).__name__}, which has no order: give a list")
    if not hasattr(given, "__array__"):
        # Where X is no sequence, the next array or image may lie in the memory of the one before.
        given = list(given if isinstance(given, Sequence) else map(_kept, given))
        if not given or not all(_is_row(item) for item in given):
            return given
    if is_masked(given):
        raise ImageError("a masked array has samples without a value: fill them first")
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ImageError(f"rows of numbers must be of one length: {error}") from error
    if array.dtype.kind == "S":
        raise ImageError("arrays of dtype S drop zeros at the end of bytes: use a list of bytes")
    if array.dtype.kind in "OUT" and (array.ndim == 1 or array.shape[1:] == (1,)):
        return array.reshape(-1).tolist()
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ImageError(f"an array of objects that are no numbers: {error}") from error
    return pictures_of(array, image_shape, rows)


def _kept(item: Any) -> Any:
    if isinstance(item, np.ndarray | Image.Image):
        return item.copy()
    return item.clone() if isinstance(item, torch.Tensor) else item


def _is_row(item: Any) -> bool:
    """Whether this is one flat image in a list of them."""
    return isinstance(item, list | tuple) or (isinstance(item, np.ndarray) and item.ndim == 1)


def _kind(item: Any) -> str:
    if isinstance(item, ArchivePicture):
        return "archived image"
    suffix = _suffix(item)
    if suffix == ARCHIVE_SUFFIX:
        raise ImageError(
            f"{item} in a list: an archive is many rows, give it alone, or ArchivePictures of it"
        )
    encoded = isinstance(item, bytes | bytearray | memoryview) or suffix == FILE_SUFFIX
    return "encoded file" if encoded else "picture"


def _suffix(item: Any) -> str:
    """Of a path, in lower case; of anything else nothing."""
    return Path(os.fsdecode(item)).suffix.lower() if isinstance(item, str | os.PathLike) else ""
