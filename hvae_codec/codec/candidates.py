"""An image coded one way, and what became of it: what searches for a size or a quality compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvae_codec.codec.codec import Codec
from hvae_codec.codec.transform import Pixels


@dataclass(frozen=True)
class Candidate:
    """One way to code an image. `squared_error`: sum over its samples, in squared grey levels.

    rung: position of its codec in the model family, or the number of its quality. trade: of its
    encoder.
    """

    rung: int
    trade: float
    blob: bytes
    squared_error: float
    samples: int

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.blob)

    @property
    def psnr_db(self) -> float:
        """Of the decoded 8-bit image; infinite if nothing is lost."""
        if self.squared_error == 0.0:
            return float("inf")
        return float(10.0 * np.log10(255.0**2 * self.samples / self.squared_error))


def decoded_candidates(
    codec: Codec,
    rung: int,
    pictures: Sequence[Pixels],
    trades: Sequence[float],
    blobs: Sequence[bytes],
) -> list[Candidate]:
    """Candidates of images and their files, each decoded to see its error."""
    found = []
    decoded = codec.decode_batch(blobs)
    for picture, trade, blob, shown in zip(pictures, trades, blobs, decoded, strict=True):
        difference = codec.reference(picture).astype(np.int64) - shown
        error = float(np.square(difference).sum())
        found.append(Candidate(rung, trade, blob, error, picture.size))
    return found
