"""The one file from which a killed run goes on: weights, optimiser, recipe and history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from hvae_codec.errors import CheckpointError
from hvae_codec.files import write_atomically
from hvae_codec.models.tensor_files import read_tensors
from hvae_codec.training.recipe import Recipe

STATE_FILE = "state.safetensors"
_FORMAT = "hvae-codec training state 1"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """How far a run is: finished epochs and one row of means per finished epoch."""

    epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    directory: Path,
    recipe: Recipe,
    model: nn.Module,
    optimiser: torch.optim.Adam,
    progress: Progress,
    models: Sequence[Mapping[str, Any]] = (),
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the state of a run; a kill leaves either the old file or the new one.

    `models`: what distinguishes the models of a stack, JSON-ready. `average`: averages of the
    weights, by name.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment in _MOMENTS:
            if moment in (saved := optimiser.state.get(parameter, {})):
                tensors[f"adam.{moment}.{name}"] = saved[moment]
    tensors |= {f"average.{name}": value for name, value in (average or {}).items()}
    metadata = {
        "format": _FORMAT,
        "recipe": json.dumps(recipe.to_json()),
        "models": json.dumps(list(models)),
        "epochs": str(progress.epochs),
        "history": json.dumps(progress.history),
    }
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(directory / STATE_FILE, save(contiguous, metadata=metadata))


def load_state(
    directory: Path,
    recipe: Recipe,
    model: nn.Module,
    optimiser: torch.optim.Adam,
    models: Sequence[Mapping[str, Any]] = (),
    average: Mapping[str, Tensor] | None = None,
) -> Progress:
    """Restore a run from `directory` into `model`, `optimiser` and the tensors of `average`; a
    directory without state is a new run.

    Raises:
        CheckpointError: the file is damaged, or belongs to another recipe or other models.
    """
    path = directory / STATE_FILE
    if not path.exists():
        return Progress()
    metadata, tensors = _read(path)
    saved = Recipe.from_json(json.loads(metadata["recipe"]))
    if saved != recipe:
        differing = [
            f"{name} {value!r} (now {recipe.to_json()[name]!r})"
            for name, value in saved.to_json().items()
            if value != recipe.to_json()[name]
        ]
        raise CheckpointError(
            f"{path} belongs to a run with other settings: {', '.join(differing)}; "
            "use the same settings, or another --out"
        )
    if json.loads(metadata.get("models", "[]")) != json.loads(json.dumps(list(models))):
        raise CheckpointError(f"{path} belongs to other models; use another folder")
    model.load_state_dict(_with_prefix(tensors, "model."))
    parameters = dict(model.named_parameters())
    for moment in _MOMENTS:
        for name, value in _with_prefix(tensors, f"adam.{moment}.").items():
            parameter = parameters[name]
            if moment != "step":
                # Adam's kernels want its moments laid out in memory as their parameter is.
                value = torch.empty_like(parameter).copy_(value)
            optimiser.state[parameter][moment] = value
    for name, value in _with_prefix(tensors, "average.").items():
        (average or {})[name].copy_(value)
    return Progress(int(metadata["epochs"]), json.loads(metadata["history"]))


def load_history(directory: Path) -> list[dict[str, Any]]:
    """What a run reported of each finished epoch.

    Raises:
        CheckpointError: there is no state, or it is damaged.
    """
    metadata, _ = _read(directory / STATE_FILE)
    history: list[dict[str, Any]] = json.loads(metadata["history"])
    return history


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        tensors, metadata = read_tensors(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a training state of this version ({_FORMAT!r})")
    return metadata, tensors


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
