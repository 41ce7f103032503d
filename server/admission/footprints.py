"""Bytes of memory that requests take, in upper bounds, from what is known before they take it."""

from typing import Final

_MESSAGE_COPIES: Final = 2
"""gRPC keeps the bytes of a message that it has parsed until its call has ended."""

_ANSWER_COPIES: Final = 3
"""As a message, as the bytes that it is written to, and as those that the transport sends."""

_PIXEL_BYTES: Final = 3
_READER_PIXEL_BYTES: Final = 4
"""Of the image library, while it reads a file beside the array that it gives."""


def message_footprint(size: int) -> int:
    """Bytes of memory of a request whose message has `size` bytes on the wire."""
    return _MESSAGE_COPIES * size


def answer_footprint(size: int) -> int:
    """Bytes of memory of an answer whose message has at most `size` bytes."""
    return _ANSWER_COPIES * size


def sample_footprint(pixels: int) -> int:
    """Bytes of memory of images of `pixels` pixels together, decoded."""
    return _PIXEL_BYTES * pixels


def file_footprint(pixels: int) -> int:
    """Bytes of memory of image files of `pixels` pixels together that are being decoded."""
    return (_PIXEL_BYTES + _READER_PIXEL_BYTES) * pixels
