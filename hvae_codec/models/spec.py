"""Networks and latents of a hierarchical VAE as data.

A `ModelSpec` says what the paper's Tables 2 and 3 say, row by row, and no more: which layers lead
from the image (and from the latents above) to each posterior, from the latents above to each
prior, and from z_1 to the image. `hvae_codec.models.hvae` builds any such spec; nothing there
knows a data set's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from msgspec import Struct, ValidationError, convert, json

from hvae_codec.errors import SpecError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SpecT = TypeVar("SpecT", bound="DataclassInstance")


class Conv(Struct, frozen=True, tag_field="kind", tag="conv"):
    """Conv(in, out, kernel, stride, padding) of the paper's tables."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


class ConvTransp(Struct, frozen=True, tag_field="kind", tag="conv_transp"):
    """ConvTransp(in, out, kernel, stride, padding) of the paper's tables."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


class FC(Struct, frozen=True, tag_field="kind", tag="fc"):
    """FC(in, out) of the paper's tables; flattens what it is given."""

    inputs: int
    outputs: int


class Reshape(Struct, frozen=True, tag_field="kind", tag="reshape"):
    """Gives each image's features a new shape, without parameters."""

    shape: tuple[int, ...]


Layer = Conv | ConvTransp | FC | Reshape
Layers = tuple[Layer, ...]


@dataclass(frozen=True)
class LatentSpec:
    """One layer of latents, z_l: its posterior q(z_l | z_>l, x) and its prior p(z_l | z_>l).

    `shape` is that of one image's latent. The posterior runs `x_branch` on the image or, if
    `bottom_up` > 0, on the output of that many leading layers of the top latent's `x_branch`
    (LVAE's shared path), runs `z_branch` on the flattened latents above, concatenates both along
    the channels, runs `merge`, and ends in two copies of `head`, mean and raw deviation. The prior
    runs `prior` on the flattened latents above and ends in two copies of `prior_head`. The topmost
    latent has neither z_branch nor prior: its prior is N(0, I).
    """

    shape: tuple[int, ...]
    x_branch: Layers
    head: Layer
    bottom_up: int = 0
    z_branch: Layers = ()
    merge: Layers = ()
    prior: Layers = ()
    prior_head: Layer | None = None

    @property
    def dims(self) -> int:
        """Number of latent dimensions of one image."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ModelSpec:
    """A hierarchical VAE of L = len(latents) >= 2 layers, top first: z_L, ..., z_1.

    `inference` is "concat" (GHVAE: x enters every posterior by a branch of its own) or "precision"
    (LVAE: the posterior is the precision-weighted product of a bottom-up Gaussian and the prior,
    Soenderby et al. 2016).
    """

    name: str
    image_shape: tuple[int, int, int]
    likelihood: Literal["gaussian", "bernoulli"]
    inference: Literal["concat", "precision"]
    latents: tuple[LatentSpec, ...]
    decoder: Layers

    def __post_init__(self) -> None:
        if len(self.latents) < 2:
            raise SpecError(
                f"{self.name}: {len(self.latents)} layer(s) of latents; a hierarchy has 2 or more"
            )
        if self.likelihood not in ("gaussian", "bernoulli"):
            raise SpecError(
                f"{self.name}: likelihood {self.likelihood!r}; allowed: 'gaussian', 'bernoulli'"
            )
        if self.inference not in ("concat", "precision"):
            raise SpecError(
                f"{self.name}: inference {self.inference!r}; allowed: 'concat', 'precision'"
            )
        top, *lower = self.latents
        if top.z_branch or top.prior or top.prior_head is not None or top.bottom_up:
            raise SpecError(
                f"{self.name}: the topmost latent has prior N(0, I) and only an x branch"
            )
        for latent in lower:
            if latent.prior_head is None:
                raise SpecError(f"{self.name}: every latent below the top needs a prior_head")

    @property
    def dims(self) -> tuple[int, ...]:
        """Latent dimensions of one image per layer, top first."""
        return tuple(latent.dims for latent in self.latents)

    @property
    def feature_dims(self) -> tuple[int, ...]:
        """Features of one image per layer, top first: all its latent dimensions."""
        return self.dims

    def layer_name(self, index: int) -> str:
        """The paper's name of the layer at `index` (top first): "z2" for index 0 of two layers."""
        return f"z{len(self.latents) - index}"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description from which `from_json` makes an equal spec."""
        return spec_to_json(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelSpec:
        """The spec that `to_json` described.

        Raises:
            SpecError: a field is missing or is not what it should be.
        """
        return read_spec(data, cls)


def spec_to_json(spec: DataclassInstance) -> dict[str, Any]:
    """JSON-ready fields of a spec, lists where it has tuples, as JSON gives them back."""
    fields: dict[str, Any] = json.decode(json.encode(spec))
    return fields


def read_spec(data: dict[str, Any], kind: type[SpecT]) -> SpecT:
    """A spec of this kind, a dataclass, from JSON that names all its fields. Raises SpecError."""
    if isinstance(data, dict) and (lacking := [f.name for f in fields(kind) if f.name not in data]):
        raise SpecError(f"not a model specification: it lacks {', '.join(lacking)}")
    try:
        return convert(data, kind)
    except ValidationError as error:
        if isinstance(error.__cause__, SpecError):
            raise error.__cause__ from None
        raise SpecError(f"not a model specification: {error}") from error
