"""The file from which a killed training of a classifier goes on: weights, momenta, history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hvae_codec.errors import CheckpointError
from hvae_codec.training.state_file import (
    Data,
    check_belongs,
    data_differences,
    read_state,
    with_prefix,
    write_state,
)

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
    fields = {"recipe": recipe, "data": data._asdict(), "history": history}
    write_state(path, _FORMAT, tensors, fields)


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
    tensors, fields = read_state(path, _FORMAT)
    saved: dict[str, Any] = fields["recipe"]
    settings = [
        f"{name} {saved.get(name)!r} (now {recipe.get(name)!r})"
        for name in sorted({*saved, *recipe})
        if saved.get(name) != recipe.get(name)
    ]
    check_belongs(path, data_differences(fields.get("data"), data) + settings)
    try:
        module.load_state_dict(with_prefix(tensors, _MODEL))
        for name, parameter in module.named_parameters():
            # Laid out in memory as the parameter is, which the optimiser's kernel wants.
            buffer = torch.empty_like(parameter).copy_(tensors[_MOMENTUM + name])
            optimiser.state[parameter][_BUFFER] = buffer
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the network: {error}") from error
    history: list[dict[str, Any]] = fields["history"]
    return history
