"""Operating points of a fully convolutional model: bisection over its 256 qualities.

Bytes and PSNR grow with the quality, but for small steps back; so what bisection finds is within a
quality or two of the best, and is always checked by coding the image.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from hvae_codec.codec.codec import Codec
from hvae_codec.codec.quality_scale import MAX_NUMBER
from hvae_codec.codec.rate_control.candidates import Candidate
from hvae_codec.codec.transform import Pixels

_COARSE_NUMBERS = range(0, MAX_NUMBER + 1, 17)
"""Numbers of the qualities among which images choose within a budget."""


class QualitySearch:
    """`CandidateSearch` over the qualities of one model."""

    def __init__(self, picture: Pixels, codec: Codec) -> None:
        self._picture = picture
        self._codec = codec
        self.candidates: list[Candidate] = []

    def refine(self, below: Callable[[Candidate], bool]) -> None:
        """As `CandidateSearch.refine`; nine qualities are tried."""
        if below(self._try(0)):
            above = range(1, MAX_NUMBER + 1)
            bisect_left(above, True, key=lambda number: not below(self._try(number)))

    def best(self, among: Sequence[Candidate]) -> Candidate:
        """As `CandidateSearch.best`: that of the highest quality; none is decoded."""
        return max(among, key=lambda one: one.codec.quality)

    def _try(self, number: int) -> Candidate:
        self.candidates.append(_coded(self._picture, self._codec, number))
        return self.candidates[-1]


def coarse_qualities(picture: Pixels, codec: Codec) -> list[Candidate]:
    """The image at some qualities from the lowest to the highest."""
    return [_coded(picture, codec, number) for number in _COARSE_NUMBERS]


def _coded(picture: Pixels, codec: Codec, number: int) -> Candidate:
    """The image at the quality of a number."""
    own = codec.at_number(number)
    return Candidate(own, picture, own.encode(picture))
