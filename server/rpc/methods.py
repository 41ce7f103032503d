"""What each call of the contract does, apart from gRPC: from its request to its response.

An item that cannot be taken gets an error of its own. What is wrong with a request as a whole is
raised, before anything is computed.
"""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import grpc
import numpy as np

import hvae_codec
from hvae_codec import Codec, Features
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.model_choice import AUTO
from hvae_codec.errors import HvaeCodecError, ImageError
from hvae_codec.evaluation.metrics.psnr import psnr_of, squared_error_each
from hvae_codec.v1 import codec_pb2

from ..admission.capacity import Held
from ..engine.engine import Engine
from ..engine.operations import Decode, Encode, ImageArray, Measure, ReadFeatures, ReadFileFeatures
from ..errors import InvalidRequestError
from ..settings import Limits
from .requests import (
    Codecs,
    Encoding,
    ImageReader,
    Shape,
    Warned,
    answer_footprint,
    check_items,
    check_known,
    check_pixels,
    check_response,
    encoding_of,
    layer_index,
    refuse_targets,
    shape_of,
)
from .responses import ImageWriter, result_bytes, to_description, to_feature_result
from .sampling import Sampling
from .status import item_status

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_RESULT_BYTES: Final = 16
"""Tags and lengths around the features of an item, at most."""

_WARNING_BYTES: Final = 256
"""What was not taken of an image, at most."""

_NATS_PER_BIT: Final = float(np.log(2.0))


