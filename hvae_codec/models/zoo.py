"""The paper's architectures (Tables 2 and 3), row by row, deeper ones of the same parts, and fully
convolutional ones for images of any size.
"""

from __future__ import annotations

from dataclasses import replace

from hvae_codec.errors import SpecError
from hvae_codec.models.build import Spec
from hvae_codec.models.fully_convolutional.spec import ConvLatent, ConvSpec, Resolution
from hvae_codec.models.spec import FC, Conv, ConvTransp, LatentSpec, ModelSpec, Reshape

_GHVAE_32 = ModelSpec(
    name="ghvae-32x32x3",
    image_shape=(3, 32, 32),
    likelihood="gaussian",
    inference="concat",
    latents=(
        LatentSpec(
            shape=(32,),
            x_branch=(Conv(3, 32, 4, 2, 1), Conv(32, 32, 4, 2, 1), Conv(32, 32, 4, 2, 1)),
            head=FC(512, 32),
        ),
        LatentSpec(
            shape=(32, 4, 4),
            x_branch=(Conv(3, 32, 4, 2, 1), Conv(32, 32, 4, 2, 1)),
            z_branch=(FC(32, 512), Reshape((32, 4, 4)), ConvTransp(32, 32, 4, 2, 1)),
            merge=(Conv(64, 32, 4, 2, 1),),
            head=Conv(32, 32, 3, 1, 1),
            prior=(FC(32, 256),),
            prior_head=FC(256, 512),
        ),
    ),
    decoder=(ConvTransp(32, 32, 4, 2, 1), ConvTransp(32, 32, 4, 2, 1), ConvTransp(32, 3, 4, 2, 1)),
)
"""Table 2, SVHN and CIFAR-10: 475,811 parameters with Gaussian posteriors."""

_GHVAE_MNIST = ModelSpec(
    name="ghvae-28x28x1",
    image_shape=(1, 28, 28),
    likelihood="bernoulli",
    inference="concat",
    latents=(
        LatentSpec(
            shape=(20,),
            x_branch=(Conv(1, 16, 4, 2, 1), Conv(16, 16, 4, 2, 1), Conv(16, 16, 4, 1, 0)),
            head=FC(256, 20),
        ),
        LatentSpec(
            shape=(16, 4, 4),
            x_branch=(Conv(1, 16, 4, 2, 1), Conv(16, 16, 4, 2, 1)),
            z_branch=(FC(20, 256), Reshape((16, 4, 4)), ConvTransp(16, 16, 4, 1, 0)),
            merge=(Conv(32, 16, 4, 1, 0),),
            head=Conv(16, 16, 3, 1, 1),
            prior=(FC(20, 128),),
            prior_head=FC(128, 256),
        ),
    ),
    decoder=(ConvTransp(16, 16, 4, 1, 0), ConvTransp(16, 16, 4, 2, 1), ConvTransp(16, 1, 4, 2, 1)),
)
"""Table 2, binary MNIST: 122,713 parameters with Gaussian posteriors."""

_LVAE_32 = ModelSpec(
    name="lvae-32x32x3",
    image_shape=(3, 32, 32),
    likelihood="gaussian",
    inference="precision",
    latents=(
        _GHVAE_32.latents[0],
        LatentSpec(
            shape=(32, 4, 4),
            bottom_up=2,
            x_branch=(Conv(32, 32, 4, 2, 1),),
            head=Conv(32, 32, 3, 1, 1),
            prior=(FC(32, 256),),
            prior_head=FC(256, 512),
        ),
    ),
    decoder=_GHVAE_32.decoder,
)
"""Table 3, SVHN and CIFAR-10: 408,131 parameters."""

_ABOVE_3 = 32 + 512
_GHVAE3_32 = ModelSpec(
    name="ghvae3-32x32x3",
    image_shape=(3, 32, 32),
    likelihood="gaussian",
    inference="concat",
    latents=(
        *_GHVAE_32.latents,
        LatentSpec(
            shape=(16, 8, 8),
            x_branch=(Conv(3, 32, 4, 2, 1),),
            z_branch=(
                FC(_ABOVE_3, 256),
                Reshape((16, 4, 4)),
                ConvTransp(16, 32, 4, 2, 1),
                ConvTransp(32, 32, 4, 2, 1),
            ),
            merge=(Conv(64, 32, 4, 2, 1),),
            head=Conv(32, 16, 3, 1, 1),
            prior=(FC(_ABOVE_3, 256), Reshape((16, 4, 4)), ConvTransp(16, 32, 4, 2, 1)),
            prior_head=Conv(32, 16, 3, 1, 1),
        ),
    ),
    decoder=(ConvTransp(16, 32, 4, 2, 1), ConvTransp(32, 3, 4, 2, 1)),
)
"""GHVAE with a third layer, of 1,024 dimensions, below those of Table 2."""

