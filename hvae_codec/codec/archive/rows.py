"""Images with what is given for each of them, one row after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from types import NoneType
from typing import Any, Final

import numpy as np
import torch

from hvae_codec.codec.images.load import check_tensor
from hvae_codec.codec.model_shape import Pictures
from hvae_codec.errors import ArchiveError, ImageError

_NONE_LEFT: Final[Any] = object()


def rows_of(images: Pictures, **given: Iterable[Any] | None) -> Iterator[tuple[Any, ...]]:
    """Each image with its value of each keyword, None where the keyword has none.

    Args:
        images: uint8 array [N, H, W, C], uint8 tensor [N, C, H, W], or an iterable of images.
        given: by what it is called in messages, a value for each image, or None for none at all.

    Raises:
        ImageError: an array or a tensor has not four dimensions.
        ArchiveError: values are no list, or more or fewer than images; the rows before came.
    """
    if isinstance(images, torch.Tensor):
        check_tensor(images)
    if isinstance(images, np.ndarray | torch.Tensor) and images.ndim != 4:
        raise ImageError(
            "images must be an array [N, H, W, C], a tensor [N, C, H, W] or an iterable; "
            f"got {images.ndim} dimensions {list(images.shape)}"
        )
    for what, values in given.items():
        if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable | NoneType):
            raise ArchiveError(
                f"{what} are a list, one {what[:-1]} or None for each image; got one "
                f"{type(values).__name__}"
            )
    columns = {what: repeat(None) if v is None else iter(v) for what, v in given.items()}
    count = 0
    for image in images:
        row = {what: next(column, _NONE_LEFT) for what, column in columns.items()}
        for what, value in row.items():
            if value is _NONE_LEFT:
                raise _uneven("images", what, what, count)
        yield image, *row.values()
        count += 1
    for what, column in columns.items():
        if given[what] is not None and next(column, _NONE_LEFT) is not _NONE_LEFT:
            raise _uneven(what, "images", what, count)


def _uneven(more: str, fewer: str, what: str, count: int) -> ArchiveError:
    return ArchiveError(
        f"there are more {more} than {fewer}: each image has one {what[:-1]}, or None; "
        f"{count} were added"
    )
