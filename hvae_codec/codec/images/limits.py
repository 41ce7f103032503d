"""The codec's limits on pictures, stated once."""

MAX_SIDE_PIXELS = 65_535
"""Longest side of a picture, in pixels."""

MAX_PICTURE_PIXELS = 100_000_000
"""Largest width x height of a picture, in pixels."""
