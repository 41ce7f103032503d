"""What a training run is made of: everything that, with the data, determines its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from hvae_codec.errors import HvaeCodecError, SpecError
from hvae_codec.models.fully_convolutional.spec import ConvSpec
from hvae_codec.models.hvae import Posterior, noise_seed
from hvae_codec.models.plane import BetaRanges, check_ranges
from hvae_codec.models.zoo import any_spec
from hvae_codec.training.optimisers.optimiser import OptimiserName
from hvae_codec.utils.arguments import flag, real, shown, whole
from hvae_codec.utils.options import check_options, option

Precision = Literal["fp32", "bf16"]
Schedule = Literal["constant", "cosine", "hold"]

WARMUP_STEPS = 300
"""Steps in which the learning rate of "hold" rises."""


FIRST_SHARES = (1 / 30, 1 / 3)
"""Of their betas, what the top and the bottom layer of a model for a range of betas begin with.

The top layer learns nothing at any beta if its rate costs as much as the bottom one's from the
first step on.
"""


@dataclass(frozen=True)
class Recipe:
    """One training run of Eq. 8.

    `betas` weigh the layers' rates, top first (beta_2, beta_1). `learning_rate` falls to zero along
    a half cosine when `schedule` is "cosine"; when it is "hold", it rises in the first
    WARMUP_STEPS, stands, and falls linearly to zero in the last `decay` share of all steps.
    `rate_warmup_epochs`: betas rise linearly from 0 over that many first epochs (LVAE: a fifth of
    them). `rounded_epochs`: in that many last epochs the decoder learns from rounded latents
    (uniform posteriors only). `gradient_norm`: gradients of a greater norm are scaled down to it.
    `start`: model id of the checkpoint whose weights the run starts from, if any. `rates`: for each
    layer, top first, the rate in nats per image to reach, or None; the layer's beta is then where
    its adaptation starts (`hvae_codec.training.rate_controller`). `noise_index`: which of several
    runs that share a seed, and with it the order of the images, this is; runs of different index
    begin with different weights and draw different noise. `average`: what an exponential moving
    average of the weights keeps of itself in a step; the model trained is the average.
    `quality_rate`: factor on the learning rate of a map model's values by quality. `crops`: of
    photographs, random crops an epoch; `plain_crops`: the share of them that are no photographs
    (`hvae_codec.data.plain_crops`). `optimiser`: as `hvae_codec.training.optimisers` has them;
    with "muon" and "soap" one learning rate serves matrices and the rest. `beta_ranges`: least and
    greatest beta of each layer, top first, of one model for all of them
    (`hvae_codec.models.plane`); `betas` are then factors, and in the warm-up rise from
    `FIRST_SHARES`.
    """

    spec: str
    dataset: str
    betas: tuple[float, ...]
    posterior: Posterior = option("uniform", "form of q(z|x)")
    epochs: int = option(60, "passes over the data", least=1)
    batch_size: int = option(128, "images of a minibatch", least=1)
    learning_rate: float = option(1e-3, "highest learning rate")
    schedule: Schedule = option("cosine", "course of the learning rate")
    rate_warmup_epochs: int = option(0, "betas rise from 0 over these", least=0)
    rounded_epochs: int = option(
        0,
        "last epochs, on rounded latents",
        least=0,
        flag="quantized-epochs",
        old="rounded-epochs",
    )
    gradient_norm: float | None = option(None, "scale gradients of a greater norm down to it")
    precision: Precision = option("fp32", "number format of the networks")
    channels_last: bool = True
    seed: int = 0
    images: int | None = option(None, "use only this many training images", least=1)
    start: str | None = None
    rates: tuple[float | None, ...] | None = None
    noise_index: int = option(
        0, "of the runs that share a seed, which: a model of a sweep alone", least=0
    )
    average: float | None = option(
        None,
        "end with an exponential moving average of the weights, of this decay: 0.999",
        flag="ema-decay",
        old="average",
    )
    decay: float = option(
        0.25,
        "last share of the steps, in which the learning rate of --schedule hold falls to 0",
        flag="decay-share",
        old="decay",
    )
    quality_rate: float = option(
        1.0,
        "factor on the learning rate of a fully convolutional model's values by quality",
        flag="quality-lr-scale",
        old="quality-rate",
    )
    crops: int | None = option(
        None,
        "of photographs, random crops an epoch: 20000",
        least=1,
        flag="crops-per-epoch",
        old="crops",
    )
    optimiser: OptimiserName = option(
        "adam",
        "muon: orthogonalised momentum for weight matrices, Adam for the rest; "
        "soap: Adam in the eigenbases of their gradients",
    )
    beta_ranges: BetaRanges | None = None
    plain_crops: float = option(
        0.0,
        "of photographs, share of crops that are one colour, a gradient or an edge: 0.04",
    )

    def __post_init__(self) -> None:
        for name, kind in _field_types().items():
            _check_type(name, getattr(self, name), kind)
        layers = len(any_spec(self.spec).latents)
        if len(self.betas) != layers:
            raise SpecError(
                f"{len(self.betas)} betas given; {self.spec} has {layers} layers of latents"
            )
        if not all(math.isfinite(beta) and beta >= 0 for beta in self.betas):
            raise SpecError(f"betas {self.betas}; each must be finite and at least 0")
        self._check_rates()
        if self.seed < 0:
            raise SpecError(f"seed {self.seed}; at least 0 is allowed")
        check_options(self, SpecError)
        if self.images is not None and self.crops is not None:
            raise SpecError("images and crops both say how many images an epoch has: give one")
        if not 0 <= self.plain_crops <= 1:
            raise SpecError(f"plain_crops {self.plain_crops}; must lie between 0 and 1")
        if self.plain_crops and self.crops is None:
            raise SpecError("plain_crops is a share of random crops: give crops as well")
        for name in ("learning_rate", "gradient_norm", "quality_rate"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SpecError(f"{name} {value}; must be finite and above 0")
        if self.average is not None and not 0 < self.average < 1:
            raise SpecError(f"average {self.average}; must lie between 0 and 1")
        if not 0 < self.decay <= 1:
            raise SpecError(f"decay {self.decay}; must be above 0 and at most 1")
        if max(self.rate_warmup_epochs, self.rounded_epochs) > self.epochs:
            raise SpecError(
                f"rate_warmup_epochs and rounded_epochs must not exceed epochs ({self.epochs})"
            )
        self._check_kind()
        self._check_ranges()

    def _check_kind(self) -> None:
        if isinstance(any_spec(self.spec), ConvSpec):
            if self.posterior != "uniform":
                raise SpecError(f"{self.spec} has uniform posteriors only, not {self.posterior!r}")
            if self.rounded_epochs:
                raise SpecError(
                    f"{self.spec} learns from rounded latents in every epoch; "
                    f"rounded_epochs must be 0, not {self.rounded_epochs}"
                )
        elif self.quality_rate != 1.0:
            raise SpecError(f"{self.spec} has no values by quality; quality_rate must be 1")
        if self.rounded_epochs and self.posterior != "uniform":
            raise SpecError(
                "rounded_epochs needs the uniform posterior: a Gaussian one has no grid to round to"
            )

    def _check_ranges(self) -> None:
        if self.beta_ranges is None:
            return
        if isinstance(any_spec(self.spec), ConvSpec):
            raise SpecError(f"{self.spec} has a quality, no ranges of betas")
        if self.rates is not None:
            raise SpecError("rates are reached by adapted betas: a range of betas has none")
        if self.start is not None:
            raise SpecError("a model for a range of betas starts from fresh weights")
        check_ranges(self.beta_ranges, len(self.betas), self.spec)

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
        fields = {**asdict(self), "betas": list(self.betas), "rates": rates}
        ranges = fields.pop("beta_ranges")
        if ranges is not None:
            fields["beta_ranges"] = [list(r) for r in ranges]
        if not self.plain_crops:  # as releases without this field wrote it
            del fields["plain_crops"]
        return fields

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
            ranges = data.get("beta_ranges")
            if ranges is not None:
                ranges = tuple((float(low), float(high)) for low, high in ranges)
            return cls(**{**data, "betas": betas, "rates": rates, "beta_ranges": ranges})
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SpecError(f"not a recipe: {error!r}") from error

    def continues(self, earlier: Recipe, epochs: int) -> bool:
        """Whether a run of `earlier` that has finished so many epochs may go on by this recipe.

        The precision may differ, since it is a matter of the machine. While the learning rate
        stands, it and the number of epochs may differ: nothing that was done depends on them.
        """
        same = replace(earlier, precision=self.precision)
        if self == same:
            return True
        held = all(run.holds_until(epochs) for run in (self, earlier))
        changed = replace(same, epochs=self.epochs, learning_rate=self.learning_rate)
        return held and changed == self

    def holds_until(self, epochs: int) -> bool:
        """Whether the first so many epochs are alike however many follow."""
        if self.rates is not None or epochs > self.epochs - self.rounded_epochs:
            return False
        falls = {"constant": 0.0, "hold": self.decay, "cosine": 1.0}[self.schedule]
        return epochs <= self.epochs * (1.0 - falls)

    @property
    def first_weights_seed(self) -> int:
        """Seed of the weights that the run begins with."""
        return self.seed if self.noise_index == 0 else noise_seed(self.seed, self.noise_index)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0, of a run of so many."""
        progress = step / steps
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.schedule == "constant":
            return self.learning_rate
        rise, fall = (step + 1) / WARMUP_STEPS, (1.0 - progress) / self.decay
        return self.learning_rate * min(1.0, rise) * min(1.0, fall)

    def betas_at(self, epoch: float) -> tuple[float, ...]:
        """The betas after `epoch` epochs (a fraction inside an epoch)."""
        if epoch >= self.rate_warmup_epochs:
            return self.betas
        share = epoch / self.rate_warmup_epochs
        if self.beta_ranges is None:
            return tuple(beta * share for beta in self.betas)
        first, last = map(math.log, FIRST_SHARES)
        depth = len(self.betas) - 1
        starts = [math.exp(first + (last - first) * i / depth) for i in range(depth + 1)]
        pairs = zip(self.betas, starts, strict=True)
        return tuple(beta * start ** (1.0 - share) for beta, start in pairs)


