"""The file from which a killed training of a classifier goes on: weights, momenta, history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from hvae_codec.errors import CheckpointError
from hvae_codec.models.tensor_files import read_tensors
from hvae_codec.training.run_state import Data, described
from hvae_codec.utils.atomic_files import write_atomically

_FORMAT = "hvae-codec classifier training state 1"
_MODEL, _MOMENTUM = "model.", "momentum."
_BUFFER = "momentum_buffer"


def save_state(
    path: Path,
    recipe: dict[str, Any],
    data: Data,
    module: nn.Module,
    optimiser: torch.optim.SGD,
    history: list[dict[str, Any]],
) -> None:
    """Write the state of a run on `data` with one row of `history` a finished epoch; a kill leaves
    either the old file or the new one.

    Raises:
        OSError: the folder is missing, full or not writable.
    """
    tensors = {_MODEL + name: value for name, value in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        tensors[_MOMENTUM + name] = optimiser.state[parameter][_BUFFER]
    metadata = {
        "format": _FORMAT,
        "recipe": json.dumps(recipe),
        "data": json.dumps(data._asdict()),
        "history": json.dumps(history),
    }
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(contiguous, metadata=metadata))


def load_state(
    path: Path,
    recipe: dict[str, Any],
    data: Data,
    module: nn.Module,
    optimiser: torch.optim.SGD,
) -> list[dict[str, Any]]:
    """Restore a run from `path` into `module` and `optimiser` and return its history, which is
    empty where there is no file: a new run.

    Raises:
        CheckpointError: the file is damaged, or belongs to a run with another recipe or other data.
    """
    if not path.exists():
        return []
    try:
        tensors, metadata = read_tensors(path)
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(f"{path} is not a training state of this version ({_FORMAT!r})")
        saved: dict[str, Any] = json.loads(metadata["recipe"])
        history: list[dict[str, Any]] = json.loads(metadata["history"])
        # States of earlier releases do not name it.
        known: dict[str, str] | None = json.loads(metadata.get("data", "null"))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    differing = []
    if known is not None and known != data._asdict():
        differing = [f"data {described(known)} (now {described(data._asdict())})"]
    if saved != recipe:
        differing += [
            f"{name} {saved.get(name)!r} (now {recipe.get(name)!r})"
            for name in sorted({*saved, *recipe})
            if saved.get(name) != recipe.get(name)
        ]
    if differing:
        raise CheckpointError(
            f"{path} belongs to another run: {', '.join(differing)}; "
            "use the same settings and data, or another --output"
        )
    try:
        module.load_state_dict(
            {k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)}
        )
        for name, parameter in module.named_parameters():
            # Laid out in memory as the parameter is, which the optimiser's kernel wants.
            buffer = torch.empty_like(parameter).copy_(tensors[_MOMENTUM + name])
            optimiser.state[parameter][_BUFFER] = buffer
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the network: {error}") from error
    return history
