"""Chunks of array stores, uint8 [..., H, W, C], as `.hvae` files or blocks.

A chunk of one image is a file, whose header is the shortest; one of more images is a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.bitstream.header import read_header
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.transform import Pixels
from hvae_codec.errors import CorruptError, ImageError

ALLOWED = "chunks of images are uint8 [..., H, W, 3], or [..., H, W, 1] for grey"


def check_chunk(dtype: np.dtype[np.generic], shape: Sequence[int]) -> None:
    """Raise ImageError unless an array or chunk of this dtype and shape holds images."""
    if dtype != np.uint8 or len(shape) < 3 or shape[-1] not in (1, 3):
        raise ImageError(f"{ALLOWED}; got {dtype} {list(shape)}")


def encode_chunks(codec: Codec, chunks: Sequence[NDArray[np.uint8]]) -> list[bytes]:
    """Each chunk [..., H, W, C] as a file or a block; single images go through the networks at
    once.

    Raises:
        ImageError: a chunk holds no images, or not for this model. And as `Codec.encode`.
    """
    images = [_images(chunk) for chunk in chunks]
    singles = iter(codec.encode_batch([each[0] for each in images if len(each) == 1]))
    return [next(singles) if len(each) == 1 else codec.encode_block(each) for each in images]


def decode_chunks(codec: Codec, blobs: Sequence[bytes]) -> list[Pixels]:
    """The images uint8 [N, H, W, C] of each chunk; single images go through the networks at once.

    Raises:
        BitstreamError: as `Codec.decode`.
    """
    single = [not read_header(blob).block for blob in blobs]
    files = [blob for blob, alone in zip(blobs, single, strict=True) if alone]
    images = iter(codec.decode_batch(files) if files else [])
    return [
        next(images)[None] if alone else codec.decode_block(blob)
        for blob, alone in zip(blobs, single, strict=True)
    ]


def check_stated(
    codec: Codec, blob: bytes, shape: Sequence[int], *, smaller: bool, fewer: bool
) -> None:
    """Raise unless the header of a chunk states images that go into `shape`; nothing is decoded.

    `smaller`: they may be of fewer rows and columns; `fewer`: there may be fewer of them.

    Raises:
        CorruptError: they do not. BitstreamError: as `Codec.picture_shape`.
    """
    height, width, channels, count = codec.picture_shape(blob)
    stated, (*lead, rows, columns, depth) = (count, height, width), shape
    limits = (prod(lead), rows, columns)
    free = (fewer, smaller, smaller)
    fits = all(
        value == limit or (may_be_less and value < limit)
        for value, limit, may_be_less in zip(stated, limits, free, strict=True)
    )
    if not fits or channels != depth:
        raise CorruptError(
            f"the chunk states {count} images {[height, width, channels]}, which are not those of "
            f"a chunk {list(shape)}"
        )


def _images(chunk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images [N, H, W, C] of a chunk. Raises ImageError."""
    check_chunk(chunk.dtype, chunk.shape)
    return np.ascontiguousarray(chunk).reshape(-1, *chunk.shape[-3:])
