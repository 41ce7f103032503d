"""An image coded one way, and what became of it: what searches for a size or a quality compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from hvae_codec.codec.codec import Codec
from hvae_codec.codec.transform import Pixels


@dataclass
class Candidate:
    """One way to code an image.

    codec: the codec of its quality level. image: as it was given. blob: its file.
    trade: of its encoder.
    """

    codec: Codec
    image: Pixels
    blob: bytes
    trade: float = 1.0

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.blob)

    @cached_property
    def squared_error(self) -> float:
        """Sum over the samples, in squared grey levels; the file is decoded once for it."""
        return self.error_of(self.codec.decode(self.blob))

    @property
    def psnr_db(self) -> float:
        """Of the decoded 8-bit image; infinite if nothing is lost."""
        if self.squared_error == 0.0:
            return float("inf")
        return float(10.0 * np.log10(255.0**2 * self.image.size / self.squared_error))

    def error_of(self, decoded: Pixels) -> float:
        """`squared_error` where the decoded image is known."""
        difference = self.codec.reference(self.image).astype(np.int64) - decoded
        return float(np.square(difference).sum())


class CandidateSearch(Protocol):
    """The candidates of one image, more of which are made where they are wanted."""

    candidates: list[Candidate]

    def refine(self, below: Callable[[Candidate], bool]) -> None:
        """Add candidates around the operating point up to which `below` holds; operating points
        are in the order of their files' sizes, but for small steps back.
        """

    def best(self, among: Sequence[Candidate]) -> Candidate:
        """The one of highest quality."""


def decode_together(candidates: Sequence[Candidate]) -> None:
    """Find the errors of candidates of one codec with one pass through its networks."""
    decoded = candidates[0].codec.decode_batch([one.blob for one in candidates])
    for candidate, image in zip(candidates, decoded, strict=True):
        candidate.squared_error = candidate.error_of(image)
