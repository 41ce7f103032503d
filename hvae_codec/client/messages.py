"""Between what a client's caller holds (arrays, files, bytes) and the messages of `codec.proto`."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from hvae_codec.client import errors
from hvae_codec.codec.bitstream.encoded import is_one
from hvae_codec.codec.bitstream.header import MAGIC
from hvae_codec.codec.features import Features
from hvae_codec.codec.images.load import Picture as LocalPicture
from hvae_codec.codec.images.load import as_uint8, decode_image_bytes
from hvae_codec.codec.quality_scale import as_quality
from hvae_codec.errors import HvaeCodecError, ImageError, NotAnHvaeFileError, UnknownModelError
from hvae_codec.utils.arguments import byte_count, decibels, is_masked, real, shown, whole
from hvae_codec.v1 import codec_pb2

Picture: TypeAlias = "LocalPicture | bytes"
"""One image: whatever the codec accepts, or the bytes of a PNG, JPEG or WebP file."""

Pictures: TypeAlias = "Iterable[Picture] | NDArray[np.uint8]"
"""Many images: any iterable, or a uint8 array [N, H, W, C]."""

Transfer = Literal["raw", "png"]
"""How images travel back: "raw" costs no time, "png" saves bytes."""

FeatureType = Literal["float32", "float16"]
"""How features travel back, and the dtype of their arrays."""

Given: TypeAlias = "NDArray[np.floating] | Picture"
"""Latents of the top layer [D]; or an image, or the bytes of a `.hvae` file, that has them."""

FORMATS: Final[dict[Transfer, codec_pb2.ImageFormat]] = {
    "raw": codec_pb2.IMAGE_FORMAT_RAW,
    "png": codec_pb2.IMAGE_FORMAT_PNG,
}

_MAPPED_SUFFIXES: Final = frozenset({".ppm", ".pgm", ".npy"})
"""Files that the codec reads here and no server does; they travel as samples."""


class RemoteModel(NamedTuple):
    """A model of the server, with what was measured of it on its test images."""

    name: str
    quality: int
    model_id: str
    spec_name: str
    image_shape: tuple[int, int, int]
    """Channels, height, width of the images that the network itself takes."""
    z_dims: tuple[int, ...]
    """Dimensions of each latent layer, top first."""
    rates_nats: tuple[float, ...]
    """Mean rate of each latent layer in nats per image, top first."""
    payload_bytes: float
    psnr_db: float
    continuous: bool
    """Whether the model has all qualities from 1 to 100, `quality` being its default."""
    arithmetic: str = "float"
    """What defines the model's pixels: "float" up to a grey level, "int8" or "int16" to the bit."""


class RemoteLimits(NamedTuple):
    """What one call, or one message of a stream, may carry."""

    message_bytes: int
    items: int
    pixels: int


@dataclass(frozen=True)
class RemoteEvaluation:
    """What one image costs and how good it is."""

    encoded: bytes
    """Its `.hvae` file."""
    payload_bytes: int
    """Bytes of that file without the header."""
    rates_nats: tuple[float, ...]
    """What each latent layer costs under the tables, top layer first."""
    psnr_db: float
    """PSNR of the decoded image, infinite where it equals the original."""
    decoded: NDArray[np.uint8]
    """The decoded image, uint8 [H, W, C]."""
    model: RemoteModel
    """The model that took it."""


def image_message(picture: Picture) -> codec_pb2.Image:
    """Message of one image; files that the server reads travel as they are, all else raw.

    Raises:
        ImageError: it is no image, or cannot be read.
    """
    if isinstance(picture, bytes):
        return codec_pb2.Image(file=picture)
    if isinstance(picture, str | os.PathLike):
        path = Path(picture)
        if path.suffix.lower() not in _MAPPED_SUFFIXES:
            return codec_pb2.Image(file=_file_bytes(path))
    array = as_uint8(picture)
    height, width, channels = array.shape
    raw = codec_pb2.RawImage(height=height, width=width, channels=channels, data=array.tobytes())
    return codec_pb2.Image(raw=raw)


def source_message(source: Picture) -> codec_pb2.FeatureSource:
    """Message of an image or of the bytes of a `.hvae` file, which their magic number tells apart.

    Raises:
        ImageError: as `image_message`.
    """
    if isinstance(source, bytes) and source.startswith(MAGIC):
        return codec_pb2.FeatureSource(encoded=source)
    return codec_pb2.FeatureSource(image=image_message(source))


