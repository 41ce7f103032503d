"""Operating points of a tiled model family: its quality levels at many trades."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np

from hvae_codec.codec.codec import Codec
from hvae_codec.codec.rate_control.candidates import Candidate, decode_together
from hvae_codec.codec.transform import Pixels
from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.arguments import real, shown

COARSE_TRADES = tuple(2.0**power for power in range(-2, 4))
"""The trades tried on every quality level: 1/4 to 8."""

_REFINEMENTS, _BETWEEN = 2, 6
_BATCH_BYTES = 1 << 26


class TradeSearch:
    """`CandidateSearch` over the quality levels of a model family and their trades."""

    def __init__(self, picture: Pixels, codecs: Sequence[Codec], effort: int) -> None:
        if real("effort", effort) < 1:
            raise HvaeCodecError(
                f"a size or quality is reached with effort 1 or more; got {shown(effort)}"
            )
        self._picture = picture
        self._codecs = codecs
        self._effort = effort
        self.candidates: list[Candidate] = []
        for codec in codecs:
            self._add(codec, COARSE_TRADES)

    def refine(self, below: Callable[[Candidate], bool]) -> None:
        """As `CandidateSearch.refine`: between neighbouring trades of each quality level."""
        for _ in range(_REFINEMENTS):
            known = [(one, below(one)) for one in self.candidates]
            for codec in self._codecs:
                own = sorted((one.trade, low) for one, low in known if one.codec is codec)
                trades: list[float] = []
                for (first, low), (second, next_low) in pairwise(own):
                    if not low and next_low:
                        between = np.geomspace(first, second, _BETWEEN + 2)[1:-1]
                        trades += map(float, between)
                if trades:
                    self._add(codec, trades)

    def best(self, among: Sequence[Candidate]) -> Candidate:
        """As `CandidateSearch.best`: that of highest PSNR, the smaller of equals."""
        return max(among, key=lambda one: (one.psnr_db, -one.size))

    def _add(self, codec: Codec, trades: Iterable[float]) -> None:
        own = list(trades)
        self.candidates += _candidates(codec, [self._picture] * len(own), own, self._effort)


def coarse_trades(
    pictures: Sequence[Pixels], codecs: Sequence[Codec], effort: int
) -> list[list[Candidate]]:
    """The candidates of each image at every quality level and coarse trade, in one order."""
    options: list[list[Candidate]] = [[] for _ in pictures]
    for codec in codecs:
        for trade in COARSE_TRADES:
            found = _candidates(codec, pictures, [trade] * len(pictures), effort)
            for row, candidate in zip(options, found, strict=True):
                row.append(candidate)
    return options


def _candidates(
    codec: Codec, pictures: Sequence[Pixels], trades: Sequence[float], effort: int
) -> list[Candidate]:
    """Each image coded and decoded at its trade, some at a time where they are large."""
    found: list[Candidate] = []
    at_once = max(1, _BATCH_BYTES // max(picture.nbytes for picture in pictures))
    for start in range(0, len(pictures), at_once):
        part = pictures[start : start + at_once]
        own = trades[start : start + at_once]
        blobs = codec.encode_batch(part, effort=effort, trade=own)
        coded = zip(part, blobs, own, strict=True)
        candidates = [Candidate(codec, picture, blob, trade) for picture, blob, trade in coded]
        decode_together(candidates)
        found += candidates
    return found
