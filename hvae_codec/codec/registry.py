"""The models at hand: those shipped in the package, by name and quality or by the id in a file."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.checkpoint import ModelInfo, load_checkpoint, model_info, read_card
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.format import read_header
from hvae_codec.codec.map_codec import MapCodec
from hvae_codec.codec.opening import open_codec
from hvae_codec.codec.quality import operating_point
from hvae_codec.codec.quality_scale import HIGHEST, LOWEST
from hvae_codec.errors import CheckpointError, DeviceError, UnknownModelError, UnknownQualityError

MODELS_VARIABLE = "HVAE_MODELS"
"""Environment variable that names a directory of checkpoints to use instead of the shipped ones."""

DEVICE_VARIABLE = "HVAE_DEVICE"
"""Environment variable that names the device of the networks: cpu (the default), cuda, cuda:1."""

AUTO = "auto"
"""In the place of a model's name: the model that `model_for` gives for each picture."""

PHOTO_MODEL, SMALL_MODEL = "photo", "cifar10"
"""The models of large and of small pictures."""

SMALL_PIXELS = 64 * 64
"""Most pixels of a small picture."""


def models() -> list[ModelInfo]:
    """The models at hand, by name and rising quality."""
    found = [info for info, _ in _entries(_directory())]
    return sorted(found, key=lambda info: (info.name, info.quality))


def model_for(height: int, width: int) -> str:
    """The name of the model that a picture of this size takes where none was named.

    PHOTO_MODEL for more than SMALL_PIXELS pixels where that model is at hand, else SMALL_MODEL,
    whose networks see 32x32 pixels: it is the better one for thumbnails, and poor at photographs.
    """
    if height * width <= SMALL_PIXELS:
        return SMALL_MODEL
    return PHOTO_MODEL if any(info.name == PHOTO_MODEL for info in models()) else SMALL_MODEL


def scale_of(name: str) -> str:
    """The qualities of a model at hand in words: "1 to 100", or the rungs "1, 2, 3".

    Raises:
        UnknownModelError: there is no such model.
    """
    rungs = _rungs(name)
    if rungs[0].continuous:
        return f"{LOWEST:g} to {HIGHEST:g}"
    return ", ".join(str(info.quality) for info in rungs)


def load(name: str, quality: float | None = None, *, effort: int | None = None) -> Codec:
    """The codec of a model at hand; loaded once per process.

    Args:
        name: as `models()` lists it, for example "cifar10" or "photo".
        quality: higher is more bytes and a better picture. Of a model for photographs, any number
            from 1 to 100. Of a ladder, its rung, from 1, by default the middle one; a quality
            between two rungs, such as 2.5, is a rung whose encoder trades bytes against quality.
            Bytes and PSNR rise with it at any one effort.
        effort: what the codec encodes with by default; see `Codec`. If it is not given: 0, and 1
            between two rungs, where it must be above 0.

    Raises:
        UnknownModelError, UnknownQualityError: there is no such model or quality; the message lists
        those at hand. CheckpointError: its files are damaged. DeviceError: HVAE_DEVICE names a
        device that is not here. ValueError: no such effort.
    """
    rungs = _rungs(name)
    numbers = [info.quality for info in rungs]
    if rungs[0].continuous:
        codec = _loaded(name, numbers[0])
        assert isinstance(codec, MapCodec)
        codec = codec if quality is None else codec.at_quality(quality)
        return codec if effort is None else codec.tuned(effort)
    if quality is None:
        quality = numbers[len(numbers) // 2]
    if quality in numbers:
        codec = _loaded(name, int(quality))
        return codec if effort is None else codec.tuned(effort)
    if float(quality).is_integer():
        raise UnknownQualityError(
            f"model {name!r} has no quality {quality!r}; at hand: {', '.join(map(str, numbers))}"
        )
    info, trade = operating_point(rungs, quality)
    return _loaded(name, info.quality).tuned(1 if effort is None else effort, trade)


def ladder(name: str) -> list[Codec]:
    """The codecs of all rungs of a model at hand, by rising quality.

    Raises:
        UnknownModelError, CheckpointError: as `load`.
    """
    return [_loaded(name, info.quality) for info in _rungs(name)]


def _rungs(name: str) -> list[ModelInfo]:
    at_hand = models()
    rungs = [info for info in at_hand if info.name == name]
    if not rungs:
        names = ", ".join(sorted({info.name for info in at_hand})) or "none"
        raise UnknownModelError(f"unknown model {name!r}; at hand: {names}")
    return rungs


def load_file(path: str | os.PathLike[str]) -> Codec:
    """The codec of the checkpoint at `path` (.safetensors, its .json card beside it).

    Raises:
        CheckpointError: a file is missing or damaged, or they do not belong together.
    """
    return open_codec(load_checkpoint(Path(path)))


def codec_for(blob: bytes) -> Codec:
    """The codec of the model that wrote `blob`, by the model id in its header.

    Raises:
        BitstreamError: not a `.hvae` file of this version.
        UnknownModelError: no model at hand has this id.
    """
    return codec_of(read_header(blob).model_id)


def codec_of(model_id: bytes, number: int | None = None) -> Codec:
    """The codec of the model with this id, and of the quality with this number, as files state
    them; None: the model's own.

    Raises:
        UnknownModelError: no model at hand has it. UnknownQualityError: it has no such quality.
    """
    info = info_of(model_id)
    return at_number(load(info.name, info.quality), number)


def at_number(codec: Codec, number: int | None) -> Codec:
    """The codec of the quality with this number, as files state it; None: the codec's own.

    Raises:
        UnknownQualityError: its model has no such quality.
    """
    if number is None:
        return codec
    if not isinstance(codec, MapCodec):
        raise UnknownQualityError(f"model {codec.info.name!r} has no qualities by number: {number}")
    return codec.at_number(number)


def info_of(model_id: bytes) -> ModelInfo:
    """The model with this id, none of its networks loaded.

    Raises:
        UnknownModelError: no model at hand has it.
    """
    wanted = model_id.hex()
    for info in models():
        if info.model_id == wanted:
            return info
    raise UnknownModelError(f"the file is of model {wanted}, which is not at hand; see models()")


def decode(blob: bytes) -> NDArray[np.uint8]:
    """The picture uint8 [H, W, C] of a `.hvae` file, with whichever model at hand wrote it.

    Raises:
        BitstreamError, UnknownModelError: as `codec_for` and `Codec.decode`.
    """
    return codec_for(blob).decode(blob)


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
            return open_codec(checkpoint)
    raise UnknownModelError(f"{name} quality {quality} is no longer in {directory}")
