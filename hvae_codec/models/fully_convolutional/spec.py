"""Networks and latents of a fully convolutional hierarchical VAE as data.

Where a `ModelSpec` lists the rows of the paper's tables, a `ConvSpec` says how wide and deep a
network of residual blocks is at each of its resolutions. Its latents are maps, which grow with the
image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hvae_codec.errors import SpecError
from hvae_codec.models.spec import read_spec, spec_to_json

FIRST_STRIDE = 4
"""Pixels a side that the networks take as one position at their finest resolution."""

SECOND_STRIDE = 2 * FIRST_STRIDE
"""Pixels a side of a position at the next resolution, the finest that has latents."""

MAX_MAGNITUDE = 31
"""A symbol's magnitude counts in contexts up to this."""
MAX_SIGNED = 3
"""A symbol with its sign counts in contexts from minus to plus this."""
FEATURES = 3
"""Features of a symbol that contexts sum: whether it is not 0, its magnitude, its sign."""
FEATURE_SCALES = (1.0, 4.0, 2.0)
"""By which the networks divide the integer features, so that weights of one size suit all."""

MAX_WIDTH = 1024
"""Most channels of anything in a spec, so that a forged card allocates no huge network."""


@dataclass(frozen=True)
class Resolution:
    """One resolution of the networks: positions `stride` pixels apart, of `width` channels each.

    `encoder_blocks` are the residual blocks of the bottom-up path here, `decoder_blocks` those of
    the top-down path behind the latents of this stride.
    """

    stride: int
    width: int
    encoder_blocks: int
    decoder_blocks: int


@dataclass(frozen=True)
class ConvLatent:
    """One layer of latents, z_l: a map of `channels` for every `stride` x `stride` pixels."""

    stride: int
    channels: int


@dataclass(frozen=True)
class ConvSpec:
    """A hierarchical VAE of L = len(latents) >= 2 layers of maps, top first: z_L, ..., z_1.

    image_shape: (C, H, W) of the images it trains on; it runs on images of any size.
    resolutions: finest first, each of twice the stride of the one before.
    knots: values of everything that depends on the quality, which is piecewise linear in it.
    deviations: that of the likelihood at quality 0 and at quality 1, on pixels in [0, 1]; its
        logarithm is linear in the quality.
    """

    name: str
    image_shape: tuple[int, int, int]
    resolutions: tuple[Resolution, ...]
    latents: tuple[ConvLatent, ...]
    knots: int = 6
    deviations: tuple[float, float] = (0.17, 0.016)

    def __post_init__(self) -> None:
        strides = [resolution.stride for resolution in self.resolutions]
        if strides != [FIRST_STRIDE << index for index in range(len(strides))] or not strides:
            raise SpecError(f"{self.name}: strides {strides}; they are {FIRST_STRIDE}, doubled on")
        if len(self.latents) < 2:
            raise SpecError(
                f"{self.name}: {len(self.latents)} layer(s) of latents; a hierarchy has 2 or more"
            )
        latent_strides = [latent.stride for latent in self.latents]
        if latent_strides != sorted(latent_strides, reverse=True):
            raise SpecError(f"{self.name}: strides of latents {latent_strides} must not grow")
        if latent_strides[0] != strides[-1] or latent_strides[-1] == FIRST_STRIDE:
            raise SpecError(
                f"{self.name}: the top latent has the coarsest stride, {strides[-1]}, and none "
                f"has {FIRST_STRIDE}; got {latent_strides}"
            )
        if not set(latent_strides) <= set(strides):
            raise SpecError(f"{self.name}: strides of latents {latent_strides}, not of {strides}")
        numbers = [self.knots - 1, *(latent.channels for latent in self.latents)]
        for resolution in self.resolutions:
            numbers += [resolution.width, resolution.encoder_blocks, resolution.decoder_blocks]
        if not all(1 <= number <= MAX_WIDTH for number in numbers):
            raise SpecError(f"{self.name}: channels, blocks and knots must lie in 1..{MAX_WIDTH}")
        if not all(math.isfinite(value) and value > 0 for value in self.deviations):
            raise SpecError(f"{self.name}: deviations {self.deviations}; both must be above 0")
        channels, height, width = self.image_shape
        sides = (height, width)
        if channels != 3 or any(side < 1 or side % self.coarsest for side in sides):
            raise SpecError(
                f"{self.name}: images of shape {self.image_shape}; it takes 3 channels and "
                f"sides that are multiples of {self.coarsest}"
            )

    @property
    def coarsest(self) -> int:
        """Stride of the top latents: what the sides of an image are padded to a multiple of."""
        return self.resolutions[-1].stride

    @property
    def encoder_halo(self) -> int:
        """Pixels, a multiple of 8, around a pixel that `ConvVAE.fine_features` depend on."""
        positions = 1 + self.resolutions[0].encoder_blocks
        return -(-positions * FIRST_STRIDE // SECOND_STRIDE) * SECOND_STRIDE

    @property
    def decoder_halo(self) -> int:
        """Positions of 8 pixels around a position that `ConvVAE.fine_output` depends on."""
        positions = 1 + self.resolutions[0].decoder_blocks
        return -(-positions * FIRST_STRIDE // SECOND_STRIDE)

    @property
    def dims(self) -> tuple[int, ...]:
        """Latent dimensions per layer, top first, of one image of `image_shape`."""
        return self.dims_of(*self.image_shape[1:])

    @property
    def feature_dims(self) -> tuple[int, ...]:
        """Features of one image per layer, top first: a latent's average over its map."""
        return tuple(latent.channels for latent in self.latents)

    def dims_of(self, height: int, width: int) -> tuple[int, ...]:
        """Latent dimensions per layer, top first, of one image of so many pixels."""
        return tuple(math.prod(self.shape_of(index, height, width)) for index in self.layer_indices)

    def shape_of(self, index: int, height: int, width: int) -> tuple[int, int, int]:
        """Shape (channels, rows, columns) of the latent at `index`, top first, of an image."""
        latent = self.latents[index]
        rows, columns = (-(-side // self.coarsest) * self.coarsest for side in (height, width))
        return latent.channels, rows // latent.stride, columns // latent.stride

    @property
    def layer_indices(self) -> range:
        """0, ..., L - 1."""
        return range(len(self.latents))

    def layer_name(self, index: int) -> str:
        """The paper's name of the layer at `index` (top first): "z6" for index 0 of six layers."""
        return f"z{len(self.latents) - index}"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description from which `from_json` makes an equal spec."""
        return {"kind": "maps", **spec_to_json(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ConvSpec:
        """The spec that `to_json` described.

        Raises:
            SpecError: a field is missing or is not what it should be.
        """
        return read_spec(data, cls)