def check_pictures(pictures: object) -> None:
    """Refuse a single image in the place of many. Raises ImageError."""
    if isinstance(pictures, np.ndarray) and pictures.ndim != 4 and pictures.dtype != object:
        raise ImageError(
            f"images must be an array [N, H, W, C] or a list, got shape {list(pictures.shape)}"
        )
    one = isinstance(pictures, bytes | bytearray | memoryview | str | os.PathLike)
    if one or not isinstance(pictures, Iterable | AsyncIterable):
        raise ImageError(f"images must be a list, got one {type(pictures).__name__}")


def check_files(encoded: object) -> None:
    """Refuse a single encoded image in the place of many. Raises NotAnHvaeFileError."""
    if is_one(encoded) or not isinstance(encoded, Iterable | AsyncIterable):
        raise NotAnHvaeFileError(
            f"encoded images must be a list, got one {type(encoded).__name__}: put it in a list"
        )


def selector(
    model: str,
    quality: float | None,
    target_bytes: int | None = None,
    target_psnr: float | None = None,
) -> codec_pb2.ModelSelector:
    """Names a model and at most one of a quality, a size and a PSNR.

    Raises:
        HvaeCodecError: several are given, a size below 1, or a target that is no number.
        UnknownQualityError: a quality that is no number. UnknownModelError: a name that is no text.
    """
    if model is not None and not isinstance(model, str):
        raise UnknownModelError(f"a model is given by its name, not by {model!r:.40}")

    given = {"quality": quality, "target_bytes": target_bytes, "target_psnr": target_psnr}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        raise HvaeCodecError(f"{' and '.join(given)} exclude each other")
    target_bytes = None if target_bytes is None else size("target_bytes", target_bytes)
    target_psnr = None if target_psnr is None else decibels("target_psnr", target_psnr)
    quality = None if quality is None else as_quality(quality)
    if quality is not None and not (quality.is_integer() and 0 <= quality < 2**32):
        return codec_pb2.ModelSelector(name=model, fine_quality=quality)
    whole = None if quality is None else int(quality)
    return codec_pb2.ModelSelector(
        name=model, quality=whole, target_bytes=target_bytes, target_psnr=target_psnr
    )


def format_of(transfer: Transfer) -> codec_pb2.ImageFormat:
    """How images are to travel back. Raises HvaeCodecError for another way than the two."""
    if not isinstance(transfer, str) or transfer not in FORMATS:
        raise HvaeCodecError(f"transfer must be 'raw' or 'png', got {shown(transfer)}")
    return FORMATS[transfer]


def size(name: str, given: object) -> int:
    """A size in bytes that a message can hold. Raises HvaeCodecError, naming the argument."""
    count = byte_count(name, given)
    if count < 1:
        raise HvaeCodecError(f"{name} must be at least 1, got {shown(given)}")
    if count >= 2**63:
        raise HvaeCodecError(f"{name} must be less than 2^63, got {shown(given)}")
    return count


def number(name: str, given: object, most: int) -> int:
    """A whole number from 0 to `most`. Raises HvaeCodecError, naming the argument."""
    found = whole(name, given)
    if not 0 <= found <= most:
        raise HvaeCodecError(f"{name} must lie in 0..{most}, got {shown(given)}")
    return found


def sample_request(
    count: int,
    model: str,
    quality: float | None,
    seed: int,
    temperature: float,
    transfer: Transfer,
    given: Given | None,
    between: tuple[Picture, Picture] | None,
) -> codec_pb2.SampleRequest:
    """Asks for samples, their top layer drawn, given, or on a line.

    Raises:
        HvaeCodecError: both `given` and `between`, others than two to lie between, or an argument
            that is no number. ImageError: an image of them cannot be read.
    """
    if given is not None and between is not None:
        raise HvaeCodecError("given and between exclude each other")
    top = None
    if between is not None:
        if not isinstance(between, tuple | list) or len(between) != 2:
            raise HvaeCodecError("between takes two sources, the first and the last, as a tuple")
        first, last = map(source_message, between)
        line = codec_pb2.Interpolation(first=first, last=last)
        top = codec_pb2.GivenTop(between=line)
    elif isinstance(given, np.ndarray) and given.dtype.kind == "f":
        if is_masked(given):
            raise HvaeCodecError("given must have a value everywhere; some are masked")
        values = np.asarray(given, np.float32).ravel().tolist()
        top = codec_pb2.GivenTop(values=codec_pb2.Latents(values=values))
    elif given is not None:
        top = codec_pb2.GivenTop(source=source_message(cast(Picture, given)))
    return codec_pb2.SampleRequest(
        model=selector(model, quality),
        count=number("count", count, 2**32 - 1),
        seed=number("seed", seed, 2**63 - 1),
        temperature=real("temperature", temperature),
        format=format_of(transfer),
        given=top,
    )


