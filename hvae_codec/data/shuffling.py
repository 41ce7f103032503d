"""The order in which an epoch visits the images: a function of seed and epoch alone."""

from collections.abc import Iterator, Sized

import numpy as np
from numpy.typing import NDArray


def epoch_batches(
    images: Sized, batch_size: int, seed: int, epoch: int, drop_last: bool = True
) -> Iterator[NDArray[np.int64]]:
    """Index arrays of the minibatches of one epoch.

    The permutation comes from PCG64 seeded with SeedSequence((seed, epoch)), so that a run resumed
    at any epoch, or skipped to any batch of it, sees the order that an uninterrupted run sees.

    Args:
        images: anything with a length, the number N of images.
        batch_size: images in a minibatch, >= 1.
        seed: of the run, >= 0.
        epoch: counted from 0.
        drop_last: leave out the last minibatch when it would be smaller than the others.

    Yields:
        int64 [B] with B = batch_size (the last one smaller when drop_last is False).

    Raises:
        ValueError: batch_size < 1, a negative seed or epoch, or drop_last with N < batch_size,
            which would be an epoch without a step.
    """
    count = len(images)
    if batch_size < 1 or seed < 0 or epoch < 0:
        raise ValueError(
            "batch_size must be >= 1, seed and epoch >= 0, "
            f"got batch_size={batch_size}, seed={seed}, epoch={epoch}"
        )
    if drop_last and count < batch_size:
        raise ValueError(f"{count} images do not fill one minibatch of {batch_size}")
    return _slices(count, batch_size, seed, epoch, drop_last)


def _slices(
    count: int, batch_size: int, seed: int, epoch: int, drop_last: bool
) -> Iterator[NDArray[np.int64]]:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch))))
    order = generator.permutation(count)
    end = count - count % batch_size if drop_last else count
    for start in range(0, end, batch_size):
        yield order[start : start + batch_size]
