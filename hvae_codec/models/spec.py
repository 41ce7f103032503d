"""Networks and latents of a hierarchical VAE as data.

A `ModelSpec` says what the paper's Tables 2 and 3 say, row by row, and no more: which layers lead
from the image (and from the latents above) to each posterior, from the latents above to each
prior, and from z_1 to the image. `hvae_codec.models.hvae` builds any such spec; nothing there
knows a data set's name.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hvae_codec.errors import SpecError


@dataclass(frozen=True)
class Conv:
    """Conv(in, out, kernel, stride, padding) of the paper's tables."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class ConvTransp:
    """ConvTransp(in, out, kernel, stride, padding) of the paper's tables."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class FC:
    """FC(in, out) of the paper's tables; flattens what it is given."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class Reshape:
    """Gives each image's features a new shape, without parameters."""

    shape: tuple[int, ...]


Layer = Conv | ConvTransp | FC | Reshape
Layers = tuple[Layer, ...]

_LAYER_KINDS: dict[str, type[Conv] | type[ConvTransp] | type[FC]] = {
    "conv": Conv,
    "conv_transp": ConvTransp,
    "fc": FC,
}


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
        return {
            "name": self.name,
            "image_shape": list(self.image_shape),
            "likelihood": self.likelihood,
            "inference": self.inference,
            "latents": [_latent_to_json(latent) for latent in self.latents],
            "decoder": _layers_to_json(self.decoder),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelSpec:
        """The spec that `to_json` described.

        Raises:
            SpecError: a field is missing or is not what it should be.
        """
        try:
            channels, height, width = data["image_shape"]
            return cls(
                name=str(data["name"]),
                image_shape=(int(channels), int(height), int(width)),
                likelihood=data["likelihood"],
                inference=data["inference"],
                latents=tuple(_latent_from_json(latent) for latent in data["latents"]),
                decoder=_layers_from_json(data["decoder"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"not a model specification: {error!r}") from error


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    if isinstance(layer, Reshape):
        return {"kind": "reshape", "shape": list(layer.shape)}
    kind = next(kind for kind, cls in _LAYER_KINDS.items() if isinstance(layer, cls))
    return {"kind": kind, **asdict(layer)}


def _layer_from_json(data: dict[str, Any]) -> Layer:
    fields = dict(data)
    kind = fields.pop("kind")
    if kind == "reshape":
        return Reshape(tuple(int(n) for n in fields["shape"]))
    return _LAYER_KINDS[kind](**{key: int(value) for key, value in fields.items()})


def _layers_to_json(layers: Layers) -> list[dict[str, Any]]:
    return [_layer_to_json(layer) for layer in layers]


def _layers_from_json(data: list[dict[str, Any]]) -> Layers:
    return tuple(_layer_from_json(layer) for layer in data)


def _latent_to_json(latent: LatentSpec) -> dict[str, Any]:
    return {
        "shape": list(latent.shape),
        "bottom_up": latent.bottom_up,
        "x_branch": _layers_to_json(latent.x_branch),
        "z_branch": _layers_to_json(latent.z_branch),
        "merge": _layers_to_json(latent.merge),
        "head": _layer_to_json(latent.head),
        "prior": _layers_to_json(latent.prior),
        "prior_head": None if latent.prior_head is None else _layer_to_json(latent.prior_head),
    }


def _latent_from_json(data: dict[str, Any]) -> LatentSpec:
    prior_head = data["prior_head"]
    return LatentSpec(
        shape=tuple(int(n) for n in data["shape"]),
        bottom_up=int(data["bottom_up"]),
        x_branch=_layers_from_json(data["x_branch"]),
        z_branch=_layers_from_json(data["z_branch"]),
        merge=_layers_from_json(data["merge"]),
        head=_layer_from_json(data["head"]),
        prior=_layers_from_json(data["prior"]),
        prior_head=None if prior_head is None else _layer_from_json(prior_head),
    )
