"""What a training run is made of: everything that, with the data, determines its weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from hvae_codec.errors import SpecError
from hvae_codec.models.hvae import POSTERIORS, Posterior, noise_seed
from hvae_codec.models.zoo import get_spec

Precision = Literal["fp32", "bf16"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class Recipe:
    """One training run of Eq. 8.

    `betas` weigh the layers' rates, top first (beta_2, beta_1). `learning_rate` falls to zero along
    a half cosine when `schedule` is "cosine". `rate_warmup_epochs`: betas rise linearly from 0 over
    that many first epochs (LVAE: a fifth of them). `rounded_epochs`: in that many last epochs the
    decoder learns from rounded latents (uniform posteriors only). `gradient_norm`: gradients of a
    greater norm are scaled down to it. `start`: model id of the checkpoint whose weights the run
    starts from, if any. `rates`: for each layer, top first, the rate in nats per image to reach, or
    None; the layer's beta is then where its adaptation starts (`hvae_codec.training.rates`).
    `noise_index`: which of several runs that share a seed, and with it the order of the pictures,
    this is; runs of different index begin with different weights and draw different noise.
    """

    spec: str
    dataset: str
    betas: tuple[float, ...]
    posterior: Posterior = "uniform"
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    rate_warmup_epochs: int = 0
    rounded_epochs: int = 0
    gradient_norm: float | None = None
    precision: Precision = "fp32"
    channels_last: bool = True
    seed: int = 0
    images: int | None = None
    start: str | None = None
    rates: tuple[float | None, ...] | None = None
    noise_index: int = 0

    def __post_init__(self) -> None:
        layers = len(get_spec(self.spec).latents)
        if len(self.betas) != layers:
            raise SpecError(
                f"{len(self.betas)} betas given; {self.spec} has {layers} layers of latents"
            )
        if not all(math.isfinite(beta) and beta >= 0 for beta in self.betas):
            raise SpecError(f"betas {self.betas}; each must be finite and at least 0")
        self._check_rates()
        for name, minimum in (
            ("epochs", 1),
            ("batch_size", 1),
            ("rate_warmup_epochs", 0),
            ("rounded_epochs", 0),
            ("seed", 0),
            ("noise_index", 0),
        ):
            if getattr(self, name) < minimum:
                raise SpecError(f"{name} {getattr(self, name)}; at least {minimum} is allowed")
        if self.images is not None and self.images < 1:
            raise SpecError(f"images {self.images}; at least 1 is allowed")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SpecError(f"learning_rate {self.learning_rate}; must be finite and above 0")
        norm = self.gradient_norm
        if norm is not None and not (math.isfinite(norm) and norm > 0):
            raise SpecError(f"gradient_norm {norm}; must be finite and above 0")
        if max(self.rate_warmup_epochs, self.rounded_epochs) > self.epochs:
            raise SpecError(
                f"rate_warmup_epochs and rounded_epochs must not exceed epochs ({self.epochs})"
            )
        for name, allowed in (
            ("posterior", POSTERIORS),
            ("precision", ("fp32", "bf16")),
            ("schedule", ("constant", "cosine")),
        ):
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name} {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        if self.rounded_epochs and self.posterior != "uniform":
            raise SpecError(
                "rounded_epochs needs the uniform posterior: a Gaussian one has no grid to round to"
            )

    def _check_rates(self) -> None:
        if self.rates is None:
            return
        if len(self.rates) != len(self.betas):
            raise SpecError(f"rates {self.rates}; need one, or none, for each of the layers")
        for beta, rate in zip(self.betas, self.rates, strict=True):
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise SpecError(f"rates {self.rates}; each must be finite and above 0")
            if rate is not None and beta == 0:
                raise SpecError("a beta of 0 cannot be adapted to a rate: start from one above 0")
        if self.rate_warmup_epochs:
            raise SpecError("rates are reached by adapted betas; rate_warmup_epochs must be 0")

    def to_json(self) -> dict[str, Any]:
        """JSON-ready fields."""
        rates = None if self.rates is None else list(self.rates)
        return {**asdict(self), "betas": list(self.betas), "rates": rates}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """The recipe that `to_json` described.

        Raises:
            SpecError: an unknown or missing field, or a value out of range.
        """
        unknown = set(data) - {field.name for field in fields(cls)}
        if unknown:
            raise SpecError(f"unknown recipe fields: {', '.join(sorted(unknown))}")
        try:
            betas = tuple(float(beta) for beta in data["betas"])
            rates = data.get("rates")
            if rates is not None:
                rates = tuple(None if rate is None else float(rate) for rate in rates)
            return cls(**{**data, "betas": betas, "rates": rates})
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"not a recipe: {error!r}") from error

    @property
    def first_weights_seed(self) -> int:
        """Seed of the weights that the run begins with."""
        return self.seed if self.noise_index == 0 else noise_seed(self.seed, self.noise_index)

    def learning_rate_at(self, progress: float) -> float:
        """Learning rate when the fraction `progress` in [0, 1) of all steps is done."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))

    def betas_at(self, epoch: float) -> tuple[float, ...]:
        """The betas after `epoch` epochs (a fraction inside an epoch)."""
        if epoch >= self.rate_warmup_epochs:
            return self.betas
        return tuple(beta * epoch / self.rate_warmup_epochs for beta in self.betas)
