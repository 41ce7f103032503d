"""Iterators whose images lie in one memory, which each image overwrites."""

import numpy as np
import pytest
import torch
from PIL import Image

import hvae_codec
from hvae_codec import HVAEFeatures
from tests.photographs import load_sample_image

CHINA = load_sample_image("china.jpg")
IMAGES = [np.ascontiguousarray(CHINA[y : y + 32, y : y + 32]) for y in (0, 90, 180, 270)]


def arrays():
    buffer = np.empty((32, 32, 3), np.uint8)
    for image in IMAGES:
        buffer[:] = image
        yield buffer


def tensors():
    buffer = torch.empty((3, 32, 32), dtype=torch.uint8)
    for image in IMAGES:
        buffer.copy_(torch.from_numpy(image).permute(2, 0, 1))
        yield buffer


def pillow_images():
    buffer = Image.new("RGB", (32, 32))
    for image in IMAGES:
        buffer.paste(Image.fromarray(image))
        yield buffer


def features(images):
    return HVAEFeatures("cifar10").transform(images).tolist()


class Frames:
    """An iterable that is no iterator, as loaders are."""

    def __iter__(self):
        return arrays()


CALLS = {
    "encode_batch": lambda images: hvae_codec.load("cifar10").encode_batch(images),
    "encode_block": lambda images: hvae_codec.load("cifar10").encode_block(images),
    "features": lambda images: hvae_codec.load("cifar10").features(images).mean.tolist(),
    "encode_within": lambda images: hvae_codec.encode_within(images, 400, "cifar10"),
    "HVAEFeatures": features,
}


@pytest.mark.parametrize("refilled", [arrays, tensors, pillow_images, Frames])
@pytest.mark.parametrize("call", CALLS)
def test_each_image_is_taken_before_the_next_is_made(call, refilled):
    assert CALLS[call](refilled()) == CALLS[call](IMAGES)
