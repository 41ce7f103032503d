"""What each call does: from its request to its response, on the worker thread.

Every handler checks counts, sizes and the size of its answer before it computes, and stops early
where nobody waits for the answer any more.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import hvae_codec
from hvae_codec import Codec
from hvae_codec.codec.format import read_header
from hvae_codec.v1 import codec_pb2

from . import convert
from .batches import Batched, Call
from .convert import Picture, Shape
from .limits import Limits
from .status import InvalidRequestError, blame

_LATENT_BYTES: Final = 2 * 4
"""Mean and standard deviation of one latent dimension in an answer."""

_RESULT_BYTES: Final = 16
"""Tags and lengths around them, at most."""

_MAX_SEED: Final = 2**63 - 1

Group = tuple[Codec, list[tuple[int, bytes]]]
"""A codec and the files, by their index in the request, that it reads."""


class Handlers:
    """The calls of `CodecService` that compute."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def encode(self, request: codec_pb2.EncodeRequest, call: Call) -> codec_pb2.EncodeResponse:
        """Encode pictures, one file each."""
        self._limits.check_items("images", len(request.images))
        codec = _selected(request.model)
        pictures = self._pictures("images", enumerate(request.images), call)
        encoded = Batched(codec.encode_batch, codec.encode).run(call, "images", pictures)
        results = [codec_pb2.EncodeResult(encoded=encoded[index]) for index, _ in pictures]
        return codec_pb2.EncodeResponse(results=results)

    def decode(self, request: codec_pb2.DecodeRequest, call: Call) -> codec_pb2.DecodeResponse:
        """Decode files, whole or as previews."""
        self._limits.check_items("encoded", len(request.encoded))
        convert.check_format(request.format)
        groups = _by_codec("encoded", _expected(request), enumerate(request.encoded))
        shapes = _shapes("encoded", groups, whole=not request.preview)
        self._check_pictures(shapes, request.format)
        pictures: dict[int, Picture] = {}
        for codec, items in groups:
            batched = _previews(codec) if request.preview else _decoded(codec)
            pictures |= batched.run(call, "encoded", items)
        ordered = [picture for _, picture in sorted(pictures.items())]
        images = _images(ordered, request.format, call)
        results = [codec_pb2.DecodeResult(image=image) for image in images]
        return codec_pb2.DecodeResponse(results=results)

    def extract_features(
        self, request: codec_pb2.ExtractFeaturesRequest, call: Call
    ) -> codec_pb2.ExtractFeaturesResponse:
        """Read features of pictures and of files."""
        self._limits.check_items("sources", len(request.sources))
        images, files = _by_kind(request.sources)
        groups = _by_codec("sources", _expected(request), files)
        self._limits.check_pixels(_pixels(_shapes("sources", groups, whole=False)))
        codecs = [codec for codec, _ in groups]
        if images:
            codecs.append(_selected(request.model))
        self._check_features(codecs, len(request.sources))
        pictures = self._pictures("sources", images, call)
        results: dict[int, codec_pb2.FeatureResult] = {}
        if images:
            results |= _picture_features(codecs[-1]).run(call, "sources", pictures)
        for codec, items in groups:
            results |= _file_features(codec).run(call, "sources", items)
        ordered = [result for _, result in sorted(results.items())]
        return codec_pb2.ExtractFeaturesResponse(results=ordered)

    def sample(self, request: codec_pb2.SampleRequest, call: Call) -> codec_pb2.SampleResponse:
        """Draw pictures from the prior."""
        self._limits.check_items("count", request.count)
        convert.check_format(request.format)
        temperature = request.temperature if request.HasField("temperature") else 1.0
        if not (math.isfinite(temperature) and temperature >= 0):
            raise InvalidRequestError(f"temperature: must be finite and >= 0, got {temperature}")
        if request.seed > _MAX_SEED:
            raise InvalidRequestError(f"seed: at most {_MAX_SEED}, got {request.seed}")
        codec = _selected(request.model)
        channels, height, width = codec.info.image_shape
        self._check_pictures([(height, width, channels)] * request.count, request.format)
        pictures = codec.sample(request.count, seed=request.seed, temperature=temperature)
        images = _images(pictures, request.format, call)
        results = [codec_pb2.SampleResult(image=image) for image in images]
        return codec_pb2.SampleResponse(results=results)

    def _pictures(
        self, field: str, images: Iterable[tuple[int, codec_pb2.Image]], call: Call
    ) -> list[tuple[int, Picture]]:
        """Samples of the pictures of a request, after their sizes together were found to fit."""
        items = list(images)
        pixels = 0
        for index, image in items:
            with blame(field, index):
                pixels += convert.pixels_of(image)
        self._limits.check_pixels(pixels)
        pictures = []
        for index, image in items:
            call.check()
            with blame(field, index):
                pictures.append((index, convert.to_picture(image)))
        return pictures

    def _check_pictures(self, shapes: Sequence[Shape], image_format: codec_pb2.ImageFormat) -> None:
        """Refuse an answer with too many pixels or bytes of pictures."""
        self._limits.check_pixels(_pixels(shapes))
        answer = sum(convert.result_bytes(shape, image_format) for shape in shapes)
        self._limits.check_response(answer)

    def _check_features(self, codecs: Iterable[Codec], count: int) -> None:
        """Refuse an answer with too many bytes of features."""
        dimensions = max(codec.info.z_dims[0] for codec in codecs)
        self._limits.check_response(count * (dimensions * _LATENT_BYTES + _RESULT_BYTES))


