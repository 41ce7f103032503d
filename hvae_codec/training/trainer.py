"""Training by Eq. 8, with a beta per layer; killed at any moment, it goes on where it was."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from hvae_codec.data import ImageDataset, TrainingPictures, epoch_batches
from hvae_codec.errors import CheckpointError, DatasetError, DivergenceError
from hvae_codec.models.build import Model, Spec, build_model
from hvae_codec.models.hvae import ForwardOutput, noise_seed
from hvae_codec.models.zoo import any_spec
from hvae_codec.training.ema import WeightAverage
from hvae_codec.training.optimisers import Optimiser
from hvae_codec.training.rate_controller import RateController
from hvae_codec.training.recipe import Recipe
from hvae_codec.training.run_state import Progress, RunState, data_of

MAX_NATS_PER_DIMENSION = 1e3
"""Mean rate a dimension above which a batch counts as diverged; a float32 holds 22 nats."""


def train(
    recipe: Recipe,
    dataset: TrainingPictures,
    directory: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    device: torch.device | str = "cpu",
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Model:
    """Train the model of `recipe` on `dataset`, keeping its state in `directory` after every epoch.

    If `directory` holds the state of the same recipe and data, training resumes there and ends with
    the weights of an uninterrupted run (bit for bit on a CPU in fp32 with the same number of
    threads). What may differ in the recipe is told by `Recipe.continues`.

    Args:
        recipe: settings of the run.
        dataset: images of the model's size.
        directory: made if absent.
        start: weights (a state dict) to start from instead of fresh ones; `recipe.start` names
            them.
        device: where to train.
        report: called after each epoch with its means (rates in nats per layer, PSNR in dB), its
            processor time in seconds and, where they adapt to target rates, the betas reached.

    Returns:
        The trained model in evaluation mode, its weights the average where the recipe has one.

    Raises:
        DatasetError: the images do not fit the model or do not fill a minibatch.
        CheckpointError: `directory` holds a run of another recipe or other data.
        DivergenceError: the distortion is no longer finite, or a rate has left all bounds; names
            step and layer.
    """
    count = checked_count(any_spec(recipe.spec), dataset, recipe)
    directory.mkdir(parents=True, exist_ok=True)
    run = _Run(recipe, dataset, directory, start, device)
    progress = run.state.load()
    run.model.train()
    per_epoch = count // recipe.batch_size * recipe.batch_size
    with tqdm(
        total=recipe.epochs * per_epoch,
        initial=progress.epochs * per_epoch,
        unit="img",
        disable=None,
        file=sys.stderr,
    ) as bar:
        while progress.epochs < recipe.epochs:
            row = _epoch(run, dataset, count, progress, bar)
            progress = Progress(progress.epochs + 1, [*progress.history, row])
            run.state.save(progress)
            if report is not None:
                report(row)
    return run.result()


def snapshot(recipe: Recipe, dataset: TrainingPictures, directory: Path) -> Model:
    """The model of a run as its newest state in `directory` has it, as `train` would return it.

    Raises:
        CheckpointError: `directory` holds no state, or that of another recipe or other data.
    """
    run = _Run(recipe, dataset, directory)
    if run.state.load().epochs == 0:
        raise CheckpointError(f"{directory} holds no state of a run: train first")
    return run.result()


class _Run:
    """What a run changes: a model, its optimiser and average; and the state kept of them."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: TrainingPictures,
        directory: Path,
        start: Mapping[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.first_weights_seed)
        model = build_model(any_spec(recipe.spec), recipe.posterior)
        if start is not None:
            model.load_state_dict(dict(start))
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.recipe = recipe
        self.model = model.to(device).to(memory_format=layout)
        self.optimiser = Optimiser(self.model, recipe.optimiser, recipe.quality_rate)
        self.average = None
        if recipe.average is not None:
            self.average = WeightAverage(self.model, recipe.average)
        self.state = RunState(
            directory, recipe, self.model, self.optimiser, data_of(dataset), average=self.average
        )

    def result(self) -> Model:
        """The model in evaluation mode, its weights the average where the recipe has one."""
        if self.average is not None:
            self.average.give_to(self.model)
        return self.model.eval()


def checked_images(spec: Spec, dataset: ImageDataset, recipe: Recipe) -> NDArray[np.uint8]:
    """The images [N, H, W, C] that `recipe` trains on.

    Raises:
        DatasetError: they do not fit the model or do not fill a minibatch.
    """
    return dataset.images[: checked_count(spec, dataset, recipe)]


