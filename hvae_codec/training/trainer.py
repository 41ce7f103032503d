"""Training by Eq. 8, with a beta per layer; killed at any moment, it goes on where it was."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from hvae_codec.data import ImageDataset, epoch_batches
from hvae_codec.errors import DatasetError, DivergenceError
from hvae_codec.models.hvae import HierarchicalVAE, Outcome, noise_seed
from hvae_codec.models.spec import ModelSpec
from hvae_codec.models.zoo import get_spec
from hvae_codec.training.rates import RateController
from hvae_codec.training.recipe import Recipe
from hvae_codec.training.state import Progress, load_state, save_state

MAX_NATS_PER_DIMENSION = 1e3
"""Mean rate a dimension above which a batch counts as diverged; a float32 holds 22 nats."""


def train(
    recipe: Recipe,
    dataset: ImageDataset,
    directory: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    device: torch.device | str = "cpu",
    report: Callable[[dict[str, Any]], None] | None = None,
) -> HierarchicalVAE:
    """Train the model of `recipe` on `dataset`, keeping its state in `directory` after every epoch.

    If `directory` holds the state of the same recipe, training goes on from there and ends with the
    weights of an uninterrupted run (bit for bit on a CPU in fp32 with the same number of threads).

    Args:
        recipe: settings of the run.
        dataset: pictures of the model's size, uint8 [N, H, W, C].
        directory: made if absent.
        start: weights (a state dict) to start from instead of fresh ones; `recipe.start` names
        them.
        device: where to train.
        report: called after each epoch with its means (rates in nats per layer, PSNR in dB) and,
        where they adapt to target rates, the betas reached.

    Returns:
        The trained model in evaluation mode.

    Raises:
        DatasetError: the pictures do not fit the model or do not fill a minibatch.
        CheckpointError: `directory` holds another run.
        DivergenceError: the distortion is no longer finite, or a rate has left all bounds; names
            step and layer.
    """
    spec = get_spec(recipe.spec)
    images = checked_images(spec, dataset, recipe)
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.first_weights_seed)
    model = HierarchicalVAE(spec, recipe.posterior)
    if start is not None:
        model.load_state_dict(dict(start))
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=layout)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    progress = load_state(directory, recipe, model, optimiser)
    model.train()
    per_epoch = len(images) // recipe.batch_size * recipe.batch_size
    with tqdm(
        total=recipe.epochs * per_epoch,
        initial=progress.epochs * per_epoch,
        unit="img",
        disable=None,
        file=sys.stderr,
    ) as bar:
        while progress.epochs < recipe.epochs:
            row = _epoch(recipe, model, optimiser, images, progress, bar)
            progress = Progress(progress.epochs + 1, [*progress.history, row])
            save_state(directory, recipe, model, optimiser, progress)
            if report is not None:
                report(row)
    return model.eval()


def checked_images(spec: ModelSpec, dataset: ImageDataset, recipe: Recipe) -> NDArray[np.uint8]:
    """The pictures [N, H, W, C] that `recipe` trains on.

    Raises:
        DatasetError: they do not fit the model or do not fill a minibatch.
    """
    if dataset.image_shape != spec.image_shape:
        raise DatasetError(
            f"{dataset.name} has pictures of shape (C, H, W) = {dataset.image_shape}; "
            f"{spec.name} takes {spec.image_shape}"
        )
    images = dataset.images[: recipe.images]
    if len(images) < recipe.batch_size:
        raise DatasetError(
            f"{dataset.name}: {len(images)} pictures do not fill a minibatch of {recipe.batch_size}"
        )
    return images


def _epoch(
    recipe: Recipe,
    model: HierarchicalVAE,
    optimiser: torch.optim.Adam,
    images: NDArray[np.uint8],
    progress: Progress,
    bar: tqdm[Any],
) -> dict[str, Any]:
    epoch = progress.epochs
    steps = len(images) // recipe.batch_size
    last = progress.history[-1] if progress.history else None
    controller = rate_controller(recipe, last, steps * recipe.epochs)
    sums = np.zeros(2 + len(recipe.betas))
    bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}", refresh=False)
    rounded = epoch >= recipe.epochs - recipe.rounded_epochs
    batches = epoch_batches(images, recipe.batch_size, recipe.seed, epoch)
    for index, batch in enumerate(batches):
        step = epoch * steps + index
        learning_rate = recipe.learning_rate_at(step / (steps * recipe.epochs))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate
        pace = learning_rate / recipe.learning_rate
        betas = controller.betas(pace) if recipe.rates else recipe.betas_at(step / steps)
        means = _step(recipe, model, optimiser, images[batch], betas, step, rounded)
        controller.update(means[2:].tolist(), pace)
        sums += means
        bar.update(len(batch))
        bar.set_postfix_str(_summary(epoch_row(epoch, sums / (index + 1))), refresh=False)
    return {**epoch_row(epoch, sums / steps), **controller_row(recipe, controller)}


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
    recipe: Recipe,
    model: HierarchicalVAE,
    optimiser: torch.optim.Adam,
    batch: NDArray[np.uint8],
    betas: tuple[float, ...],
    step: int,
    rounded: bool,
) -> NDArray[np.float64]:
    """One optimiser step; returns the batch's means of distortion, squared error and each rate."""
    parameter = next(model.parameters())
    # [B, H, W, C] in memory is what channels_last means, so the permuted view needs no copy.
    x = model.likelihood.pixels(torch.from_numpy(batch).to(parameter.device).permute(0, 3, 1, 2))
    if not recipe.channels_last:
        x = x.contiguous()
    autocast = torch.autocast(parameter.device.type, torch.bfloat16, recipe.precision == "bf16")
    with autocast:
        outcome: Outcome = model(
            x,
            seed=noise_seed(recipe.seed, step),
            rounded=rounded,
            noise_index=recipe.noise_index,
        )
    weights = torch.tensor(betas, device=parameter.device)
    loss = (outcome.distortion_nats + outcome.rates_nats @ weights).mean()
    optimiser.zero_grad(set_to_none=True)
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
    optimiser.step()
    return np.array(means)


def divergence(spec: ModelSpec, means: Sequence[float]) -> str:
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
