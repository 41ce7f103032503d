"""Files from which killed runs resume: tensors, and JSON of what they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from hvae_codec.data import TrainingPictures
from hvae_codec.errors import CheckpointError
from hvae_codec.models.tensor_files import read_tensors
from hvae_codec.utils.atomic_files import write_atomically

_KIND = "format"


class Data(NamedTuple):
    """What a run is trained on: the name to publish, and a hash of all images."""

    name: str
    fingerprint: str


def data_of(dataset: TrainingPictures) -> Data:
    """The data that a run on `dataset` is bound to."""
    return Data(f"{dataset.name} {dataset.split}", dataset.fingerprint)


def data_differences(saved: Mapping[str, str] | None, data: Data) -> list[str]:
    """What to say of data that are not those of the run; `saved`: the fields of its `Data`.

    States of earlier releases name none.
    """
    if saved is None or saved == data._asdict():
        return []
    return [f"data {_described(Data(**saved))} (now {_described(data)})"]


def _described(data: Data) -> str:
    return f"{data.name!r} of content {data.fingerprint[:12]}"


def write_state(
    path: Path, kind: str, tensors: Mapping[str, Tensor], fields: Mapping[str, Any]
) -> None:
    """Write a state; a kill or a full disk leaves either the old file or the new one.

    kind: name and version of the format. fields: JSON-ready. Raises OSError.
    """
    metadata = {_KIND: kind, **{name: json.dumps(value) for name, value in fields.items()}}
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(contiguous, metadata=metadata))


def read_state(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and fields of a state.

    Raises:
        CheckpointError: there is none, it is damaged, or of another kind.
    """
    try:
        tensors, metadata = read_tensors(path)
        if metadata.get(_KIND) != kind:
            raise CheckpointError(f"{path} is not a training state of this version ({kind!r})")
        fields = {name: json.loads(text) for name, text in metadata.items() if name != _KIND}
        if lacking := {"recipe", "history"} - set(fields):
            raise CheckpointError(f"{path} cannot be read: it lacks {', '.join(sorted(lacking))}")
    except CheckpointError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return tensors, fields


def check_belongs(path: Path, differing: list[str]) -> None:
    """Raise CheckpointError, naming each difference between the run of a state and this one."""
    if differing:
        raise CheckpointError(
            f"{path} belongs to another run: {', '.join(differing)}; "
            "use the same settings and data, or another --output"
        )


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with this, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
