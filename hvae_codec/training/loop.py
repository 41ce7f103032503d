"""The loop of a run over one model or a stack of many, which share minibatches and seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hvae_codec.data import TrainingPictures, epoch_batches
from hvae_codec.errors import DatasetError
from hvae_codec.models.build import Spec
from hvae_codec.training.rate_controller import RateController
from hvae_codec.training.recipe import Recipe

MAX_NATS_PER_DIMENSION = 1e3
"""Mean rate a dimension above which a batch counts as diverged; a float32 holds 22 nats."""

Advance = Callable[[int, NDArray[np.float64]], None]
"""Called after each step with the images of its minibatch, and each model's means so far [M, 2 + L]
of distortion, squared error and rates."""


class Step(NamedTuple):
    """One step of the optimiser.

    number: counted from 0 over all epochs. betas: of each model, top first. rounded: whether the
    decoder learns from rounded latents.
    """

    number: int
    betas: Sequence[tuple[float, ...]]
    rounded: bool
    learning_rate: float


class Learner(Protocol):
    """The M models of a run, and how one minibatch changes them."""

    @property
    def recipes(self) -> Sequence[Recipe]:
        """One for each model; they differ in betas, rates and noise index only."""

    @property
    def diverged(self) -> Mapping[int, str]:
        """Why a model no longer learns, by its position."""

    def step(self, batch: NDArray[np.uint8], step: Step) -> NDArray[np.float64]:
        """Learn from images [B, H, W, C]; each model's means [M, 2 + L] of distortion, squared
        error and rates, in nats.
        """


def run_epoch(
    learner: Learner,
    dataset: TrainingPictures,
    count: int,
    epoch: int,
    last: Sequence[Mapping[str, Any] | None],
    advance: Advance,
) -> list[dict[str, Any]]:
    """Train on the first `count` images once; the row of history of each model.

    epoch: counted from 0. last: the rows of the epoch before, None where there is none.
    """
    recipe = learner.recipes[0]
    steps = count // recipe.batch_size
    total = steps * recipe.epochs
    controllers = [
        _rate_controller(own, row, total) for own, row in zip(learner.recipes, last, strict=True)
    ]
    sums = np.zeros((len(controllers), 2 + len(recipe.betas)))
    rounded = epoch >= recipe.epochs - recipe.rounded_epochs
    order = epoch_batches(range(count), recipe.batch_size, recipe.seed, epoch)
    for index, batch in enumerate(dataset.batches(epoch, order)):
        step = epoch * steps + index
        learning_rate = recipe.learning_rate_at(step, total)
        pace = learning_rate / recipe.learning_rate
        betas = [
            controller.betas(pace) if own.rates else own.betas_at(step / steps)
            for own, controller in zip(learner.recipes, controllers, strict=True)
        ]
        means = learner.step(batch, Step(step, betas, rounded, learning_rate))
        for slot, controller in enumerate(controllers):
            if slot not in learner.diverged:
                controller.update(means[slot, 2:].tolist(), pace)
        sums += means
        advance(len(batch), sums / (index + 1))
    rows: list[dict[str, Any]] = []
    for slot, (own, controller) in enumerate(zip(learner.recipes, controllers, strict=True)):
        if slot in learner.diverged:
            rows.append({"diverged": learner.diverged[slot]})
        else:
            row = epoch_row(epoch, sums[slot] / steps)
            rows.append({**row, **_controller_row(own, controller)})
    return rows


def checked_count(spec: Spec, dataset: TrainingPictures, recipe: Recipe) -> int:
    """How many images an epoch of `recipe` takes from `dataset`: the first so many.

    Raises:
        DatasetError: they do not fit the model or do not fill a minibatch.
    """
    if dataset.image_shape != spec.image_shape:
        raise DatasetError(
            f"{dataset.name} has images of shape (C, H, W) = {dataset.image_shape}; "
            f"{spec.name} takes {spec.image_shape}"
        )
    count = min(len(dataset), recipe.images or len(dataset))
    if count < recipe.batch_size:
        raise DatasetError(
            f"{dataset.name}: {count} images do not fill a minibatch of {recipe.batch_size}"
        )
    return count


def _rate_controller(recipe: Recipe, last: Mapping[str, Any] | None, steps: int) -> RateController:
    """As a run of so many steps has left it after the epoch whose row of history is `last`."""
    targets = recipe.rates or (None,) * len(recipe.betas)
    if not recipe.rates or last is None or "diverged" in last:
        return RateController(recipe.betas, targets, steps)
    return RateController(last["betas"], targets, steps, last["rate_errors"])


def _controller_row(recipe: Recipe, controller: RateController) -> dict[str, Any]:
    """What the history keeps of a controller: nothing where there is no target rate."""
    if not recipe.rates:
        return {}
    return {"betas": list(controller.multipliers), "rate_errors": list(controller.errors)}


def divergence(spec: Spec, means: Sequence[float]) -> str:
    """What a batch's means (distortion, squared error, each rate) say of divergence; "" if nothing.

    A distortion that is not finite, or a rate that has left all bounds.
    """
    names = ["the distortion", "the squared error"]
    names += [f"the rate of {spec.layer_name(index)}" for index in range(len(spec.latents))]
    limits = [math.inf, math.inf, *(MAX_NATS_PER_DIMENSION * dims for dims in spec.dims)]
    return ", ".join(
        f"{name} is {value}"
        for name, value, limit in zip(names, means, limits, strict=True)
        if not math.isfinite(value) or value > limit
    )


def epoch_row(epoch: int, means: NDArray[np.float64]) -> dict[str, Any]:
    """What the history says of an epoch, counted from 0, whose steps have these means."""
    return {
        "epoch": epoch + 1,
        "distortion_nats": float(means[0]),
        "psnr_db": -10.0 * math.log10(max(float(means[1]), 1e-12)),
        "rates_nats": [float(rate) for rate in means[2:]],
    }