def _pixels(shapes: Iterable[Shape]) -> int:
    return sum(height * width for height, width, _ in shapes)


def _selected(selector: codec_pb2.ModelSelector) -> Codec:
    """The codec that a request names.

    Raises InvalidRequestError where it names none, UnknownModelError and UnknownQualityError.
    """
    if not selector.name:
        raise InvalidRequestError("model: the name is missing; ListModels gives the names")
    quality = selector.quality if selector.HasField("quality") else None
    return hvae_codec.load(selector.name, quality)


def _expected(
    request: codec_pb2.DecodeRequest | codec_pb2.ExtractFeaturesRequest,
) -> Codec | None:
    """The codec that files must be of, where the request says so."""
    return _selected(request.model) if request.HasField("model") else None


def _by_kind(
    sources: Iterable[codec_pb2.FeatureSource],
) -> tuple[list[tuple[int, codec_pb2.Image]], list[tuple[int, bytes]]]:
    """Pictures and files among the sources, each with its index."""
    images, files = [], []
    for index, source in enumerate(sources):
        match source.WhichOneof("source"):
            case "image":
                images.append((index, source.image))
            case "encoded":
                files.append((index, source.encoded))
            case _:
                with blame("sources", index):
                    raise InvalidRequestError("empty: set `image` or `encoded`")
    return images, files


def _by_codec(
    field: str, expected: Codec | None, files: Iterable[tuple[int, bytes]]
) -> list[Group]:
    """Files grouped by the codec to read them: the expected one, else that of each file's id."""
    groups: dict[bytes, Group] = {}
    for index, encoded in files:
        with blame(field, index):
            model_id = b"" if expected else read_header(encoded).model_id
            if model_id not in groups:
                groups[model_id] = (expected or hvae_codec.codec_for(encoded), [])
        groups[model_id][1].append((index, encoded))
    return list(groups.values())


def _shapes(field: str, groups: Sequence[Group], *, whole: bool) -> list[Shape]:
    """Shapes of the pictures that files, or the beginnings of files, say they hold."""
    shapes = []
    for codec, items in groups:
        for index, encoded in items:
            with blame(field, index):
                shapes.append(convert.shape_of(encoded, codec, whole=whole))
    return shapes


def _images(
    pictures: Iterable[Picture], image_format: codec_pb2.ImageFormat, call: Call
) -> Iterator[codec_pb2.Image]:
    for picture in pictures:
        call.check()
        yield convert.to_image(picture, image_format)


def _decoded(codec: Codec) -> Batched[bytes, Picture]:
    return Batched(codec.decode_batch, codec.decode)


def _previews(codec: Codec) -> Batched[bytes, Picture]:
    return Batched(lambda files: [codec.preview(encoded) for encoded in files], codec.preview)


def _picture_features(codec: Codec) -> Batched[Picture, codec_pb2.FeatureResult]:
    return Batched(
        lambda pictures: convert.to_feature_results(codec.features(pictures)),
        lambda picture: codec.features([picture]),
    )


def _file_features(codec: Codec) -> Batched[bytes, codec_pb2.FeatureResult]:
    return Batched(
        lambda files: convert.to_feature_results(codec.features_from_bytes(files)),
        codec.features_from_bytes,
    )