_ABOVE_2, _ABOVE_4 = 32 + 128, 32 + 128 + 512
_GHVAE4_32 = ModelSpec(
    name="ghvae4-32x32x3",
    image_shape=(3, 32, 32),
    likelihood="gaussian",
    inference="concat",
    latents=(
        _GHVAE_32.latents[0],
        LatentSpec(
            shape=(32, 2, 2),
            x_branch=(Conv(3, 32, 4, 2, 1), Conv(32, 32, 4, 2, 1), Conv(32, 32, 4, 2, 1)),
            z_branch=(FC(32, 128), Reshape((32, 2, 2)), ConvTransp(32, 32, 4, 2, 1)),
            merge=(Conv(64, 32, 4, 2, 1),),
            head=Conv(32, 32, 3, 1, 1),
            prior=(FC(32, 128),),
            prior_head=FC(128, 128),
        ),
        replace(
            _GHVAE_32.latents[1],
            z_branch=(FC(_ABOVE_2, 512), Reshape((32, 4, 4)), ConvTransp(32, 32, 4, 2, 1)),
            prior=(FC(_ABOVE_2, 256),),
        ),
        replace(
            _GHVAE3_32.latents[2],
            z_branch=(FC(_ABOVE_4, 256), *_GHVAE3_32.latents[2].z_branch[1:]),
            prior=(FC(_ABOVE_4, 256), *_GHVAE3_32.latents[2].prior[1:]),
        ),
    ),
    decoder=_GHVAE3_32.decoder,
)
"""Four layers of 32, 128, 512 and 1,024 dimensions."""

_LVAE3_32 = ModelSpec(
    name="lvae3-32x32x3",
    image_shape=(3, 32, 32),
    likelihood="gaussian",
    inference="precision",
    latents=(
        *_LVAE_32.latents,
        LatentSpec(
            shape=(16, 8, 8),
            bottom_up=1,
            x_branch=(Conv(32, 32, 4, 2, 1),),
            head=Conv(32, 16, 3, 1, 1),
            prior=_GHVAE3_32.latents[2].prior,
            prior_head=_GHVAE3_32.latents[2].prior_head,
        ),
    ),
    decoder=_GHVAE3_32.decoder,
)
"""LVAE with the same third layer."""

_MAPS6 = ConvSpec(
    name="maps6-128x128x3",
    image_shape=(3, 128, 128),
    resolutions=(
        Resolution(stride=4, width=64, encoder_blocks=3, decoder_blocks=3),
        Resolution(stride=8, width=96, encoder_blocks=3, decoder_blocks=1),
        Resolution(stride=16, width=128, encoder_blocks=2, decoder_blocks=1),
        Resolution(stride=32, width=128, encoder_blocks=2, decoder_blocks=2),
    ),
    latents=(
        ConvLatent(stride=32, channels=24),
        ConvLatent(stride=16, channels=24),
        ConvLatent(stride=16, channels=40),
        ConvLatent(stride=8, channels=8),
        ConvLatent(stride=8, channels=16),
        ConvLatent(stride=8, channels=24),
    ),
    deviations=(0.24, 0.0135),
)
"""For photographs: six layers of maps, the later ones of a stride given the earlier ones of it;
4.0 million parameters.
"""

_LEAN6 = replace(
    _MAPS6,
    name="lean6-128x128x3",
    resolutions=(
        Resolution(stride=4, width=32, encoder_blocks=1, decoder_blocks=1),
        Resolution(stride=8, width=80, encoder_blocks=1, decoder_blocks=1),
        Resolution(stride=16, width=112, encoder_blocks=2, decoder_blocks=1),
        Resolution(stride=32, width=128, encoder_blocks=2, decoder_blocks=2),
    ),
)
"""The same latents behind leaner networks, of 12.5 instead of 26.9 thousand multiplications per
pixel to encode and 9.4 instead of 20.1 to decode; 3.1 million parameters.
"""

_MAPS6_32 = replace(_MAPS6, name="maps6-32x32x3", image_shape=(3, 32, 32), deviations=(0.3, 0.05))
"""The same, for small images of few bytes."""

SPECS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        _GHVAE_32,
        _GHVAE_MNIST,
        _LVAE_32,
        _GHVAE3_32,
        _GHVAE4_32,
        _LVAE3_32,
        _MAPS6,
        _LEAN6,
        _MAPS6_32,
    )
}
"""The architectures by name."""


def any_spec(name: str) -> Spec:
    """The architecture called `name`, of either kind.

    Raises:
        SpecError: there is none; the message lists those that exist.
    """
    try:
        return SPECS[name]
    except KeyError:
        raise SpecError(f"no architecture {name!r}; there are: {', '.join(SPECS)}") from None


def get_spec(name: str) -> ModelSpec:
    """The architecture called `name`, whose latents have one size.

    Raises:
        SpecError: there is none, or it is one of maps; the message lists those that exist.
    """
    spec = any_spec(name)
    if isinstance(spec, ModelSpec):
        return spec
    others = ", ".join(key for key, value in SPECS.items() if isinstance(value, ModelSpec))
    raise SpecError(f"{name} is an architecture of maps; this takes one of: {others}")
