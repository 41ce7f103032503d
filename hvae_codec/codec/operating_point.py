"""How a codec encodes: the point of its rate-distortion curve."""

from __future__ import annotations

from typing import NamedTuple


class OperatingPoint(NamedTuple):
    """What a codec encodes with; files of any point are decoded alike.

    number: the quality's number in files, 0..255, of a model of many qualities; else None.
    effort: 0 rounds what the networks say; 1 and 2 search for better symbols.
    trade: what a byte is worth to that search, times the weight that the model trained with.
    """

    number: int | None = None
    effort: int = 0
    trade: float = 1.0
