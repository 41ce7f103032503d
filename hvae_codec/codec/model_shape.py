"""The shape of the images that a model takes, and images brought into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np
import torch

from hvae_codec.codec.bitstream.header import Header
from hvae_codec.codec.images.load import Picture, as_batch
from hvae_codec.codec.transform import Pixels, Prepared
from hvae_codec.errors import ImageError

Pictures = Pixels | torch.Tensor | Iterable[Picture]


class ModelShape(NamedTuple):
    """Channels, height and width, in pixels, of a model's own image size; name: of the model."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def check_channels(self, channels: int) -> None:
        """Raise ImageError unless the model can code images of so many channels."""
        if channels not in (1, self.channels):
            raise ImageError(
                f"model {self.name!r} codes grey images; got {channels} channels: "
                "convert to grey first"
            )

    def prepare(self, image: Pixels) -> Prepared:
        """The image with the model's channels, and whether it was grey for a colour model.

        Raises ImageError as `check_channels`.
        """
        channels = image.shape[2]
        self.check_channels(channels)
        if channels == self.channels:
            return image, False
        return np.broadcast_to(image, (*image.shape[:2], self.channels)), True

    def prepare_block(self, images: Pictures) -> Sequence[Prepared]:
        """One or more images of one shape, prepared. Raises ImageError for others."""
        if self._is_own_array(images):  # nothing to check or copy image by image
            return [(image, False) for image in images]
        given = as_batch(images)
        shapes = sorted({image.shape for image in given})
        if len(shapes) != 1:
            found = ", ".join(map(str, shapes)) or "no image"
            raise ImageError(f"a block holds one or more images of one shape; got {found}")
        return [self.prepare(image) for image in given]

    def stated(self, header: Header) -> tuple[int, int, int, int]:
        """(height, width, channels, images) of a file with this header."""
        channels = 1 if header.grey else self.channels
        return header.height or self.height, header.width or self.width, channels, header.count

    def _is_own_array(self, images: Pictures) -> TypeGuard[Pixels]:
        """Whether these are images of the model's size and channels in one array."""
        return (
            type(images) is np.ndarray  # masks of some kinds of them are not to be dropped
            and images.dtype == np.uint8
            and images.shape[1:] == (self.height, self.width, self.channels)
            and len(images) > 0
            and images.flags.c_contiguous
        )