def evaluate_request(
    picture: Picture,
    model: str,
    quality: float | None,
    target_bytes: int | None,
    target_psnr: float | None,
    transfer: Transfer,
) -> codec_pb2.EvaluateRequest:
    """Asks what one image costs and how good it is."""
    return codec_pb2.EvaluateRequest(
        model=selector(model, quality, target_bytes, target_psnr),
        image=image_message(picture),
        format=format_of(transfer),
    )


def file_of(encoded: bytes) -> bytes:
    """The `.hvae` file of an answer. Raises ServiceError where there is none."""
    if not encoded:
        raise errors.unreadable("it has no file of an image")
    return bytes(encoded)


def picture_of(image: codec_pb2.Image) -> NDArray[np.uint8]:
    """Samples, uint8 [H, W, C], of an image in an answer. Raises ServiceError where it has none."""
    if image.WhichOneof("content") == "file":
        try:
            return decode_image_bytes(image.file)
        except ImageError as error:
            raise errors.unreadable(str(error)) from error
    raw = image.raw
    size = raw.height * raw.width * raw.channels
    if size == 0 or len(raw.data) != size:
        raise errors.unreadable(
            f"an image of height {raw.height}, width {raw.width} and {raw.channels} channels has "
            f"{len(raw.data):,} bytes"
        )
    shape = (raw.height, raw.width, raw.channels)
    return np.frombuffer(raw.data, np.uint8).reshape(shape).copy()


def features_of(result: codec_pb2.FeatureResult, dtype: FeatureType) -> Features:
    """Features [D] of one source; the deviation is [0] where only the mean was asked for.

    Raises ServiceError where the answer has none.
    """
    wire = np.dtype(dtype).newbyteorder("<")

    def moment(data: bytes, values: Iterable[float]) -> NDArray[np.float32]:
        if len(data) % wire.itemsize:
            raise errors.unreadable(f"{dtype} features have {len(data):,} bytes")
        found = np.frombuffer(data, wire) if data else np.array(list(values))
        return found.astype(dtype)

    mean, std = moment(result.mean_bytes, result.mean), moment(result.std_bytes, result.std)
    if not mean.size or std.size not in (0, mean.size):
        raise errors.unreadable(f"features have {mean.size} means and {std.size} deviations")
    return Features(mean=mean, std=std)


def model_of(model: codec_pb2.ModelDescription) -> RemoteModel:
    """What is known of one model."""
    return RemoteModel(
        name=model.name,
        quality=model.quality,
        model_id=model.model_id,
        spec_name=model.spec_name,
        image_shape=(model.channels, model.height, model.width),
        z_dims=tuple(model.latent_dims),
        rates_nats=tuple(model.rates_nats),
        payload_bytes=model.payload_bytes,
        psnr_db=model.psnr_db,
        continuous=model.continuous_quality,
        arithmetic=model.arithmetic or "float",  # of servers that do not say
    )


def limits_of(
    answer: codec_pb2.ListModelsResponse | codec_pb2.GetModelResponse,
) -> RemoteLimits:
    """What one call may carry; of servers that do not say, what they did before they said."""
    if not answer.HasField("limits"):
        return RemoteLimits(message_bytes=4 * 2**20, items=4_096, pixels=32 * 2**20)
    limits = answer.limits
    return RemoteLimits(limits.message_bytes, limits.items, limits.pixels)


def evaluation_of(answer: codec_pb2.EvaluateResponse) -> RemoteEvaluation:
    """What one image costs and how good it is."""
    errors.warn_of(answer.warnings, "image")
    return RemoteEvaluation(
        encoded=file_of(answer.encoded),
        payload_bytes=answer.payload_bytes,
        rates_nats=tuple(answer.rates_nats),
        psnr_db=answer.psnr_db if answer.HasField("psnr_db") else math.inf,
        decoded=picture_of(answer.decoded),
        model=model_of(answer.model),
    )


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"cannot read {path}: {reason}") from error
