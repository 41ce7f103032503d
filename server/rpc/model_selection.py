"""Which codec a request means."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import hvae_codec
from hvae_codec import Codec
from hvae_codec.codec.model_choice import AUTO
from hvae_codec.codec.registry import codec_of, model_for
from hvae_codec.v1 import codec_pb2

from ..engine.operations import Picture
from ..errors import InvalidRequestError

MAX_EFFORT: Final = 2
_TARGETS: Final = ("target_bytes", "target_psnr")


@dataclass(frozen=True)
class Target:
    """What `hvae_codec.encode` searches for: its arguments beside image and model."""

    arguments: dict[str, Any]

    def encode(self, picture: Picture, name: str) -> bytes:
        """An image by a model of that name. Raises RateError and what else that raises."""
        return hvae_codec.encode(picture, name, **self.arguments)


@dataclass(frozen=True)
class Encoding:
    """How the images of a request are to be encoded."""

    name: str
    quality: float | None
    effort: int | None
    target: Target | None

    def model_of(self, picture: Picture) -> str:
        """The name of the model that takes an image."""
        return model_for(*picture.shape[:2]) if self.name == AUTO else self.name


def encoding_of(
    selector: codec_pb2.ModelSelector, effort: int | None = None, max_bytes: int = 0
) -> Encoding:
    """What a request says of its encoding.

    Raises InvalidRequestError where that contradicts itself.
    """
    name = _name_of(selector)
    if effort is not None and effort > MAX_EFFORT:
        raise InvalidRequestError(f"effort: 0 to {MAX_EFFORT}, got {effort}")
    rung = selector.WhichOneof("rung")
    wanted: dict[str, Any] = {rung: getattr(selector, rung)} if rung in _TARGETS else {}
    if max_bytes:
        if rung is not None and rung not in _TARGETS:
            raise InvalidRequestError("max_bytes: give it alone or beside a target, not a quality")
        wanted["max_bytes"] = max_bytes
    if not wanted:
        return Encoding(name, _quality_of(selector), effort, None)
    if any(not 0 < value < float("inf") for value in wanted.values()):
        raise InvalidRequestError(f"model: targets are above 0 and finite, got {wanted}")
    if effort == 0:
        raise InvalidRequestError("effort: a target takes 1 or 2, got 0")
    return Encoding(name, None, effort, Target(wanted | ({"effort": effort} if effort else {})))


class Codecs:
    """The codecs of this process, loaded beside the event loop when they are first asked for."""

    def __init__(self) -> None:
        self._loaded: dict[object, Codec] = {}

    async def selected(self, selector: codec_pb2.ModelSelector) -> Codec:
        """The codec that a request names.

        Raises InvalidRequestError where it names none or a target, UnknownModelError and
        UnknownQualityError.
        """
        refuse_targets(selector)
        return await self.named(_name_of(selector), _quality_of(selector))

    async def named(self, name: str, quality: float | None = None) -> Codec:
        """`hvae_codec.load`."""
        key = (name, quality)
        if key not in self._loaded:
            codec = await asyncio.to_thread(partial(hvae_codec.load, name, quality))
            if quality is not None and not float(quality).is_integer():
                return codec  # there are more of these than are worth keeping
            self._loaded[key] = codec
        return self._loaded[key]

    async def of_id(self, model_id: bytes) -> Codec:
        """The codec of the model with this id, as files state it. Raises UnknownModelError."""
        if model_id not in self._loaded:
            self._loaded[model_id] = await asyncio.to_thread(codec_of, model_id)
        return self._loaded[model_id]


def refuse_targets(selector: codec_pb2.ModelSelector) -> None:
    """Raise InvalidRequestError where a target stands in the place of a quality."""
    if (rung := selector.WhichOneof("rung")) in _TARGETS:
        raise InvalidRequestError(f"model: {rung} is for Encode and Evaluate alone")


def _name_of(selector: codec_pb2.ModelSelector) -> str:
    if not selector.name:
        raise InvalidRequestError("model: the name is missing; ListModels gives the names")
    return selector.name


def _quality_of(selector: codec_pb2.ModelSelector) -> float | None:
    rung = selector.WhichOneof("rung")
    return None if rung is None else getattr(selector, rung)


def layer_index(codec: Codec, layer: int) -> int:
    """Index, top first, of the layer z_`layer`; 0 is the top one.

    Raises InvalidRequestError where the model has no such layer.
    """
    total = len(codec.info.z_dims)
    if layer > total:
        raise InvalidRequestError(
            f"layer: model {codec.info.name!r} has z1 to z{total}, not z{layer}"
        )
    return 0 if layer == 0 else total - layer
