"""Samples: images drawn from a model's prior, or below latents that a request gives."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hvae_codec import Codec
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.v1 import codec_pb2

from ..admission.capacity import Held
from ..engine.engine import Engine
from ..engine.operations import Draw, ReadFeatures, ReadFileFeatures, Sample
from ..errors import InvalidRequestError
from ..settings import Limits
from .requests import ImageReader, Warned, check_pixels, shape_of

_MAX_SEED: Final = 2**63 - 1


class Sampling:
    """Answers SampleRequests."""

    def __init__(self, engine: Engine, limits: Limits, reader: ImageReader) -> None:
        self._engine = engine
        self._limits = limits
        self._reader = reader

    async def draw(
        self,
        codec: Codec,
        request: codec_pb2.SampleRequest,
        deadline: float | None,
        held: Held,
        warned: list[codec_pb2.Warning],
    ) -> NDArray[np.uint8]:
        """Images uint8 [count, H, W, C]; what was not taken of the images that were given is put
        into `warned`. Raises InvalidRequestError.
        """
        temperature = request.temperature if request.HasField("temperature") else 1.0
        if not (math.isfinite(temperature) and temperature >= 0):
            raise InvalidRequestError(f"temperature: must be finite and >= 0, got {temperature}")
        if request.seed > _MAX_SEED:
            raise InvalidRequestError(f"seed: at most {_MAX_SEED}, got {request.seed}")
        top = None
        if request.HasField("given"):
            top = await self._given(codec, request, deadline, held, warned)
        draw = Draw(request.count, request.seed, temperature, top)
        pixels = request.count * codec.computed_pixels(*codec.shape.size)
        (images,) = await self._engine.run(Sample(), codec, [draw], [pixels], deadline)
        if isinstance(images, ValueError):
            raise InvalidRequestError(f"given: {images}") from images
        if isinstance(images, Exception):
            raise images
        return images

    async def _given(
        self,
        codec: Codec,
        request: codec_pb2.SampleRequest,
        deadline: float | None,
        held: Held,
        warned: list[codec_pb2.Warning],
    ) -> NDArray[np.float32]:
        """The top layer's latents [D] or [count, D]."""
        given = request.given

        async def latents(field: str, source: codec_pb2.FeatureSource) -> NDArray[np.float32]:
            return await self._latents(field, codec, source, deadline, held, warned)

        match given.WhichOneof("given"):
            case "values":
                return np.array(given.values.values, np.float32)
            case "source":
                return await latents("given.source", given.source)
            case "between":
                if request.count < 2:
                    raise InvalidRequestError(
                        f"count: the way between two takes 2 images or more, got {request.count}"
                    )
                way = given.between
                first = await latents("given.between.first", way.first)
                last = await latents("given.between.last", way.last)
                along: NDArray[np.float32] = np.linspace(first, last, request.count, dtype="f4")
                return along
            case _:
                raise InvalidRequestError("given: empty; set `values`, `source` or `between`")

    async def _latents(
        self,
        field: str,
        codec: Codec,
        source: codec_pb2.FeatureSource,
        deadline: float | None,
        held: Held,
        warned: list[codec_pb2.Warning],
    ) -> NDArray[np.float32]:
        """The mean [D] of the top layer of an image or file."""
        match source.WhichOneof("source"):
            case "image":
                found: Warned = {}
                (image,) = await self._reader.read([source.image], held, found)
                for each in found.get(0, ()):
                    message = f"{field}: {each.message}"
                    warned.append(codec_pb2.Warning(message=message, reason=each.reason))
                if isinstance(image, Exception):
                    raise image
                height, width, channels = image.shape
                codec.shape.check_channels(channels)
                pixels = codec.computed_pixels(height, width)
                (features,) = await self._engine.run(
                    ReadFeatures(0), codec, [image], [pixels], deadline
                )
            case "encoded":
                frame = parse(source.encoded)
                height, width, _ = shape_of(source.encoded, frame, codec, whole=False)
                check_pixels(self._limits, height * width)
                pixels = codec.computed_pixels(height, width)
                (features,) = await self._engine.run(
                    ReadFileFeatures(0), codec, [source.encoded], [pixels], deadline
                )
            case _:
                raise InvalidRequestError(f"{field}: empty; set `image` or `encoded`")
        if isinstance(features, Exception):
            raise features
        mean: NDArray[np.float32] = features.mean[0]
        return mean
