"""What a request takes of the memory, for admission: upper bounds, in bytes."""

from typing import Final

_MESSAGE_COPIES: Final = 2
"""gRPC keeps the bytes of a message that it has parsed until its call has ended."""

_ANSWER_COPIES: Final = 3
"""As a message, as the bytes that it is written to, and as those that the transport sends."""

_PIXEL_BYTES: Final = 3
_READER_PIXEL_BYTES: Final = 4
"""Of the image library, while it reads a file beside the array that it gives."""


def of_message(size: int) -> int:
    """A request whose message has so many bytes on the wire."""
    return _MESSAGE_COPIES * size


def of_answer(size: int) -> int:
    """An answer whose message has at most so many bytes."""
    return _ANSWER_COPIES * size


def of_samples(pixels: int) -> int:
    """Images of so many pixels together, decoded."""
    return _PIXEL_BYTES * pixels


def of_files(pixels: int) -> int:
    """Image files of so many pixels together that are being decoded."""
    return (_PIXEL_BYTES + _READER_PIXEL_BYTES) * pixels
