"""The one file from which a killed run goes on: weights, optimiser, recipe and history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from hvae_codec.errors import CheckpointError
from hvae_codec.models.zoo import any_spec
from hvae_codec.training.optimisers.optimiser import STATE_PREFIXES, Optimiser
from hvae_codec.training.recipe import Recipe
from hvae_codec.training.state_file import (
    Data,
    check_belongs,
    data_differences,
    read_state,
    with_prefix,
    write_state,
)

STATE_FILE = "state.safetensors"
_FORMAT = "hvae-codec training state 1"


@dataclass
class Progress:
    """How far a run is: finished epochs and one row of means per finished epoch."""

    epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class RunState:
    """The state of one run in `directory`: of its recipe, data, model, optimiser and average.

    `models`: what distinguishes the models of a stack, JSON-ready.
    """

    directory: Path
    recipe: Recipe
    model: nn.Module
    optimiser: Optimiser
    data: Data
    models: Sequence[Mapping[str, Any]] = ()
    average: AveragedModel | None = None

    def save(self, progress: Progress) -> None:
        """Write the state; a kill or a full disk leaves either the old file or the new one."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= self.optimiser.state_tensors()
        if self.average is not None:
            averages = self.average.module.named_parameters()
            tensors |= {f"average.{name}": value for name, value in averages}
        fields = {
            "recipe": self.recipe.to_json(),
            "spec": any_spec(self.recipe.spec).to_json(),
            "data": self.data._asdict(),
            "models": list(self.models),
            "epochs": progress.epochs,
            "history": progress.history,
        }
        write_state(self.directory / STATE_FILE, _FORMAT, tensors, fields)

    def load(self) -> Progress:
        """Restore model, optimiser and average; a directory without state is a new run.

        Raises:
            CheckpointError: the file is damaged, or belongs to another recipe, spec, data or models
                (the message names each difference).
        """
        path = self.directory / STATE_FILE
        if not path.exists():
            return Progress()
        tensors, fields = read_state(path, _FORMAT)
        progress = Progress(fields["epochs"], _history(fields))
        check_belongs(path, self._differences(fields, progress))
        if fields.get("models", []) != json.loads(json.dumps(list(self.models))):
            raise CheckpointError(f"{path} belongs to other models; use another folder")
        self.model.load_state_dict(with_prefix(tensors, "model."))
        self.optimiser.load_state_tensors(
            {name: value for name, value in tensors.items() if name.startswith(STATE_PREFIXES)}
        )
        if self.average is not None:
            averages = dict(self.average.module.named_parameters())
            for name, value in with_prefix(tensors, "average.").items():
                averages[name].detach().copy_(value)
        return progress

    def _differences(self, fields: Mapping[str, Any], progress: Progress) -> list[str]:
        """What is not as it was in the run that wrote the state."""
        saved = Recipe.from_json(fields["recipe"])
        differing = []
        if not self.recipe.continues(saved, progress.epochs):
            now = self.recipe.to_json()
            differing = [
                f"{name} {value!r} (now {now[name]!r})"
                for name, value in saved.to_json().items()
                if value != now[name]
            ]
        spec = fields.get("spec")  # states of earlier releases name none
        if spec is not None and spec != any_spec(self.recipe.spec).to_json():
            differing.append(f"the architecture {self.recipe.spec!r} had other layers")
        return differing + data_differences(fields.get("data"), self.data)


def load_history(directory: Path) -> list[dict[str, Any]]:
    """What a run reported of each finished epoch.

    Raises:
        CheckpointError: there is no state, or it is damaged.
    """
    return _history(read_state(directory / STATE_FILE, _FORMAT)[1])


def load_recipe(directory: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        CheckpointError: there is no state, or it is damaged.
    """
    return Recipe.from_json(read_state(directory / STATE_FILE, _FORMAT)[1]["recipe"])


def _history(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of all epochs; earlier releases did not write the learning rate, which stood."""
    learning_rate = fields["recipe"]["learning_rate"]
    return [{"learning_rate": learning_rate, **row} for row in fields["history"]]
