"""Training the models of a chunk as one stack; killed at any moment, it goes on where it was.

What `trainer` does for one model, with the same minibatches for all of them. Adam works element by
element, and Muon matrix by matrix, so each model's weights follow the path that they would follow
alone; a model that diverges is set to zero and no longer learns, and the others do not notice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_codec.data import ImageDataset
from hvae_codec.models.hvae import HierarchicalVAE, noise_seed
from hvae_codec.models.stacked import StackedVAE
from hvae_codec.models.zoo import get_spec
from hvae_codec.training.loop import Step, checked_count, divergence, run_epoch
from hvae_codec.training.optimisers.optimiser import Optimiser
from hvae_codec.training.run_state import Progress, RunState
from hvae_codec.training.state_file import data_of
from hvae_codec.training.sweep.plan import SweepPlan

Advance = Callable[[int], None]
"""Called after each step with the images seen, counted once for every model."""


@dataclass(frozen=True)
class TrainedModel:
    """A model at its end: its state dict, or None where it diverged, and its rows of history."""

    state: dict[str, Tensor] | None
    history: list[dict[str, Any]]


def train_chunk(
    plan: SweepPlan,
    indices: range,
    dataset: ImageDataset,
    directory: Path,
    *,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
) -> list[TrainedModel]:
    """Train the models `indices` of `plan` on `dataset` as one stack, keeping their state in
    `directory` after every epoch.

    If `directory` holds the state of the same models, training goes on from there and ends with the
    weights of an uninterrupted run (bit for bit on a CPU with the same number of threads).

    Raises:
        DatasetError: the images do not fit the model or do not fill a minibatch.
        CheckpointError: `directory` holds another run.
    """
    recipe = plan.recipe
    count = checked_count(get_spec(recipe.spec), dataset, recipe)
    directory.mkdir(parents=True, exist_ok=True)
    stack = _fresh_stack(plan, indices).to(device)
    optimiser = Optimiser(stack, recipe.optimiser, stacked=True)
    models = [plan.to_json()["models"][index] for index in indices]
    run = RunState(directory, recipe, stack, optimiser, data_of(dataset), models)
    progress = run.load()
    learner = _Stack(plan, indices, stack, optimiser)

    def seen(images: int) -> None:
        if advance is not None:
            advance(images * len(indices))

    seen(progress.epochs * (count - count % recipe.batch_size))
    while progress.epochs < recipe.epochs:
        last = progress.history[-1]["models"] if progress.history else [None] * len(indices)
        learner.diverged = {
            slot: str(row["diverged"]) for slot, row in enumerate(last) if row and "diverged" in row
        }
        rows = run_epoch(
            learner, dataset, count, progress.epochs, last, lambda images, means: seen(images)
        )
        history = [*progress.history, {"epoch": progress.epochs + 1, "models": rows}]
        progress = Progress(progress.epochs + 1, history)
        run.save(progress)
    return [_trained(stack, progress, slot) for slot in range(len(indices))]


def _trained(stack: StackedVAE, progress: Progress, slot: int) -> TrainedModel:
    history = [epoch["models"][slot] for epoch in progress.history]
    state = None if "diverged" in history[-1] else stack.slice_state(slot)
    return TrainedModel(state, history)


def _fresh_stack(plan: SweepPlan, indices: range) -> StackedVAE:
    spec, posterior = get_spec(plan.recipe.spec), plan.recipe.posterior
    stack = StackedVAE(spec, len(indices), posterior)
    for slot, index in enumerate(indices):
        torch.manual_seed(plan.recipe_of(index).first_weights_seed)
        stack.load_slices(slot, [HierarchicalVAE(spec, posterior)])
    return stack.train()


class _Stack:
    """The `Learner` of a stack."""

    def __init__(
        self, plan: SweepPlan, indices: range, stack: StackedVAE, optimiser: Optimiser
    ) -> None:
        self.recipe = plan.recipe
        self.recipes = [plan.recipe_of(index) for index in indices]
        self.first = indices.start
        self.stack = stack
        self.optimiser = optimiser
        channels_last = plan.recipe.channels_last
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.diverged: dict[int, str] = {}

    def step(self, batch: NDArray[np.uint8], step: Step) -> NDArray[np.float64]:
        """As `Learner.step`."""
        recipe, stack = self.recipe, self.stack
        parameter = next(stack.parameters())
        pictures = torch.from_numpy(batch).to(parameter.device).permute(0, 3, 1, 2)
        x = stack.likelihood.pixels(pictures).contiguous(memory_format=self.layout)
        with torch.autocast(parameter.device.type, torch.bfloat16, recipe.precision == "bf16"):
            outcome = stack(
                x,
                seed=noise_seed(recipe.seed, step.number),
                rounded=step.rounded,
                noise_index=self.first,
            )
        count = len(self.recipes)
        rates = outcome.rates_nats.view(count, len(batch), -1)
        distortion = outcome.distortion_nats.view(count, len(batch))
        weights = torch.tensor(step.betas, device=parameter.device)
        # A sum over models: the gradient of each is that of its own mean.
        loss = (distortion + (rates * weights.unsqueeze(1)).sum(2)).mean(1).sum()
        self.optimiser.zero_grad()
        loss.backward()
        with torch.no_grad():
            error = (stack.likelihood.mode(outcome.output) - stack.repeated(x)).square()
            columns = [
                distortion.mean(1),
                error.reshape(count, -1).mean(1),
                *rates.mean(1).unbind(1),
            ]
            means = torch.stack(columns, dim=1).double().cpu().numpy()
        self._mask_diverged(means, step.number)
        if recipe.gradient_norm is not None:
            self._clip_gradients(recipe.gradient_norm)
        self.optimiser.step(step.learning_rate)
        return np.where(np.isfinite(means), means, 0.0)

    def _mask_diverged(self, means: NDArray[np.float64], step: int) -> None:
        """Take models whose means show divergence, now or before, out of this step."""
        for slot in range(len(means)):
            found = divergence(self.stack.spec, means[slot].tolist())
            if found and slot not in self.diverged:
                self.diverged[slot] = f"training diverged at step {step}: {found}"
                for moment in self.optimiser.state_tensors().values():
                    if moment.dim() > 0:  # "step" is one number for the whole stack
                        moment[slot].zero_()
            if slot in self.diverged:
                self.stack.clear_slice(slot)

    def _clip_gradients(self, greatest: float) -> None:
        """As `torch.nn.utils.clip_grad_norm_`, for each model by its own norm."""
        gradients = [p.grad for p in self.stack.parameters() if p.grad is not None]
        squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients])
        scale = (greatest / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *(1,) * (gradient.dim() - 1)))
