"""A model for a range of betas on disk: weights in a safetensors file, and a JSON card beside it.

It is no codec: the ordinary model at one choice of betas, with tables of its own, is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvae_codec.codec.checkpoint import (
    assign_weights,
    check_hash,
    hash_of,
    read_card,
    read_checkpoint_tensors,
    weights_of,
    write_files,
)
from hvae_codec.errors import CheckpointError, SpecError
from hvae_codec.models.build import unweighted
from hvae_codec.models.inference import loading
from hvae_codec.models.plane import PlaneVAE
from hvae_codec.models.spec import ModelSpec

_FORMAT = "hvae-codec plane 1"
_FIELDS = ("name", "recipe", "data", "history", "measured")


@dataclass(frozen=True)
class PlaneCheckpoint:
    """A model for a range of betas and its card."""

    model: PlaneVAE
    card: dict[str, Any]


def make_plane(model: PlaneVAE, card: dict[str, Any]) -> PlaneCheckpoint:
    """A checkpoint in memory.

    `card` holds name, recipe, data, history and measurements; format, spec, posterior, ranges of
    betas and hash are added here. The history is a row for each epoch.
    """
    head = {"format": _FORMAT, "sha256": _content_hash(model), **_described(model)}
    return PlaneCheckpoint(model, {**head, **card})


def save_plane(path: Path, checkpoint: PlaneCheckpoint) -> None:
    """Write `path` (.safetensors) and its card (.json), the card last; each appears whole or not at
    all.
    """
    write_files(path, weights_of(checkpoint.model), checkpoint.card)


@loading
def load_plane(path: Path) -> PlaneCheckpoint:
    """The checkpoint at `path` (.safetensors, its card beside it), in evaluation mode, its hash
    verified.

    Raises:
        CheckpointError: a file is missing or damaged, is of another kind of model, or weights and
            card do not belong together.
    """
    card = read_card(path.with_suffix(".json"), _FORMAT)
    weights = read_checkpoint_tensors(path)
    try:
        spec = ModelSpec.from_json(card["spec"])
        ranges = tuple((float(low), float(high)) for low, high in card["beta_ranges"])
        posterior = card["posterior"]
        model = unweighted(lambda: PlaneVAE(spec, posterior, ranges=ranges))
        assign_weights(model, weights)
    except (KeyError, TypeError, ValueError, RuntimeError, SpecError) as error:
        raise CheckpointError(f"{path}: weights do not fit the card's model: {error}") from error
    check_hash(path, _content_hash(model), card)
    lacking = [key for key in _FIELDS if not card.get(key)]
    if lacking:
        raise CheckpointError(f"{path}: its card lacks {', '.join(lacking)}")
    return PlaneCheckpoint(model.eval().requires_grad_(False), card)


def _described(model: PlaneVAE) -> dict[str, Any]:
    return {
        "spec": model.spec.to_json(),
        "posterior": model.posterior,
        "beta_ranges": [list(ends) for ends in model.ranges],
    }


def _content_hash(model: PlaneVAE) -> str:
    return hash_of(_described(model), weights_of(model))
