"""Training by Eq. 8, with a beta per layer; killed at any moment, it goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_codec.data import TrainingPictures
from hvae_codec.errors import CheckpointError, DivergenceError
from hvae_codec.models.build import Model, build_model
from hvae_codec.models.hvae import ForwardOutput, noise_seed
from hvae_codec.models.plane import PlaneVAE
from hvae_codec.models.zoo import any_spec, get_spec
from hvae_codec.training.ema import weight_average
from hvae_codec.training.loop import Step, checked_count, divergence, epoch_row, run_epoch
from hvae_codec.training.optimisers.optimiser import Optimiser
from hvae_codec.training.recipe import Recipe
from hvae_codec.training.run_state import Progress, RunState
from hvae_codec.training.state_file import data_of
from hvae_codec.utils.progress import progress


def train(
    recipe: Recipe,
    dataset: TrainingPictures,
    directory: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    device: torch.device | str = "cpu",
    report: Callable[[dict[str, Any]], None] | None = None,
    advance: Callable[[int], None] | None = None,
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
        advance: called with the images seen, in place of a progress bar; at first with those of
            epochs that were finished before.

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
    done = run.load(count // recipe.batch_size)
    run.model.train()
    per_epoch = count // recipe.batch_size * recipe.batch_size
    with progress(
        "training",
        total=recipe.epochs * per_epoch,
        initial=done.epochs * per_epoch,
        unit="images",
        shown=advance is None,
        in_log=report is None,
    ) as bar:
        if advance is not None:
            advance(done.epochs * per_epoch)

        def seen(images: int, means: NDArray[np.float64]) -> None:
            if advance is not None:
                advance(images)
            bar.update(images)
            bar.set_postfix_str(_summary(epoch_row(0, means[0])), refresh=False)

        while done.epochs < recipe.epochs:
            bar.set_description(f"epoch {done.epochs + 1}/{recipe.epochs}", refresh=False)
            last = [done.history[-1] if done.history else None]
            begun = time.process_time()
            (row,) = run_epoch(run, dataset, count, done.epochs, last, seen)
            seconds = round(time.process_time() - begun, 3)
            row |= {"learning_rate": recipe.learning_rate, "cpu_seconds": seconds}
            done = Progress(done.epochs + 1, [*done.history, row])
            run.state.save(done)
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
    """The `Learner` of one model: what a run changes, and the state kept of it."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: TrainingPictures,
        directory: Path,
        start: Mapping[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.first_weights_seed)
        model = _fresh_model(recipe)
        if start is not None:
            model.load_state_dict(dict(start))
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.recipe = recipe
        self.recipes = [recipe]
        self.diverged: dict[int, str] = {}
        self.model = model.to(device).to(memory_format=layout)
        self.optimiser = Optimiser(self.model, recipe.optimiser, recipe.quality_rate)
        self.average = None
        if recipe.average is not None:
            self.average = weight_average(self.model, recipe.average)
        self.state = RunState(
            directory, recipe, self.model, self.optimiser, data_of(dataset), average=self.average
        )

    def load(self, steps: int) -> Progress:
        """Restore the newest state; steps: of an epoch. Raises CheckpointError."""
        progress = self.state.load()
        if self.average is not None:
            self.average.n_averaged.fill_(progress.epochs * steps)
        return progress

    def result(self) -> Model:
        """The model in evaluation mode, its weights the average where the recipe has one."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        return self.model.eval()

    def step(self, batch: NDArray[np.uint8], step: Step) -> NDArray[np.float64]:
        """As `Learner.step`.

        Raises:
            DivergenceError: as `train`.
        """
        recipe, model, optimiser = self.recipe, self.model, self.optimiser
        parameter = next(model.parameters())
        # [B, H, W, C] in memory is what channels_last means, so the permuted view needs no copy.
        x = model.likelihood.pixels(
            torch.from_numpy(batch).to(parameter.device).permute(0, 3, 1, 2)
        )
        if not recipe.channels_last:
            x = x.contiguous()
        autocast = torch.autocast(parameter.device.type, torch.bfloat16, recipe.precision == "bf16")
        with autocast:
            outcome: ForwardOutput = model(
                x,
                seed=noise_seed(recipe.seed, step.number),
                rounded=step.rounded,
                noise_index=recipe.noise_index,
            )
        weights = torch.tensor(step.betas[0], device=parameter.device)
        loss = model.loss(outcome, weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            error = (model.likelihood.mode(outcome.output) - x).square().mean()
            means = torch.stack(
                [outcome.distortion_nats.mean(), error, *outcome.rates_nats.mean(dim=0)]
            ).tolist()
        if found := divergence(model.spec, means):
            raise DivergenceError(
                f"training diverged at step {step.number}: {found}; "
                "a lower learning rate, a gradient norm or smaller betas may help"
            )
        if recipe.gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
        optimiser.step(step.learning_rate)
        if self.average is not None:
            self.average.update_parameters(model)
        return np.array([means])


def _fresh_model(recipe: Recipe) -> Model:
    if recipe.beta_ranges is None:
        return build_model(any_spec(recipe.spec), recipe.posterior)
    return PlaneVAE(get_spec(recipe.spec), recipe.posterior, ranges=recipe.beta_ranges)


def _summary(row: dict[str, Any]) -> str:
    """The row as the progress bar shows it; the PSNR is that of the mean squared error so far."""
    layers = len(row["rates_nats"])
    rates = " ".join(f"R(z{layers - i})={rate:.1f}" for i, rate in enumerate(row["rates_nats"]))
    return f"{rates} nats, {row['psnr_db']:.2f} dB"
