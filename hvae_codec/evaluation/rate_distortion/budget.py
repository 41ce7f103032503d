"""The finest file of each codec within a number of bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

import hvae_codec
from hvae_codec.codec.quality_scale import LOWEST
from hvae_codec.errors import RateError
from hvae_codec.evaluation.rate_distortion.peers import Peer

Pixels = NDArray[np.uint8]


def ours_within(model: str, picture: Pixels, budget: int, effort: int) -> bytes:
    """`hvae_codec.encode(max_bytes=budget)`; where the coarsest quality is larger, that one.

    Of models that have one, at this effort.
    """
    try:
        return hvae_codec.encode(picture, model, max_bytes=budget, effort=effort)
    except RateError:
        levels = [info for info in hvae_codec.models() if info.name == model]
        if levels[0].continuous:
            return hvae_codec.load(model, LOWEST).encode(picture)
        level = min(info.quality for info in levels)
        return hvae_codec.load(model, level).encode(picture, effort=effort)


def peer_within(peer: Peer, picture: Pixels, budget: int) -> bytes:
    """The file of the finest setting within the budget, else of the coarsest."""
    qualities = [setting for setting in peer.settings if isinstance(setting, int)]
    settings = range(qualities[0], qualities[-1] + 1)
    return finest_within(lambda setting: peer.encode(picture, setting), settings, budget)


def finest_within(encode: Callable[[int], bytes], settings: range, most_bytes: int) -> bytes:
    """The file of the finest setting that has at most so many bytes; if none has, that of the
    coarsest, the first.
    """
    encode = cache(encode)
    # Sizes grow with the setting but for some bytes here and there: hence the steps beside it.
    above = bisect_right(settings, most_bytes, key=lambda setting: len(encode(setting)))
    files = [encode(setting) for setting in settings[max(0, above - 4) : above + 5]]
    fitting = [file for file in files if len(file) <= most_bytes]
    return fitting[-1] if fitting else encode(settings[0])
