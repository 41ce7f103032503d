"""The calls that take many items, each as data: how items become requests, and results answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Required, TypedDict, TypeVar, cast

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from hvae_codec.client import messages
from hvae_codec.client.chunking import Weight
from hvae_codec.client.messages import (
    FeatureType,
    Picture,
    RemoteLimits,
    RemoteModel,
    Transfer,
)
from hvae_codec.client.retry import duration
from hvae_codec.codec.bitstream.encoded import as_file
from hvae_codec.codec.bitstream.header import read_header
from hvae_codec.codec.features import Features
from hvae_codec.codec.images.sniff import read_image_header
from hvae_codec.errors import BitstreamError, HvaeCodecError, ImageError
from hvae_codec.utils.arguments import flag, shown, take
from hvae_codec.v1 import codec_pb2

Value = TypeVar("Value")
Result = TypeVar("Result")

_AROUND = 64
"""Tags and lengths around one item, at most, in bytes."""

_SEARCH_SECONDS = 600.0
"""For a megapixel: three times what one core of a busy machine took, of photographs some 100 s in
ten codings there and back, of the small models 200 s for all candidates."""
_GREATEST_EFFORT = 2
_EFFORT_2 = 8.0
"""Times as much with effort 2."""


@dataclass(frozen=True)
class ServerInfo:
    """What a client needs to know of a server to send it as much as it takes."""

    limits: RemoteLimits
    models: tuple[RemoteModel, ...]

    @classmethod
    def of(cls, answer: codec_pb2.ListModelsResponse) -> "ServerInfo":
        """Those of a ListModels call."""
        return cls(messages.limits_of(answer), tuple(map(messages.model_of, answer.models)))


@dataclass(frozen=True)
class Operation(Generic[Value, Result]):
    """A call that has one result for each item of its request."""

    method: str
    """Name in the contract; with "Stream" before it, that of its form for many messages."""
    field: str
    """Where the items stand in the request; errors name it."""
    item: Callable[[Value], Any]
    """What travels for a value; raises where nothing can."""
    weight: Callable[[Any, ServerInfo], Weight]
    request: Callable[[Sequence[Any]], Message]
    stream_request: Callable[..., Message]
    read: Callable[[Any], Result]
    timeout: float | None
    """Seconds that the caller gives it; None where nothing was said."""
    search: Callable[[Any], float] = lambda item: 0.0
    """Seconds that a search for what is wanted of an item may take."""
    warns: bool = True
    """Whether results say what was not taken of their items."""

    def __post_init__(self) -> None:
        take(self, "timeout", duration)

    def slot(self, value: Value) -> Any:
        """What travels for a value, or the error that keeps it from travelling."""
        try:
            return self.item(value)
        except HvaeCodecError as error:
            return error

    def weigh(self, slot: Any, info: ServerInfo) -> Weight:
        """What a slot adds to its message."""
        return Weight() if isinstance(slot, Exception) else self.weight(slot, info)

    def message(self, items: Sequence[Any]) -> Message:
        """One message of the call's form for many."""
        return self.stream_request(request=self.request(items))


class EncodeOptions(TypedDict, total=False):
    """How images are to be encoded.

    model: a family, such as "cifar10", or "auto": by each image's size. Of the next three at most
    one. quality: of a model family a quality level or, as a float, a point between two; of a model
    of all qualities 1 to 100; None for the middle quality level or the model's default.
    target_bytes: size of each file, met within 2 % or two bytes. target_psnr: least PSNR of each
    image, in dB. max_bytes: limit on each file, alone or beside a target. effort: 0, 1 or 2, how
    long to search for fewer bytes. timeout: in seconds, over all tries.
    """

    model: Required[str]
    quality: float | None
    target_bytes: int | None
    target_psnr: float | None
    max_bytes: int | None
    effort: int | None
    timeout: float | None


class DecodeOptions(TypedDict, total=False):
    """How images are to come back. transfer: "raw" costs no time, "png" saves bytes. timeout: in
    seconds, over all tries.
    """

    transfer: Transfer
    timeout: float | None


class FileFeatureOptions(TypedDict, total=False):
    """Which features to read. layer: its number, 1 the lowest; None for the top one. std: whether
    to have the standard deviation too, else it comes as [N, 0]. dtype: of the arrays and on the
    way. timeout: in seconds, over all tries.
    """

    layer: int | None
    std: bool
    dtype: FeatureType
    timeout: float | None


class FeatureOptions(FileFeatureOptions, total=False):
    """As `FileFeatureOptions`, and of which model: as for encode; "auto" needs images that take
    the same one, but in a stream. None where all sources are `.hvae` files, each of which names its
    model itself.
    """

    model: Required[str | None]
    quality: float | None


def encode(
    *,
    model: str,
    quality: float | None = None,
    target_bytes: int | None = None,
    target_psnr: float | None = None,
    max_bytes: int | None = None,
    effort: int | None = None,
    timeout: float | None = None,
) -> Operation[Picture, bytes]:
    """Images to files; see `EncodeOptions`.

    Raises:
        HvaeCodecError: several of quality and the targets, a size below 1, or another effort.
    """
    selector = messages.selector(model, quality, target_bytes, target_psnr)
    most = None if max_bytes is None else messages.size("max_bytes", max_bytes)
    steps = None if effort is None else messages.number("effort", effort, _GREATEST_EFFORT)

    def request(images: Sequence[codec_pb2.Image]) -> codec_pb2.EncodeRequest:
        return codec_pb2.EncodeRequest(
            model=selector, images=images, effort=steps, max_bytes=most or 0
        )

    def weight(image: codec_pb2.Image, _: ServerInfo) -> Weight:
        pixels = _pixels(image)
        # Eight bits a pixel, which few files reach: of small images no message gets smaller.
        return Weight(image.ByteSize() + _AROUND, pixels + _AROUND, pixels)

    return Operation(
        "Encode",
        "images",
        messages.image_message,
        weight,
        request,
        codec_pb2.StreamEncodeRequest,
        lambda result: messages.file_of(result.encoded),
        timeout,
        lambda image: search_seconds(selector, image, max_bytes=most, effort=steps),
    )