@cache
def _field_types() -> dict[str, tuple[Any, ...]]:
    """The types that each field of `Recipe` may have; of a choice of words, and of words, str."""
    found = {}
    for name, hint in get_type_hints(Recipe).items():
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        kinds = (get_origin(part) or part for part in parts)
        found[name] = tuple(str if kind is Literal else kind for kind in kinds)
    return found


def _check_type(name: str, value: object, kinds: tuple[Any, ...]) -> None:
    """Refuse a value of a field that is of none of its types: SpecError."""
    if value is None and NoneType in kinds:
        return
    try:
        if bool in kinds:
            flag(name, value)
        elif int in kinds:
            whole(name, value)
        elif float in kinds:
            real(name, value)
        elif tuple in kinds and (
            isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray)
        ):
            raise SpecError(f"{name} must be numbers, one for each layer; got {shown(value)}")
        elif tuple in kinds:
            for each in value:  # type: ignore[attr-defined]
                pair = name == "beta_ranges" and isinstance(each, tuple | list)
                for number in each if pair else [each]:
                    if number is not None or name != "rates":
                        real(f"each of {name}", number)
        elif not isinstance(value, str):
            raise SpecError(f"{name} must be text; got {type(value).__name__} {shown(value)}")
    except SpecError:
        raise
    except HvaeCodecError as error:
        raise SpecError(str(error)) from error


def beta_per_layer(betas: Sequence[float], bins: Sequence[int], layers: int) -> tuple[float, ...]:
    """The betas of all layers, top first, from one for each bin.

    bins: how many neighbouring layers each bin has, top first: (1, 3) is the top layer alone, and
    the three below it together.

    Raises:
        SpecError: the bins do not make up so many layers, or there is not one beta for each.
    """
    text = ",".join(map(str, bins))
    if any(size < 1 for size in bins) or sum(bins) != layers:
        raise SpecError(
            f"beta-groups {text}: each needs 1 or more layers, {layers} in all; found {sum(bins)}"
        )
    if len(betas) != len(bins):
        raise SpecError(
            f"beta-groups {text} need a beta each, {len(bins)} in all; {len(betas)} given"
        )
    return tuple(beta for beta, size in zip(betas, bins, strict=True) for _ in range(size))
