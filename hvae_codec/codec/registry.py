"""The available models: those shipped, by name and quality or by the id in a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.bitstream.encoded import Encoded, as_file
from hvae_codec.codec.bitstream.header import read_header
from hvae_codec.codec.checkpoint import ModelInfo, load_checkpoint, model_info, read_card
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.model_choice import model_by_size
from hvae_codec.codec.quality_scale import HIGHEST, LOWEST, as_quality, quality_number
from hvae_codec.codec.tiled.quality_interpolation import operating_point
from hvae_codec.errors import (
    CheckpointError,
    DeviceError,
    UnknownModelError,
    UnknownQualityError,
    WrongModelError,
)
from hvae_codec.models.inference import loading
from hvae_codec.utils.arguments import path_of, shown

MODELS_VARIABLE = "HVAE_MODELS"
"""Environment variable that names a directory of checkpoints to use instead of the shipped ones."""

DEVICE_VARIABLE = "HVAE_DEVICE"
"""Environment variable that names the device of the networks: cpu (the default), cuda, cuda:1."""


@dataclass(frozen=True)
class ModelAtHand:
    """The source of a codec that `load` gave."""

    name: str
    quality: int
    model_id: str

    def open(self) -> Codec:
        """The codec of this model. Raises UnknownModelError, WrongModelError, CheckpointError."""
        return _checked(_loaded(self.name, self.quality), self.model_id, f"model {self.name!r}")


@dataclass(frozen=True)
class CheckpointFile:
    """The source of a codec that `load_file` gave; the path is absolute."""

    path: Path
    model_id: str

    def open(self) -> Codec:
        """The codec of this checkpoint. Raises CheckpointError, WrongModelError."""
        return _checked(load_file_once(self.path), self.model_id, str(self.path))


def models() -> list[ModelInfo]:
    """The models available, by name and rising quality."""
    found = [info for info, _ in _entries(_directory())]
    return sorted(found, key=lambda info: (info.name, info.quality))


def model_for(height: int, width: int) -> str:
    """The name of the model available that an image of this size takes where none was named: see
    `model_choice.model_by_size`.
    """
    return model_by_size(height, width, model_names())


def model_names() -> set[str]:
    """The names of the models available."""
    return {info.name for info in models()}


def scale_of(name: str) -> str:
    """The qualities of a model available in words: "1 to 100", or the quality levels "1, 2, 3".

    Raises:
        UnknownModelError: there is no such model.
    """
    levels = _levels(name)
    if levels[0].continuous:
        return f"{LOWEST:g} to {HIGHEST:g}"
    return ", ".join(str(info.quality) for info in levels)


def load(name: str, quality: float | None = None, *, effort: int | None = None) -> Codec:
    """The codec of a model available; loaded once per process.

    Args:
        name: as `models()` lists it, for example "cifar10" or "photo".
        quality: higher is more bytes and a better image. Of a model for photographs, any number
            from 1 to 100. Of a model family, its quality level, from 1, by default the middle one;
            a quality between two quality levels, such as 2.5, is a quality level whose encoder
            trades bytes against quality. Bytes and PSNR rise with it at any one effort.
        effort: what the codec encodes with by default; see `Codec`. If it is not given: 0, and 1
            between two quality levels, where it must be above 0.

    Raises:
        UnknownModelError, UnknownQualityError: there is no such model or quality; the message lists
        those available. CheckpointError: its files are damaged. DeviceError: HVAE_DEVICE names a
        device that is not here. ValueError: no such effort.
    """
    info, trade = _chosen(name, quality)
    codec = _loaded(name, info.quality)
    if trade is not None:
        return codec.tuned(1 if effort is None else effort, trade)
    if info.continuous and quality is not None:
        codec = codec.at_quality(quality)
    return codec if effort is None else codec.tuned(effort)


def check_available(name: str, quality: float | None = None) -> None:
    """Check that there is what `load` is asked for, none of its networks loaded.

    Raises:
        UnknownModelError, UnknownQualityError: as `load`.
    """
    _chosen(name, quality)


def chosen_info(name: str, quality: float | None = None) -> ModelInfo:
    """The card of the model that `load` takes, none of its networks loaded.

    Raises:
        UnknownModelError, UnknownQualityError: as `load`.
    """
    return _chosen(name, quality)[0]


def _chosen(name: str, quality: float | None) -> tuple[ModelInfo, float | None]:
    """The model that `load` takes, and the trade of a quality between two quality levels."""
    levels = _levels(name)
    if levels[0].continuous:
        if quality is not None:
            quality_number(quality)
        return levels[0], None
    if quality is None:
        return levels[len(levels) // 2], None
    quality = as_quality(quality)
    numbers = [info.quality for info in levels]
    if quality in numbers:
        return levels[numbers.index(int(quality))], None
    if quality.is_integer():
        raise UnknownQualityError(
            f"model {name!r} has no quality {quality:g}; available: {', '.join(map(str, numbers))}"
        )
    return operating_point(levels, quality)


def family(name: str) -> list[Codec]:
    """The codecs of all quality levels of a model available, by rising quality.

    Raises:
        UnknownModelError, CheckpointError: as `load`.
    """
    return [_loaded(name, info.quality) for info in _levels(name)]


def _levels(name: str) -> list[ModelInfo]:
    available = models()
    levels = [info for info in available if isinstance(name, str) and info.name == name]
    if not levels:
        names = ", ".join(sorted({info.name for info in available})) or "none"
        raise UnknownModelError(f"unknown model {shown(name)}; available: {names}")
    return levels


@loading
def load_file(path: str | os.PathLike[str]) -> Codec:
    """The codec of the checkpoint at `path` (.safetensors, its .json card beside it).

    Raises:
        CheckpointError: a file is missing or damaged, or they do not belong together.
    """
    file = path_of("path", path)
    codec = Codec(load_checkpoint(file))
    codec.source = CheckpointFile(file.absolute(), codec.info.model_id)
    return codec


def load_file_once(path: str | os.PathLike[str]) -> Codec:
    """`load_file`, loaded again only when the file has changed.

    Raises:
        CheckpointError: as `load_file`.
    """
    path = path_of("path", path).absolute()
    try:
        status = path.stat()
    except OSError:
        return load_file(path)  # says what is wrong
    return _load_file(path, status.st_mtime_ns, status.st_size)


def codec_for(blob: Encoded) -> Codec:
    """The codec of the model that wrote `blob`, by the model id in its header.

    Raises:
        BitstreamError: not a `.hvae` file of this version.
        UnknownModelError: no model available has this id.
    """
    return codec_of(read_header(as_file(blob)).model_id)


def codec_of(model_id: bytes, number: int | None = None) -> Codec:
    """The codec of the model with this id, and of the quality with this number, as files state
    them; None: the model's own.

    Raises:
        UnknownModelError: no model available has it. UnknownQualityError: it has no such quality.
    """
    info = info_of(model_id)
    return load(info.name, info.quality).at_number(number)


def info_of(model_id: bytes) -> ModelInfo:
    """The model with this id, none of its networks loaded.

    Raises:
        UnknownModelError: no model available has it.
    """
    wanted = model_id.hex()
    for info in models():
        if info.model_id == wanted:
            return info
    raise UnknownModelError(f"the file is of model {wanted}, which is not available; see models()")


def decode(blob: Encoded) -> NDArray[np.uint8]:
    """The image uint8 [H, W, C] of a `.hvae` file, with whichever model available wrote it.

    Raises:
        BitstreamError, UnknownModelError: as `codec_for` and `Codec.decode`.
    """
    file = as_file(blob)
    return codec_for(file).decode(file)


def _directory() -> Path:
    named = os.environ.get(MODELS_VARIABLE)
    return Path(named).expanduser() if named else Path(__file__).parents[1] / "checkpoints"


@lru_cache(maxsize=8)
def _entries(directory: Path) -> tuple[tuple[ModelInfo, Path], ...]:
    found = {}
    ids = set()
    for path in sorted(directory.glob("*.json")):
        info = model_info(read_card(path))
        if (info.name, info.quality) in found or info.model_id in ids:
            raise CheckpointError(
                f"{path}: another card has the same name and quality, or model id"
            )
        ids.add(info.model_id)
        found[info.name, info.quality] = (info, path.with_suffix(".safetensors"))
    return tuple(found.values())


def _loaded(name: str, quality: int) -> Codec:
    return _load(_directory(), name, quality, os.environ.get(DEVICE_VARIABLE, "cpu"))


@lru_cache(maxsize=32)
@loading
def _load(directory: Path, name: str, quality: int, device: str) -> Codec:
    for info, path in _entries(directory):
        if (info.name, info.quality) == (name, quality):
            checkpoint = load_checkpoint(path)
            try:
                checkpoint.model.to(device)
            # What PyTorch raises depends on how it was built.
            except (RuntimeError, AssertionError, NotImplementedError) as error:
                raise DeviceError(
                    f"the networks cannot run on {DEVICE_VARIABLE}={device}: {error}"
                ) from error
            codec = Codec(checkpoint)
            codec.source = ModelAtHand(name, quality, codec.info.model_id)
            return codec
    raise UnknownModelError(f"{name} quality {quality} is no longer in {directory}")


@lru_cache(maxsize=8)
def _load_file(path: Path, modified_ns: int, size: int) -> Codec:
    return load_file(path)


def _checked(codec: Codec, model_id: str, label: str) -> Codec:
    """The codec, if it is of this model. Raises WrongModelError."""
    if codec.info.model_id != model_id:
        raise WrongModelError(
            f"the pickled codec is of model {model_id}; {label} here is {codec.info.model_id}"
        )
    return codec