def decode(
    *, preview: bool, transfer: Transfer = "raw", timeout: float | None = None
) -> Operation[bytes, NDArray[np.uint8]]:
    """Files to images, whole or from their top layer alone."""
    image_format = messages.format_of(transfer)

    def request(encoded: Sequence[bytes]) -> codec_pb2.DecodeRequest:
        return codec_pb2.DecodeRequest(encoded=encoded, format=image_format, preview=preview)

    def weight(encoded: bytes, info: ServerInfo) -> Weight:
        height, width = _size(encoded, info)
        samples = 3 * height * width
        # Noise as a PNG: a byte a row, and what deflate adds to what it cannot shrink.
        answer = samples + height + samples // 256 + 3 * _AROUND
        return Weight(len(encoded) + _AROUND, answer, height * width)

    return Operation(
        "Decode",
        "encoded",
        as_file,
        weight,
        request,
        codec_pb2.StreamDecodeRequest,
        lambda result: messages.picture_of(result.image),
        timeout,
        warns=False,
    )


def features(
    *,
    model: str | None,
    quality: float | None = None,
    layer: int | None = None,
    std: bool = True,
    dtype: FeatureType = "float32",
    timeout: float | None = None,
) -> Operation[Picture, Features]:
    """Images, or the bytes of `.hvae` files, to features [D] each; see `FeatureOptions`.

    Raises:
        HvaeCodecError: a layer below 1, another dtype, or an `std` that is neither True nor False.
    """
    wanted = 0 if layer is None else messages.number("layer", layer, 2**31)
    if layer is not None and wanted < 1:
        raise HvaeCodecError(f"layer must be at least 1, the lowest; got {layer}")
    if not isinstance(dtype, str) or dtype not in ("float32", "float16"):
        raise HvaeCodecError(f"dtype must be 'float32' or 'float16', got {shown(dtype)}")
    both = flag("std", std)
    moments = codec_pb2.FEATURE_MOMENTS_MEAN_AND_STD if both else codec_pb2.FEATURE_MOMENTS_MEAN
    encodings = {
        "float32": codec_pb2.FEATURE_ENCODING_FLOAT32,
        "float16": codec_pb2.FEATURE_ENCODING_FLOAT16,
    }
    selector = None if model is None else messages.selector(model, quality)

    def request(sources: Sequence[codec_pb2.FeatureSource]) -> codec_pb2.ExtractFeaturesRequest:
        return codec_pb2.ExtractFeaturesRequest(
            model=selector,
            sources=sources,
            layer=wanted,
            moments=moments,
            encoding=encodings[dtype],
        )

    def item(source: Picture) -> codec_pb2.FeatureSource:
        if model is None:
            encoded = as_file(cast(bytes, source))
            return codec_pb2.FeatureSource(encoded=encoded)
        return messages.source_message(source)

    def weight(source: codec_pb2.FeatureSource, info: ServerInfo) -> Weight:
        if source.WhichOneof("source") == "encoded":
            height, width = _size(source.encoded, info)
            pixels = height * width
        else:
            pixels = _pixels(source.image)
        dims = max((max(model.z_dims) for model in info.models), default=0)
        return Weight(source.ByteSize() + _AROUND, 8 * dims + _AROUND, pixels)

    return Operation(
        "ExtractFeatures",
        "sources",
        item,
        weight,
        request,
        codec_pb2.StreamExtractFeaturesRequest,
        lambda result: messages.features_of(result, dtype),
        timeout,
    )


def search_seconds(
    selector: codec_pb2.ModelSelector,
    image: codec_pb2.Image,
    *,
    max_bytes: int | None = None,
    effort: int | None = None,
) -> float:
    """Seconds that the server may take to search for the size or the PSNR that was asked for; 0
    where none was.
    """
    if selector.WhichOneof("rung") not in ("target_bytes", "target_psnr") and not max_bytes:
        return 0.0
    return _SEARCH_SECONDS * (_EFFORT_2 if effort == 2 else 1.0) * _pixels(image) / 1e6


def stacked(rows: Sequence[Features]) -> Features:
    """Features [D] of each source as one [N, D].

    Raises:
        HvaeCodecError: they are of models whose layers differ in size.
    """
    if len(sizes := {len(row.mean) for row in rows}) > 1:
        raise HvaeCodecError(
            f"the features have {' and '.join(map(str, sorted(sizes)))} dimensions: the sources "
            "are of several models; name one, or take each source apart"
        )
    return Features(
        mean=np.stack([row.mean for row in rows]), std=np.stack([row.std for row in rows])
    )


def _pixels(image: codec_pb2.Image) -> int:
    """Pixels of an image as it says itself; 0 of what the server will refuse."""
    if image.WhichOneof("content") == "raw":
        return image.raw.height * image.raw.width
    try:
        header = read_image_header(image.file)
    except ImageError:
        return 0
    return header.height * header.width


def _size(encoded: bytes, info: ServerInfo) -> tuple[int, int]:
    """Height and width of an encoded image; 0 of what the server will refuse."""
    try:
        header = read_header(encoded)
    except BitstreamError:
        return 0, 0
    if header.height is not None and header.width is not None:
        return header.height, header.width
    model_id = header.model_id.hex()
    shapes = (model.image_shape for model in info.models if model.model_id == model_id)
    _, height, width = next(shapes, (0, 0, 0))
    return height, width
