"""The codec's limits on images, stated once."""

MAX_SIDE_PIXELS = 65_535
"""Longest side of an image, in pixels."""

MAX_PICTURE_PIXELS = 100_000_000
"""Largest width x height of an image, in pixels."""