class Calls:
    """The calls of `CodecService`. `deadline` is a time of the event loop's clock; work that has
    not begun by then never is.

    Raised are InvalidRequestError, LimitError, UnknownModelError and UnknownQualityError for the
    request as a whole, DeadlinePassedError, and whatever is no fault of the request.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._codecs = Codecs()
        self._reader = ImageReader(engine, limits)
        self._writer = ImageWriter(engine, limits)
        self._sampling = Sampling(engine, limits, self._reader)

    async def encode(
        self, request: codec_pb2.EncodeRequest, deadline: float | None, held: Held
    ) -> codec_pb2.EncodeResponse:
        """Encode images, one file each."""
        check_items(self._limits, "images", len(request.images))
        effort = request.effort if request.HasField("effort") else None
        encoding = encoding_of(request.model, effort, request.max_bytes)
        if encoding.name != AUTO:
            await self._codecs.named(encoding.name, encoding.quality)  # or fail as a whole
        warned: Warned = {}
        images = dict(enumerate(await self._reader.read(request.images, held, warned)))
        codecs = await self._encoders(encoding, images)

        async def encoded(codec: Codec, numbers: list[int]) -> Sequence[bytes | Exception]:
            return await self._encoded(encoding, codec, _arrays(images, numbers), deadline)

        results = await _in_groups(codecs, encoded)
        response = codec_pb2.EncodeResponse()
        for number, result in results.items():
            if isinstance(result, Exception):
                response.results.add(status=_failed("images", number, result))
            else:
                response.results.add(encoded=result)
            response.results[number].warnings.extend(warned.get(number, ()))
        size = response.ByteSize()
        check_response(self._limits, size)
        held.answered(answer_footprint(size))
        return response

    async def decode(
        self, request: codec_pb2.DecodeRequest, deadline: float | None, held: Held
    ) -> codec_pb2.DecodeResponse:
        """Decode files, whole or as previews."""
        check_items(self._limits, "encoded", len(request.encoded))
        check_known("format", request.format, codec_pb2.ImageFormat)
        files = dict(enumerate(request.encoded))
        named = await self._named(request)
        codecs, shapes = await self._decoders(named, files, whole=not request.preview)
        size = await self._writer.hold_answer(shapes.values(), request.format, held)
        decode = Decode(1 if request.preview else None)

        async def decoded(codec: Codec, numbers: list[int]) -> Sequence[ImageArray | Exception]:
            pixels = _computed(codec, [shapes[number] for number in numbers])
            wanted = [files[number] for number in numbers]
            return await self._engine.run(decode, codec, wanted, pixels, deadline)

        results = await _in_groups(codecs, decoded)
        response = codec_pb2.DecodeResponse()
        messages, images = [], []
        for number, image in results.items():
            result = response.results.add()
            if isinstance(image, Exception):
                result.status.CopyFrom(_failed("encoded", number, image))
            else:
                messages.append(result.image)
                images.append(image)
        await self._writer.write(messages, images, request.format)
        held.answered(answer_footprint(size))
        return response

    async def extract_features(
        self, request: codec_pb2.ExtractFeaturesRequest, deadline: float | None, held: Held
    ) -> codec_pb2.ExtractFeaturesResponse:
        """Read features of images and of files."""
        check_items(self._limits, "sources", len(request.sources))
        check_known("moments", request.moments, codec_pb2.FeatureMoments)
        check_known("encoding", request.encoding, codec_pb2.FeatureEncoding)
        kinds = [source.WhichOneof("source") for source in request.sources]
        by_size = request.model.name == AUTO
        if by_size:
            refuse_targets(request.model)
        named = None if by_size else await self._named(request)
        if named is None and not by_size and "image" in kinds:
            named = await self._codecs.selected(request.model)  # which says what is missing
        given = {kind: [n for n, one in enumerate(kinds) if one == kind] for kind in set(kinds)}
        files = {n: request.sources[n].encoded for n in given.get("encoded", ())}
        messages = {n: request.sources[n].image for n in given.get("image", ())}
        warned: Warned = {}
        read = await self._reader.read(list(messages.values()), held, warned)
        images = dict(zip(messages, read, strict=True))
        places = list(messages)
        warned = {places[number]: warnings for number, warnings in warned.items()}
        decoders, shapes = await self._decoders(named, files, whole=False)
        check_pixels(self._limits, sum(map(_pixels, shapes.values())))
        if named is not None:
            encoders = {
                n: one if isinstance(one, Exception) else named for n, one in images.items()
            }
        else:
            encoders = await self._encoders(encoding_of(request.model), images) if images else {}
        layers = {
            codec: layer_index(codec, request.layer)
            for codec in (named, *decoders.values(), *encoders.values())
            if isinstance(codec, Codec)
        }
        dims = max((codec.info.z_dims[layers[codec]] for codec in layers), default=0)
        size = len(kinds) * (8 * dims + _RESULT_BYTES) + _WARNING_BYTES * len(warned)
        check_response(self._limits, size)
        await held.more(answer_footprint(size))

        async def of_files(codec: Codec, numbers: list[int]) -> Sequence[Features | Exception]:
            pixels = _computed(codec, [shapes[number] for number in numbers])
            read = ReadFileFeatures(layers[codec])
            wanted = [files[number] for number in numbers]
            return await self._engine.run(read, codec, wanted, pixels, deadline)

        async def of_images(codec: Codec, numbers: list[int]) -> Sequence[Features | Exception]:
            arrays = _arrays(images, numbers)
            pixels = _computed(codec, [array.shape for array in arrays])
            read = ReadFeatures(layers[codec])
            return await self._engine.run(read, codec, arrays, pixels, deadline)

        empty = InvalidRequestError("empty: set `image` or `encoded`")
        results = await _in_groups(decoders, of_files) | await _in_groups(encoders, of_images)
        response = codec_pb2.ExtractFeaturesResponse()
        for number in range(len(kinds)):
            result = results.get(number, empty)
            if isinstance(result, Exception):
                response.results.add(status=_failed("sources", number, result))
            else:
                feature = to_feature_result(result, request.moments, request.encoding)
                response.results.append(feature)
            response.results[number].warnings.extend(warned.get(number, ()))
        held.answered(answer_footprint(size))
        return response

    async def sample(
        self, request: codec_pb2.SampleRequest, deadline: float | None, held: Held
    ) -> codec_pb2.SampleResponse:
        """Draw images from the prior, or below given latents of the top layer."""
        check_items(self._limits, "count", request.count)
        check_known("format", request.format, codec_pb2.ImageFormat)
        codec = await self._codecs.selected(request.model)
        channels, height, width = codec.info.image_shape
        shapes = [(height, width, channels)] * request.count
        size = await self._writer.hold_answer(shapes, request.format, held)
        warned: list[codec_pb2.Warning] = []
        images = await self._sampling.draw(codec, request, deadline, held, warned)
        response = codec_pb2.SampleResponse(warnings=warned)
        messages = [response.results.add().image for _ in images]
        await self._writer.write(messages, list(images), request.format)
        held.answered(answer_footprint(size))
        return response

    async def list_models(
        self, request: codec_pb2.ListModelsRequest, deadline: float | None, held: Held
    ) -> codec_pb2.ListModelsResponse:
        """List the models."""
        models = [to_description(info) for info in hvae_codec.models()]
        return codec_pb2.ListModelsResponse(models=models, limits=self._call_limits())

    async def get_model(
        self, request: codec_pb2.GetModelRequest, deadline: float | None, held: Held
    ) -> codec_pb2.GetModelResponse:
        """Describe one model."""
        info = (await self._codecs.selected(request.model)).info
        model = to_description(info)
        return codec_pb2.GetModelResponse(model=model, limits=self._call_limits())

    async def evaluate(
        self, request: codec_pb2.EvaluateRequest, deadline: float | None, held: Held
    ) -> codec_pb2.EvaluateResponse:
        """Encode and decode an image, and say what it cost and how good it is."""
        check_known("format", request.format, codec_pb2.ImageFormat)
        encoding = encoding_of(request.model)
        warned: Warned = {}
        (image,) = await self._reader.read([request.image], held, warned)
        if isinstance(image, Exception):
            raise image
        answer = result_bytes(image.shape, request.format)
        await held.more(2 * image.nbytes + answer_footprint(answer))  # decoded, and compared
        codec = await self._codecs.named(encoding.model_of(image), encoding.quality)
        (file,) = await self._encoded(encoding, codec, [image], deadline)
        if isinstance(file, Exception):
            raise file
        codec = await self._codecs.of_id(parse(file).header.model_id)

        pixels = _computed(codec, [image.shape])
        (measured,) = await self._engine.run(Measure(), codec, [file], pixels, deadline)
        if isinstance(measured, Exception):
            raise measured
        bits, decoded = measured
        error = squared_error_each(codec.reference(image[None]), decoded[None])
        response = codec_pb2.EvaluateResponse(
            encoded=file,
            payload_bytes=len(file) - parse(file).payload_at,
            rates_nats=[_NATS_PER_BIT * layer for layer in bits],
            model=to_description(codec.info),
            warnings=warned.get(0, ()),
        )
        await self._writer.write([response.decoded], [decoded], request.format)
        if error[0] > 0:
            response.psnr_db = float(psnr_of(error)[0])
        size = response.ByteSize()
        check_response(self._limits, size)
        held.answered(answer_footprint(size))
        return response

    async def _encoders(
        self, encoding: Encoding, images: Mapping[int, ImageArray | Exception]
    ) -> dict[int, Codec | Exception]:
        """The codec that takes each image, or the error of an image that none takes."""
        codecs: dict[str, Codec] = {}
        found: dict[int, Codec | Exception] = {}
        for number, image in images.items():
            if isinstance(image, Exception):
                found[number] = image
                continue
            name = encoding.model_of(image)
            if name not in codecs:
                codecs[name] = await self._codecs.named(name, encoding.quality)
            try:
                codecs[name].shape.check_channels(image.shape[2])
                found[number] = codecs[name]
            except ImageError as error:
                found[number] = error
        return found

    async def _decoders(
        self, named: Codec | None, files: Mapping[int, bytes], *, whole: bool
    ) -> tuple[dict[int, Codec | Exception], dict[int, Shape]]:
        """The codec that reads each file, or the error of a file that none reads: the one that is
        named, else that of each file. With them the shapes of the images that the files state.
        """
        found: dict[int, Codec | Exception] = {}
        shapes: dict[int, Shape] = {}
        for number, file in files.items():
            try:
                frame = parse(file)
                codec = named or await self._codecs.of_id(frame.header.model_id)
                shapes[number] = shape_of(file, frame, codec, whole=whole)
                found[number] = codec
            except HvaeCodecError as error:
                found[number] = error
        return found, shapes

    async def _encoded(
        self,
        encoding: Encoding,
        codec: Codec,
        images: Sequence[ImageArray],
        deadline: float | None,
    ) -> list[bytes | Exception]:
        if (effort := encoding.effort) is not None:
            try:
                codec.tuned(effort)
            except ValueError as error:
                raise InvalidRequestError(f"effort: {error}") from error
        target = encoding.target
        if target is None:
            pixels = _computed(codec, [image.shape for image in images])
            return await self._engine.run(Encode(effort), codec, images, pixels, deadline)
        files: list[bytes | Exception] = []
        for image in images:

            def search(image: ImageArray = image) -> bytes:
                return target.encode(image, codec.info.name)

            try:
                size = codec.computed_pixels(*image.shape[:2])
                files.append(await self._engine.call(codec, search, size, deadline))
            except HvaeCodecError as error:
                files.append(error)
        self._engine.record_coded(codec.info.name, "encode", images, files)
        return files

    async def _named(
        self, request: codec_pb2.DecodeRequest | codec_pb2.ExtractFeaturesRequest
    ) -> Codec | None:
        """The codec that a request names, None where it names none."""
        return await self._codecs.selected(request.model) if request.HasField("model") else None

    def _call_limits(self) -> codec_pb2.CallLimits:
        limits = self._limits
        return codec_pb2.CallLimits(
            message_bytes=limits.message_bytes, items=limits.items, pixels=limits.pixels
        )


async def _in_groups(
    codecs: Mapping[int, Codec | Exception],
    work: Callable[[Codec, list[int]], Awaitable[Sequence[Result | Exception]]],
) -> dict[int, Result | Exception]:
    """The results of all items, in order: those of the items of each codec, and the errors of items
    that have none.
    """
    results: dict[int, Result | Exception] = {}
    groups: dict[Codec, list[int]] = defaultdict(list)
    for number, codec in codecs.items():
        if isinstance(codec, Exception):
            results[number] = codec
        else:
            groups[codec].append(number)
    for codec, numbers in groups.items():
        results |= zip(numbers, await work(codec, numbers), strict=True)
    return {number: results[number] for number in codecs}


def _arrays(
    images: Mapping[int, ImageArray | Exception], numbers: Sequence[int]
) -> list[ImageArray]:
    """The images of these numbers, which have no errors."""
    return [one for number in numbers if not isinstance(one := images[number], Exception)]


def _pixels(shape: Shape) -> int:
    return shape[0] * shape[1]


def _computed(codec: Codec, shapes: Sequence[Shape]) -> list[int]:
    """Pixels that the networks compute of each image."""
    return [codec.computed_pixels(*shape[:2]) for shape in shapes]


def _failed(field: str, number: int, error: Exception) -> codec_pb2.Status:
    """The status of an item's error, its message led by the item's position."""
    status = item_status(error)
    if status.code == grpc.StatusCode.INTERNAL.value[0]:
        _logger.error("%s[%d] failed", field, number, exc_info=error)
    status.message = f"{field}[{number}]: {status.message}"
    return status