def checked_count(spec: Spec, dataset: TrainingPictures, recipe: Recipe) -> int:
    """How many images an epoch of `recipe` takes from `dataset`: the first so many.

    Raises:
        DatasetError: they do not fit the model or do not fill a minibatch.
    """
    if dataset.image_shape != spec.image_shape:
        raise DatasetError(
            f"{dataset.name} has pictures of shape (C, H, W) = {dataset.image_shape}; "
            f"{spec.name} takes {spec.image_shape}"
        )
    count = min(len(dataset), recipe.images or len(dataset))
    if count < recipe.batch_size:
        raise DatasetError(
            f"{dataset.name}: {count} pictures do not fill a minibatch of {recipe.batch_size}"
        )
    return count


def _epoch(
    run: _Run, dataset: TrainingPictures, count: int, progress: Progress, bar: tqdm[Any]
) -> dict[str, Any]:
    recipe, epoch, start = run.recipe, progress.epochs, time.process_time()
    steps = count // recipe.batch_size
    last = progress.history[-1] if progress.history else None
    controller = rate_controller(recipe, last, steps * recipe.epochs)
    sums = np.zeros(2 + len(recipe.betas))
    bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}", refresh=False)
    rounded = epoch >= recipe.epochs - recipe.rounded_epochs
    order = epoch_batches(range(count), recipe.batch_size, recipe.seed, epoch)
    for index, batch in enumerate(dataset.batches(epoch, order)):
        step = epoch * steps + index
        learning_rate = recipe.learning_rate_at(step, steps * recipe.epochs)
        pace = learning_rate / recipe.learning_rate
        betas = controller.betas(pace) if recipe.rates else recipe.betas_at(step / steps)
        means = _step(run, batch, betas, step, rounded, learning_rate)
        if run.average is not None:
            run.average.update(run.model, step)
        controller.update(means[2:].tolist(), pace)
        sums += means
        bar.update(len(batch))
        bar.set_postfix_str(_summary(epoch_row(epoch, sums / (index + 1))), refresh=False)
    row = {**epoch_row(epoch, sums / steps), **controller_row(recipe, controller)}
    seconds = round(time.process_time() - start, 1)
    return {**row, "learning_rate": recipe.learning_rate, "cpu_seconds": seconds}


def rate_controller(recipe: Recipe, last: Mapping[str, Any] | None, steps: int) -> RateController:
    """As a run of so many steps has left it after the epoch whose row of history is `last`."""
    targets = recipe.rates or (None,) * len(recipe.betas)
    if not recipe.rates or last is None:
        return RateController(recipe.betas, targets, steps)
    return RateController(last["betas"], targets, steps, last["rate_errors"])


def controller_row(recipe: Recipe, controller: RateController) -> dict[str, Any]:
    """What the history keeps of a controller: nothing where there is no target rate."""
    if not recipe.rates:
        return {}
    return {"betas": list(controller.multipliers), "rate_errors": list(controller.errors)}


def _step(
    run: _Run,
    batch: NDArray[np.uint8],
    betas: tuple[float, ...],
    step: int,
    rounded: bool,
    learning_rate: float,
) -> NDArray[np.float64]:
    """One optimiser step; returns the batch's means of distortion, squared error and each rate."""
    recipe, model, optimiser = run.recipe, run.model, run.optimiser
    parameter = next(model.parameters())
    # [B, H, W, C] in memory is what channels_last means, so the permuted view needs no copy.
    x = model.likelihood.pixels(torch.from_numpy(batch).to(parameter.device).permute(0, 3, 1, 2))
    if not recipe.channels_last:
        x = x.contiguous()
    autocast = torch.autocast(parameter.device.type, torch.bfloat16, recipe.precision == "bf16")
    with autocast:
        outcome: ForwardOutput = model(
            x,
            seed=noise_seed(recipe.seed, step),
            rounded=rounded,
            noise_index=recipe.noise_index,
        )
    weights = torch.tensor(betas, device=parameter.device)
    losses = outcome.distortion_nats + outcome.rates_nats @ weights
    loss = (losses if outcome.weights is None else outcome.weights * losses).mean()
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        error = (model.likelihood.mode(outcome.output) - x).square().mean()
        means = torch.stack(
            [outcome.distortion_nats.mean(), error, *outcome.rates_nats.mean(dim=0)]
        ).tolist()
    if found := divergence(model.spec, means):
        raise DivergenceError(
            f"training diverged at step {step}: {found}; "
            "a lower learning rate, a gradient norm or smaller betas may help"
        )
    if recipe.gradient_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
    optimiser.step(learning_rate)
    return np.array(means)


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


def _summary(row: dict[str, Any]) -> str:
    """The row as the progress bar shows it; the PSNR is that of the mean squared error so far."""
    layers = len(row["rates_nats"])
    rates = " ".join(f"R(z{layers - i})={rate:.1f}" for i, rate in enumerate(row["rates_nats"]))
    return f"{rates} nats, {row['psnr_db']:.2f} dB"
