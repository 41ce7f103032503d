"""The codec's limits on images, stated once."""

from hvae_codec.errors import ImageError, ImageTooLargeError

MAX_SIDE_PIXELS = 65_535
"""Longest side of an image, in pixels."""

MAX_PICTURE_PIXELS = 100_000_000
"""Largest width x height of an image, in pixels."""


def check_size(width: int, height: int, max_pixels: int = MAX_PICTURE_PIXELS) -> None:
    """Refuse a size that no image may have: ImageError, ImageTooLargeError."""
    if width == 0 or height == 0:
        raise ImageError(f"an image must have at least one pixel; got {width}x{height}")
    max_pixels = min(max_pixels, MAX_PICTURE_PIXELS)
    if max(width, height) > MAX_SIDE_PIXELS or width * height > max_pixels:
        raise ImageTooLargeError(
            f"image of {width}x{height} pixels; at most {MAX_SIDE_PIXELS:,} on a side "
            f"and {max_pixels:,} in all are allowed"
        )
