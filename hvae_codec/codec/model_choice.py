"""Which model an image takes where none is named: one rule, for images and servers alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable

AUTO = "auto"
"""In the place of a model's name: the model that `model_by_size` gives for each image."""

PHOTO_MODEL, SMALL_MODEL = "photo", "cifar10"
"""The models of large and of small images."""

SMALL_PIXELS = 64 * 64
"""Most pixels of a small image."""


def model_by_size(height: int, width: int, available: Collection[str]) -> str:
    """The name of the model, of those available, that an image of this size takes.

    PHOTO_MODEL for more than SMALL_PIXELS pixels where that model is available, else SMALL_MODEL,
    whose networks see 32x32 pixels: it is the better one for thumbnails, and poor at photographs.
    """
    large = height * width > SMALL_PIXELS
    return PHOTO_MODEL if large and PHOTO_MODEL in available else SMALL_MODEL


def model_of_all(sizes: Iterable[tuple[int, int]], available: Collection[str]) -> tuple[str, bool]:
    """The name of the one model that images of these sizes (height, width) take together, that of
    the largest; and whether some of them would take another one alone.

    Without sizes, as for pipes, it is the model of large images, which takes small ones too.
    """
    names: set[str] = set()
    for size in sizes:
        names.add(model_by_size(*size, available))
        if len(names) > 1:
            return PHOTO_MODEL, True
    return names.pop() if names else model_by_size(1, SMALL_PIXELS + 1, available), False
