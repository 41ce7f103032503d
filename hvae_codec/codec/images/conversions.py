"""Conversions on request: transparency over a background, and CMYK, which are refused otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageColor

from hvae_codec.errors import ImageError

Rgb = tuple[int, int, int]

_GREY_AND_ALPHA = frozenset({"1", "L", "LA", "La"})
_UNSCALED = {"La": "LA", "RGBa": "RGBA"}  # of samples that were multiplied by alpha


@dataclass(frozen=True)
class Conversions:
    """What to convert instead of refusing it.

    background: sRGB levels 0 to 255 that transparent pixels lie over; None: alpha is refused.
    cmyk: whether CMYK images become RGB.
    """

    background: Rgb | None = None
    cmyk: bool = False


NONE = Conversions()


def parse_colour(text: str) -> Rgb:
    """The levels of an opaque colour, such as "white", "#ff8000" or "rgb(255, 128, 0)".

    Raises:
        ImageError: it is no such colour.
    """
    try:
        levels = ImageColor.getrgb(text)
    except ValueError as error:
        raise ImageError(
            f"{text!r} is no colour; allowed: a name such as white, #rrggbb or rgb(255, 128, 0)"
        ) from error
    if len(levels) != 3:
        raise ImageError(f"{text!r} is a transparent colour; a background is opaque")
    red, green, blue = levels
    return red, green, blue


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Colours, of mode L or RGB, and alpha, of mode L, of an image with alpha in any form."""
    image = image.convert(_UNSCALED.get(image.mode, image.mode))
    if image.mode in _GREY_AND_ALPHA:
        grey, alpha = image.convert("LA").split()
        return grey, alpha
    both = image.convert("RGBA")
    return both.convert("RGB"), both.getchannel("A")


def over_background(colours: Image.Image, alpha: Image.Image, background: Rgb) -> Image.Image:
    """The sRGB image that is seen; grey if colours (L or RGB) and background are.

    Levels are blended as they are stored, which is what browsers and Pillow do.
    """
    if colours.mode == "L" and len(set(background)) == 1:
        return Image.composite(colours, Image.new("L", colours.size, background[0]), alpha)
    behind = Image.new("RGB", colours.size, background)
    return Image.composite(colours.convert("RGB"), behind, alpha)
