"""A sweep by one model: trained for the whole range of betas, and taken at those of the plan."""

from __future__ import annotations

from pathlib import Path

import torch

from hvae_codec.data import ImageDataset
from hvae_codec.models.plane import PlaneVAE
from hvae_codec.training.run_state import load_history
from hvae_codec.training.sweep.plan import SweepPlan
from hvae_codec.training.sweep.stacked_trainer import Advance, TrainedModel
from hvae_codec.training.trainer import train


def train_plane(
    plan: SweepPlan,
    indices: range,
    dataset: ImageDataset,
    directory: Path,
    *,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
) -> list[TrainedModel]:
    """The models `indices` of `plan`, each what one model is at their betas.

    The one model trains by the plan's recipe, as `hvae_codec.training.trainer.train` does, and
    keeps its state in `directory`. Its history is that of each.

    Raises: as `train`.
    """
    model = train(plan.recipe, dataset, directory, device=device, advance=advance or _ignore)
    assert isinstance(model, PlaneVAE)
    model = model.cpu()
    history = load_history(directory)
    return [
        TrainedModel(model.at(plan.models[index].betas).state_dict(), history) for index in indices
    ]


def _ignore(images: int) -> None:
    """Show no progress."""
