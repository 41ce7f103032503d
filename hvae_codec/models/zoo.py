"""The paper's architectures (Tables 2 and 3), row by row."""

from __future__ import annotations

from hvae_codec.errors import SpecError
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

SPECS: dict[str, ModelSpec] = {spec.name: spec for spec in (_GHVAE_32, _GHVAE_MNIST, _LVAE_32)}
"""The architectures by name."""


def get_spec(name: str) -> ModelSpec:
    """The architecture called `name`.

    Raises:
        SpecError: there is none; the message lists those that exist.
    """
    try:
        return SPECS[name]
    except KeyError:
        raise SpecError(f"no architecture {name!r}; there are: {', '.join(SPECS)}") from None
