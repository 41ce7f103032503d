"""The one file from which a killed run goes on: weights, optimiser, recipe and history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hvae_codec.data import TrainingPictures
from hvae_codec.errors import CheckpointError
from hvae_codec.models.tensor_files import read_tensors
from hvae_codec.models.zoo import any_spec
from hvae_codec.training.optimisers import Optimiser
from hvae_codec.training.recipe import Recipe
from hvae_codec.utils.atomic_files import write_atomically

STATE_FILE = "state.safetensors"
_FORMAT = "hvae-codec training state 1"


@dataclass
class Progress:
    """How far a run is: finished epochs and one row of means per finished epoch."""

    epochs: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Data(NamedTuple):
    """What a run is trained on: the name to publish, and a hash of all images."""

    name: str
    fingerprint: str


def data_of(dataset: TrainingPictures) -> Data:
    """The data that a run on `dataset` is bound to."""
    return Data(f"{dataset.name} {dataset.split}", dataset.fingerprint)


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
        metadata = {
            "format": _FORMAT,
            "recipe": json.dumps(self.recipe.to_json()),
            "spec": json.dumps(any_spec(self.recipe.spec).to_json()),
            "data": json.dumps(self.data._asdict()),
            "models": json.dumps(list(self.models)),
            "epochs": str(progress.epochs),
            "history": json.dumps(progress.history),
        }
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_atomically(self.directory / STATE_FILE, save(contiguous, metadata=metadata))

    def load(self) -> Progress:
        """Restore model, optimiser and average; a directory without state is a new run.

        Raises:
            CheckpointError: the file is damaged, or belongs to another recipe, spec, data or models
                (the message names each difference).
        """
        path = self.directory / STATE_FILE
        if not path.exists():
            return Progress()
        metadata, tensors = _read(path)
        progress = Progress(int(metadata["epochs"]), _history(metadata))
        if differing := self._differences(metadata, progress):
            raise CheckpointError(
                f"{path} belongs to another run: {', '.join(differing)}; "
                "use the same settings and data, or another --output"
            )
        if json.loads(metadata.get("models", "[]")) != json.loads(json.dumps(list(self.models))):
            raise CheckpointError(f"{path} belongs to other models; use another folder")
        self.model.load_state_dict(_with_prefix(tensors, "model."))
        self.optimiser.load_state_tensors(
            {name: value for name, value in tensors.items() if name.startswith(("adam.", "muon."))}
        )
        if self.average is not None:
            averages = dict(self.average.module.named_parameters())
            for name, value in _with_prefix(tensors, "average.").items():
                averages[name].detach().copy_(value)
        return progress

    def _differences(self, metadata: Mapping[str, str], progress: Progress) -> list[str]:
        """What is not as it was in the run that wrote the state."""
        saved = Recipe.from_json(json.loads(metadata["recipe"]))
        differing = []
        if not self.recipe.continues(saved, progress.epochs):
            now = self.recipe.to_json()
            differing = [
                f"{name} {value!r} (now {now[name]!r})"
                for name, value in saved.to_json().items()
                if value != now[name]
            ]
        # States of earlier releases name neither.
        spec, data = (json.loads(metadata.get(key, "null")) for key in ("spec", "data"))
        if spec is not None and spec != any_spec(self.recipe.spec).to_json():
            differing.append(f"the architecture {self.recipe.spec!r} had other layers")
        if data is not None and data != self.data._asdict():
            differing.append(f"data {described(data)} (now {described(self.data._asdict())})")
        return differing


def described(data: Mapping[str, str]) -> str:
    """Data, as messages name it; `data` has the fields of `Data`."""
    return f"{data['name']!r} of content {data['fingerprint'][:12]}"


def load_history(directory: Path) -> list[dict[str, Any]]:
    """What a run reported of each finished epoch.

    Raises:
        CheckpointError: there is no state, or it is damaged.
    """
    metadata, _ = _read(directory / STATE_FILE)
    return _history(metadata)


def load_recipe(directory: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        CheckpointError: there is no state, or it is damaged.
    """
    metadata, _ = _read(directory / STATE_FILE)
    return Recipe.from_json(json.loads(metadata["recipe"]))


def _history(metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of all epochs; earlier releases did not write the learning rate, which stood."""
    learning_rate = json.loads(metadata["recipe"])["learning_rate"]
    return [{"learning_rate": learning_rate, **row} for row in json.loads(metadata["history"])]


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
