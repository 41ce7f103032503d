"""One chunk of a sweep, from its plan to its checkpoints: what a worker does, wherever it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec.codec.checkpoint import make_checkpoint, save_checkpoint
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.data import ImageDataset
from hvae_codec.errors import SweepError
from hvae_codec.evaluation.card_figures import measure_codec
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.zoo import get_spec
from hvae_codec.training.run_state import STATE_FILE
from hvae_codec.training.sweep.plan import (
    SweepPlan,
    chunk_directory,
    divergence_path,
    is_done,
    model_path,
    read_plan,
)
from hvae_codec.training.sweep.plane import points_of_plane
from hvae_codec.training.sweep.stacked_trainer import Advance, TrainedModel, train_chunk
from hvae_codec.utils.atomic_files import write_atomically

TABLE_IMAGES = 16_384
"""Training images that a model's symbol tables are fitted to."""

MEASURED_IMAGES = 2_048
"""Test images that a model's card is measured on; `hvae-codec evaluate` takes them all."""

HISTORY_FILE = "history.json"


def pending_chunks(directory: Path) -> list[int]:
    """Numbers of the chunks of which some model is not there yet.

    Raises:
        SweepError: `directory` is not a sweep.
    """
    chunks = read_plan(directory).chunks()
    return [
        number
        for number, indices in enumerate(chunks)
        if not all(is_done(directory, index) for index in indices)
    ]


def run_chunk(
    directory: Path,
    number: int,
    training: ImageDataset,
    test: ImageDataset,
    *,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
) -> list[str]:
    """Train the chunk of this number and write its models; what diverged, a line a model.

    Killed at any moment and called again, it goes on after the last epoch that was finished.

    Raises:
        SweepError: the sweep was planned for other data. Otherwise as `train_chunk`.
    """
    plan = read_plan(directory)
    found = described_data(training, test, plan.recipe.images)
    if found != plan.data:
        raise SweepError(f"{directory} was begun with {plan.data}, the data here are {found}")
    if plan.fingerprint not in (None, fingerprint_of(training, test)):
        raise SweepError(f"{directory} was begun with other images than {plan.data} has here")
    indices = plan.chunks()[number]
    place = chunk_directory(directory, number)
    how: dict[str, Any] = {"device": device, "advance": advance}
    trained: Iterable[TrainedModel]
    if plan.recipe.beta_ranges is None:
        trained = train_chunk(plan, indices, training, place, **how)
    else:
        measured = test.images[:MEASURED_IMAGES]
        trained = points_of_plane(plan, indices, training, measured, directory, place, **how)
    (directory / "models").mkdir(exist_ok=True)
    lines, histories = [], {}
    for index, result in zip(indices, trained, strict=True):
        histories[f"{index:04}"] = result.history
        if result.state is None:
            message = f"model {index:04} {_betas(plan, index)}: {result.history[-1]['diverged']}"
            content = {"model": f"{index:04}", **result.history[-1]}
            write_atomically(divergence_path(directory, index), json.dumps(content).encode())
            lines.append(message)
        elif not is_done(directory, index):
            export_model(directory, plan, index, result, training.images, test.images)
    write_atomically(place / HISTORY_FILE, json.dumps(histories).encode())
    (place / STATE_FILE).unlink(missing_ok=True)  # none where the plane was there
    return lines


def export_model(
    directory: Path,
    plan: SweepPlan,
    index: int,
    trained: TrainedModel,
    images: NDArray[np.uint8],
    test_images: NDArray[np.uint8],
) -> None:
    """Write a trained model as an ordinary checkpoint: tables fitted, card measured."""
    assert trained.state is not None
    recipe = plan.recipe_of(index)
    model = HierarchicalVAE(get_spec(recipe.spec), recipe.posterior)
    model.load_state_dict(trained.state)
    tables = fit_tables(model, images[: recipe.images][:TABLE_IMAGES])
    last = trained.history[-1]
    card: dict[str, Any] = {
        "name": plan.name,
        "quality": index + 1,
        "recipe": recipe.to_json(),
        **_betas_reached(plan, index, last),
        "data": plan.data,
        "training": last,
    }
    codec = Codec(make_checkpoint(model, tables, card))
    card["measured"] = measure_codec(codec, test_images[:MEASURED_IMAGES])
    save_checkpoint(model_path(directory, index), model, tables, card, replace=True)


def fingerprint_of(training: ImageDataset, test: ImageDataset) -> str:
    """SHA-256, in hex, of all images that a sweep is trained and measured on."""
    both = f"{training.fingerprint} {test.fingerprint}"
    return hashlib.sha256(both.encode()).hexdigest()


def described_data(
    training: ImageDataset, test: ImageDataset, images: int | None
) -> dict[str, Any]:
    """What a card says of the data of a run that uses so many training images (None: all)."""
    return {
        "train": f"{training.name} {training.split}",
        "train_images": len(training.images[:images]),
        "test": f"{test.name} {test.split}",
        "test_images": len(test),
    }


def _betas_reached(plan: SweepPlan, index: int, last: dict[str, Any]) -> dict[str, list[float]]:
    """What a card says of betas that are not those of the recipe."""
    recipe = plan.recipe_of(index)
    if recipe.rates is not None:
        return {"betas": last["betas"]}
    return {} if recipe.beta_ranges is None else {"betas": list(plan.models[index].betas)}


def _betas(plan: SweepPlan, index: int) -> str:
    return f"(betas {', '.join(f'{beta:g}' for beta in plan.models[index].betas)})"
