"""A sweep by one model: trained for the whole range of betas, and taken at those of the plan.

The model is kept as a checkpoint in the sweep's folder. Where one is there, nothing is trained:
other sweeps take it at other betas.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec.data import ImageDataset
from hvae_codec.errors import CheckpointError, SpecError, SweepError
from hvae_codec.evaluation.card_figures import measure_plane
from hvae_codec.models.plane import PlaneVAE
from hvae_codec.models.zoo import get_spec
from hvae_codec.training.recipe import Recipe
from hvae_codec.training.run_state import load_history
from hvae_codec.training.sweep.plan import PLANE_FILE, SweepPlan
from hvae_codec.training.sweep.plane_checkpoint import (
    PlaneCheckpoint,
    load_plane,
    make_plane,
    save_plane,
)
from hvae_codec.training.sweep.stacked_trainer import Advance, TrainedModel
from hvae_codec.training.trainer import train


def points_of_plane(
    plan: SweepPlan,
    indices: range,
    training: ImageDataset,
    measured: NDArray[np.uint8],
    directory: Path,
    place: Path,
    *,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
) -> Iterator[TrainedModel]:
    """The models `indices` of `plan`, each what one model is at their betas.

    The one model is that of the sweep's folder `directory`. If there is none, it trains by the
    plan's recipe, as `hvae_codec.training.trainer.train` does, with its state in `place`, and its
    card has figures of the images `measured`. Its history is that of each.

    Raises:
        SweepError: the folder's model is not of this plan. CheckpointError: it is damaged.
            Otherwise as `train`.
    """
    advance = advance or _ignore
    place.mkdir(parents=True, exist_ok=True)
    path = directory / PLANE_FILE
    if path.with_suffix(".json").exists():  # written after the weights
        plane = load_plane(path)
        check_plane(path, plane, plan)
        advance(plan.recipe.epochs * plan.epoch_images)
    else:
        plane = _trained(plan, training, measured, place, device, advance)
        save_plane(path, plane)
    history: list[dict[str, Any]] = plane.card["history"]
    points = (plane.model.at(plan.models[index].betas) for index in indices)
    return (TrainedModel(point.state_dict(), history) for point in points)


def recipe_of(path: Path, plane: PlaneCheckpoint) -> Recipe:
    """The recipe that the model for a range of betas at `path` was trained by.

    Raises:
        CheckpointError: the card has none, or one of another model.
    """
    try:
        recipe = Recipe.from_json(plane.card["recipe"])
    except (KeyError, TypeError, SpecError) as error:
        raise CheckpointError(f"{path}: its card has no recipe: {error}") from error
    model = plane.model
    found = (get_spec(recipe.spec), recipe.posterior, recipe.beta_ranges)
    if found != (model.spec, model.posterior, model.ranges):
        raise CheckpointError(f"{path}: the recipe in its card is of another model")
    return recipe


def check_plane(path: Path, plane: PlaneCheckpoint, plan: SweepPlan) -> None:
    """Check that a model for a range of betas is the one of this plan's recipe and images.

    Raises:
        SweepError: it is not. CheckpointError: as `recipe_of`.
    """
    if recipe_of(path, plane) != plan.recipe:
        raise SweepError(f"{path} was trained by another recipe")
    if plane.card.get("fingerprint") != plan.fingerprint:
        raise SweepError(f"{path} was trained on other images than {plan.data} has here")


def keep_plane(directory: Path, plane: PlaneCheckpoint) -> None:
    """Put a model for a range of betas into a sweep's folder, whose models are then made of it.

    Raises:
        SweepError: the folder has another one.
    """
    path = directory / PLANE_FILE
    if path.with_suffix(".json").exists():
        found, given = load_plane(path).card["sha256"], plane.card["sha256"]
        if found != given:
            raise SweepError(
                f"{directory} is of model {found[:16]}, not {given[:16]}; use another --output"
            )
        return
    save_plane(path, plane)


def _trained(
    plan: SweepPlan,
    training: ImageDataset,
    measured: NDArray[np.uint8],
    place: Path,
    device: torch.device | str,
    advance: Advance,
) -> PlaneCheckpoint:
    model = train(plan.recipe, training, place, device=device, advance=advance)
    assert isinstance(model, PlaneVAE)
    model = model.cpu()
    card = {
        "name": plan.name,
        "recipe": plan.recipe.to_json(),
        "data": plan.data,
        "fingerprint": plan.fingerprint,
        "history": load_history(place),
        "measured": measure_plane(model, measured),
    }
    return make_plane(model, card)


def _ignore(images: int) -> None:
    """Show no progress."""
