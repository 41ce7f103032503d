"""A codec on disk: weights, steps and tables in one safetensors file, and a JSON card beside it.

The card says what the model is, how it was trained and what was measured on it. The model id that
every bit stream names is the start of the hash of everything that decoding depends on, so a card
whose figures are updated keeps its id and a model whose weights or tables change does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from hvae_codec.codec.bitstream.header import MODEL_ID_BYTES, Header
from hvae_codec.codec.entropy.context_tables import ContextTables
from hvae_codec.codec.entropy.tables import SymbolTables
from hvae_codec.codec.quality_scale import stated_quality
from hvae_codec.errors import CheckpointError, SpecError
from hvae_codec.models.build import (
    CodingModel,
    Spec,
    arithmetic_of,
    build_coding_model,
    spec_from_json,
    unweighted,
)
from hvae_codec.models.fully_convolutional.spec import ConvSpec
from hvae_codec.models.hvae import HierarchicalVAE, Posterior
from hvae_codec.models.inference import loading
from hvae_codec.models.integer.model import IntegerConvVAE
from hvae_codec.models.tensor_files import read_tensors
from hvae_codec.utils.atomic_files import write_atomically

_FORMAT = "hvae-codec checkpoint 1"
_MODEL = "model."
_SMALLER = {
    torch.float32: torch.float16,
    torch.int32: torch.int16,
    torch.int16: torch.int8,
}

Tables = SymbolTables | ContextTables

UNMEASURED: dict[str, Any] = {"payload_bytes": 0.0, "psnr_db": 0.0, "rates_nats": []}
"""The measurements of a checkpoint in memory, which is measured before it is written."""


@dataclass(frozen=True)
class ModelInfo:
    """What a checkpoint's card says of it.

    `rates_nats` are each layer's mean rate per image on the test set (Eq. 7), top first,
    `payload_bytes` the mean size of a single record without its header, `psnr_db` the mean over
    images of the PSNR of the 8-bit image.
    """

    name: str
    quality: int
    model_id: str
    spec_name: str
    image_shape: tuple[int, int, int]
    z_dims: tuple[int, ...]
    payload_bytes: float
    psnr_db: float
    rates_nats: tuple[float, ...]
    card: dict[str, Any] = field(repr=False)

    def quality_of(self, header: Header) -> float:
        """The quality that a file of this model was coded with, as users state it."""
        return self.quality if header.quality is None else stated_quality(header.quality)

    @property
    def continuous(self) -> bool:
        """Whether the model has all qualities from 1 to 100, `quality` being its default."""
        return bool(self.card["spec"].get("kind") == "maps")

    @property
    def arithmetic(self) -> str:
        """What defines the model's pixels: "float" up to a grey level, "int8" or "int16" to the
        bit.
        """
        return str(self.card.get("arithmetic", "float"))


@dataclass(frozen=True)
class Checkpoint:
    """A model, its symbol tables and its card."""

    model: CodingModel
    tables: Tables
    card: dict[str, Any]

    @property
    def model_id(self) -> bytes:
        """The first MODEL_ID_BYTES bytes of the hash; what bit streams carry."""
        return bytes.fromhex(self.card["sha256"])[:MODEL_ID_BYTES]

    @property
    def of_one_size(self) -> tuple[HierarchicalVAE, SymbolTables]:
        """Model and tables, where the model's latents have one size.

        Raises:
            CheckpointError: they are maps.
        """
        if isinstance(self.model, HierarchicalVAE) and isinstance(self.tables, SymbolTables):
            return self.model, self.tables
        raise CheckpointError(
            f"model {self.card.get('name')!r} is of maps, for images of any size; this takes "
            "models of images of one size"
        )


def content_hash(model: CodingModel, tables: Tables) -> str:
    """SHA-256, in hex, of everything that decoding depends on: spec, posterior, weights, steps,
    tables.
    """
    head = {"spec": model.spec.to_json(), "posterior": model.posterior, **_arithmetic(model)}
    return hash_of(head, _tensors(model, tables))


def hash_of(head: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, of a JSON-ready description and of tensors with their names."""
    digest = hashlib.sha256()
    digest.update(json.dumps(head, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        array = tensor.numpy()
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def make_checkpoint(model: CodingModel, tables: Tables, card: dict[str, Any]) -> Checkpoint:
    """A checkpoint in memory.

    `card` holds name, quality, recipe and measurements; format, spec, posterior and hash are added
    here. Before anything is measured, `UNMEASURED` stands for the measurements.
    """
    full = {
        "format": _FORMAT,
        "sha256": content_hash(model, tables),
        "posterior": model.posterior,
        **_arithmetic(model),
        "spec": model.spec.to_json(),
        "measured": UNMEASURED,
        **card,
    }
    return Checkpoint(model, tables, full)


def save_checkpoint(
    path: Path, model: CodingModel, tables: Tables, card: dict[str, Any], *, replace: bool = False
) -> Checkpoint:
    """Write `path` (.safetensors) and its card (.json), the card last; each appears whole or not at
    all.

    card: as `make_checkpoint` takes it, with its measurements. replace: whether a checkpoint of
    another id at `path` is overwritten: files that name it can then no longer be decoded.

    Raises:
        CheckpointError: `path` holds a checkpoint of another id, and `replace` is False.
    """
    checkpoint = make_checkpoint(model, tables, card)
    if not replace:
        check_replaces(path, checkpoint)
    write_files(path, _tensors(model, tables), checkpoint.card)
    return checkpoint


def write_files(path: Path, tensors: Mapping[str, Tensor], card: dict[str, Any]) -> None:
    """Write tensors to `path` (.safetensors), in fewer bytes where that loses nothing, and then
    their card (.json).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save({name: _compact(value) for name, value in tensors.items()}))
    write_card(path.with_suffix(".json"), card)


def check_replaces(path: Path, checkpoint: Checkpoint) -> None:
    """Check that writing `checkpoint` to `path` (.safetensors) makes no file undecodable.

    Raises:
        CheckpointError: `path` holds a checkpoint of another id, or one whose id cannot be read.
    """
    if not path.exists():
        return
    card_path = path.with_suffix(".json")
    if not card_path.exists():
        return  # Files name a model by its card: without one nothing was coded with it.
    found = read_card(card_path)["sha256"][: 2 * MODEL_ID_BYTES]
    if found != checkpoint.model_id.hex():
        raise CheckpointError(
            f"{path} holds model {found}, and files coded with it need it; model "
            f"{checkpoint.model_id.hex()} would overwrite it: name another file, or replace it"
        )


def write_card(path: Path, card: dict[str, Any]) -> None:
    """Replace the JSON card at `path`."""
    write_atomically(path, (json.dumps(card, indent=2) + "\n").encode())


def update_card(path: Path, checkpoint: Checkpoint, **fields: object) -> None:
    """Set fields of the card beside `path` (.safetensors), from which `checkpoint` was loaded.

    Raises:
        CheckpointError: another checkpoint was written there meanwhile; its card stays.
    """
    card_path = path.with_suffix(".json")
    card = read_card(card_path)
    if card["sha256"] != checkpoint.card["sha256"]:
        raise CheckpointError(f"{path} was replaced while it was measured: run it again")
    write_card(card_path, card | fields)


def read_card(path: Path, kind: str = _FORMAT) -> dict[str, Any]:
    """The card at `path` (.json), which is of this format.

    Raises:
        CheckpointError: it is missing or is not a card of this version.
    """
    try:
        card: dict[str, Any] = json.loads(path.read_text())
        if card["format"] != kind:
            raise CheckpointError(
                f"{path} is of format {card['format']!r}; this release reads {kind!r}"
            )
        bytes.fromhex(card["sha256"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a checkpoint's card: {error!r}") from error
    return card


def model_info(card: dict[str, Any]) -> ModelInfo:
    """The typed part of a card.

    Raises:
        CheckpointError: a field is missing or of the wrong kind.
    """
    try:
        spec = spec_from_json(card["spec"])
        measured = card["measured"]
        return ModelInfo(
            name=str(card["name"]),
            quality=int(card["quality"]),
            model_id=card["sha256"][: 2 * MODEL_ID_BYTES],
            spec_name=spec.name,
            image_shape=spec.image_shape,
            z_dims=spec.feature_dims,
            payload_bytes=float(measured["payload_bytes"]),
            psnr_db=float(measured["psnr_db"]),
            rates_nats=tuple(float(rate) for rate in measured["rates_nats"]),
            card=card,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"a checkpoint's card lacks a field or has a wrong one: {error!r}"
        ) from error


def rate_weight(card: dict[str, Any]) -> float:
    """beta_1 of Eq. 8: what a nat of rate weighed against a nat of distortion in training.

    One weight for all layers, that of the bottom layer, which has most of the bytes: a byte of a
    file costs the same wherever it is spent.

    Raises:
        CheckpointError: the card's recipe names no weight above 0.
    """
    # Betas that were adapted to target rates stand beside the recipe, which says where they began.
    betas = card.get("betas") or card.get("recipe", {}).get("betas") or [0.0]
    if not betas[-1] > 0:
        raise CheckpointError(
            f"the card of model {card['name']!r} quality {card['quality']} names no betas above 0 "
            "in its recipe; an effort above 0 needs them"
        )
    return float(betas[-1])


@loading
def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path` (.safetensors, its card beside it), in evaluation mode, its hash
    verified.

    Raises:
        CheckpointError: a file is missing or damaged, or weights and card do not belong together.
    """
    card = read_card(path.with_suffix(".json"))
    tensors = read_checkpoint_tensors(path)
    weights = {k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)}
    posterior: Posterior = card.get("posterior", "")
    try:
        spec = spec_from_json(card["spec"])
        arithmetic = card.get("arithmetic", "float")
        model = unweighted(lambda: build_coding_model(spec, posterior, arithmetic))
        assign_weights(model, weights)
    except (KeyError, RuntimeError, SpecError) as error:
        raise CheckpointError(f"{path}: weights do not fit the card's model: {error}") from error
    others = {k: v for k, v in tensors.items() if not k.startswith(_MODEL)}
    arrays = {k: (v.int() if v.dtype == torch.int16 else v).numpy() for k, v in others.items()}
    tables = _tables(spec, arrays, path)
    check_hash(path, content_hash(model, tables), card)
    model.eval().requires_grad_(False)
    if not isinstance(model, IntegerConvVAE):
        model.to(memory_format=torch.channels_last)
    return Checkpoint(model, tables, card)


def read_checkpoint_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint's file, by name.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return read_tensors(path)[0]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def assign_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model whose parameters are undefined its weights, in fp32 or its own integer types;
    RuntimeError where they are not its own.
    """
    # Parameters that are undefined are of torch's default type, which a program may have set.
    integers = {
        name: value.dtype
        for name, value in model.state_dict().items()
        if not value.is_floating_point()
    }
    as_stored = {
        name: value.to(integers.get(name, torch.float32), copy=True)
        for name, value in weights.items()
    }
    model.load_state_dict(as_stored, assign=True)


def check_hash(path: Path, found: str, card: dict[str, Any]) -> None:
    """Raise CheckpointError unless the hash of what `path` holds is the card's."""
    if found != card["sha256"]:
        raise CheckpointError(
            f"{path}: content hash {found[:16]} is not the card's {card['sha256'][:16]}"
        )


def _arithmetic(model: CodingModel) -> dict[str, str]:
    """What names the arithmetic; nothing for floats, as before there were others."""
    arithmetic = arithmetic_of(model)
    return {} if arithmetic == "float" else {"arithmetic": arithmetic}


def _tables(spec: Spec, arrays: dict[str, NDArray[np.generic]], path: Path) -> Tables:
    if isinstance(spec, ConvSpec):
        latents = [(latent.stride, latent.channels) for latent in spec.latents]
        return ContextTables.from_tensors(arrays, latents)
    tables = SymbolTables.from_tensors(arrays)
    if tables.layer_dims != spec.dims:
        raise CheckpointError(
            f"{path}: tables for {tables.layer_dims} dimensions, model has {spec.dims}"
        )
    return tables


def _compact(tensor: Tensor) -> Tensor:
    """The tensor in half the bytes per value where that loses nothing."""
    smaller = _SMALLER.get(tensor.dtype)
    if smaller is None:
        return tensor
    half = tensor.to(smaller)
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def _tensors(model: CodingModel, tables: Tables) -> dict[str, Tensor]:
    weights = {_MODEL + name: value for name, value in weights_of(model).items()}
    frequencies = {
        name: torch.from_numpy(np.array(array)) for name, array in tables.to_tensors().items()
    }
    return {**weights, **frequencies}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights as files hold them."""
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
