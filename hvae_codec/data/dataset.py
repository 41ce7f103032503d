"""A data set in memory: equally sized 8-bit images, their labels and the name to publish."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import DatasetError
from hvae_codec.utils.arguments import shown


class TrainingPictures(Protocol):
    """What a trainer needs of images: their number, shape, name and hash, and those of an epoch."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def batches(
        self, epoch: int, order: Iterable[NDArray[np.int64]]
    ) -> Iterator[NDArray[np.uint8]]: ...


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images of one size with what a table or a figure must say about them.

    Attributes:
        images: uint8 [N, H, W, C], C is 1 (grey) or 3 (RGB), N >= 1.
        labels: int64 [N], or None where the images have no classes.
        name: the name under which results on these images are published; it says what is missing.
        split: the part of the set that this is, "train" or "test" for the named sets.

    Raises:
        DatasetError: the arrays do not have these shapes and types.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    name: str
    split: str

    def __post_init__(self) -> None:
        for name, given in (("images", self.images), ("labels", self.labels)):
            plain = isinstance(given, np.ndarray) and not np.ma.is_masked(given)
            if not plain and not (name == "labels" and given is None):
                raise DatasetError(
                    f"{self.name}: {name} must be an array of NumPy with a value everywhere, "
                    f"got {type(given).__name__} {shown(given)}"
                )
        shape, dtype = self.images.shape, self.images.dtype
        if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
            raise DatasetError(
                f"{self.name}: images must be uint8 [N, H, W, 1 or 3] and not empty, "
                f"got {dtype} {list(shape)}"
            )
        if self.labels is not None and (
            self.labels.dtype != np.int64 or self.labels.shape != shape[:1]
        ):
            raise DatasetError(
                f"{self.name}: labels must be int64 [{shape[0]}], "
                f"got {self.labels.dtype} {list(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image as models order it: (C, H, W)."""
        height, width, channels = self.images.shape[1:]
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all images and labels."""
        return content_hash([self.images, *([] if self.labels is None else [self.labels])])

    def batches(
        self, epoch: int, order: Iterable[NDArray[np.int64]]
    ) -> Iterator[NDArray[np.uint8]]:
        """The images [B, H, W, C] of each index array [B] of `order`, alike in every epoch."""
        return (self.images[indices] for indices in order)


def content_hash(arrays: Iterable[NDArray[np.generic]]) -> str:
    """SHA-256, in hex, of the types, shapes and values of arrays, in their order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def binarise(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Round x/255 to 0 or 1, as the paper does with MNIST.

    Args:
        images: uint8, any shape.

    Returns:
        uint8 of the same shape, values 0 (x <= 127) and 1 (x >= 128).
    """
    # 127/255 < 1/2 < 128/255, so rounding is the top bit.
    return images >> np.uint8(7)
