"""What bodies hold: JSON as protobuf writes it, or the bytes of one item.

The methods of the contract take and give messages; here is which bytes stand for which field.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import numpy as np
from google.protobuf import json_format

from hvae_codec.codec.bitstream.header import MAGIC
from hvae_codec.v1 import codec_pb2

from ..errors import InvalidRequestError
from .json_body import parse_object


class MediaType(StrEnum):
    """Content types of answers."""

    JSON = "application/json"
    HVAE = "image/x-hvae"
    PNG = "image/png"
    NPY = "application/x-npy"


BYTES: Final = (
    MediaType.PNG,
    "image/jpeg",
    "image/webp",
    MediaType.HVAE,
    "application/octet-stream",
)
"""Content types of bodies that are one item; its own first bytes say what it is."""

ANSWERS: Final[Mapping[str, Sequence[MediaType]]] = {
    "Encode": (MediaType.HVAE, MediaType.JSON),
    "Decode": (MediaType.PNG, MediaType.NPY, MediaType.JSON),
    "ExtractFeatures": (MediaType.JSON, MediaType.NPY),
    "Sample": (MediaType.PNG, MediaType.NPY, MediaType.JSON),
}
"""What answers requests of one item; the first is the default. JSON alone of other methods."""

_FLOAT: Final = "%.9g"
"""Any binary32 number, exactly."""

_COMMAS_PER_ITEM: Final = 16
_MORE_COMMAS: Final = 16_384


def _add_image(request: codec_pb2.EncodeRequest, body: bytes) -> None:
    request.images.add(file=body)


def _add_encoded(request: codec_pb2.DecodeRequest, body: bytes) -> None:
    request.encoded.append(body)


def _add_source(request: codec_pb2.ExtractFeaturesRequest, body: bytes) -> None:
    source = request.sources.add()
    if body.startswith(MAGIC):
        source.encoded = body
    else:
        source.image.file = body


def _set_image(request: codec_pb2.EvaluateRequest, body: bytes) -> None:
    request.image.file = body


TAKE_ITEM: Final[Mapping[str, Callable[[Any, bytes], None]]] = {
    "Encode": _add_image,
    "Decode": _add_encoded,
    "ExtractFeatures": _add_source,
    "Evaluate": _set_image,
}
"""Puts the bytes of one item into a request; other methods take no item."""


def set_form(request: Any, answer: MediaType) -> None:
    """Set how a method is to write what the answer holds.

    Raises InvalidRequestError where the request says something else.
    """
    if isinstance(request, codec_pb2.ExtractFeaturesRequest):
        name = "encoding"
        wanted: dict[MediaType, int] = {MediaType.NPY: codec_pb2.FEATURE_ENCODING_FLOAT32}
    elif isinstance(request, codec_pb2.DecodeRequest | codec_pb2.SampleRequest):
        name = "format"
        wanted = {
            MediaType.NPY: codec_pb2.IMAGE_FORMAT_RAW,
            MediaType.PNG: codec_pb2.IMAGE_FORMAT_PNG,
        }
    else:
        return
    if answer not in wanted:
        return
    if getattr(request, name) not in (0, wanted[answer]):
        raise InvalidRequestError(f"{name}: not for an answer of {answer}, which Accept asks for")
    setattr(request, name, wanted[answer])
    if answer is MediaType.PNG and getattr(request, "count", 1) > 1:
        raise InvalidRequestError(
            f"count: {answer} holds 1 image, got {request.count}; send Accept: {MediaType.NPY} or "
            f"{MediaType.JSON}"
        )


def parse_json(body: bytes, request: Any, most_items: int) -> None:
    """Fill a request.

    Raises InvalidRequestError for anything that is not its JSON, and for many more values than
    `most_items` items have: each takes a hundred times its bytes.
    """
    most = _MORE_COMMAS + _COMMAS_PER_ITEM * most_items
    if (commas := body.count(b",")) > most:
        raise InvalidRequestError(
            f"the JSON has {commas:,} values or more, allowed are {most:,}; send fewer items"
        )
    try:
        found = parse_object(body, request.DESCRIPTOR)
        json_format.ParseDict(found, request)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidRequestError(f"the body is no JSON of {_name(request)}: {error}") from None


def to_json(response: Any) -> bytes:
    """A response as JSON; it is emptied meanwhile."""
    parts = {}
    if hasattr(response, "results"):
        # One by one: the JSON encoder keeps all other threads waiting while it is in a call.
        parts["results"] = f"[{', '.join(map(_result_json, response.results))}]"
        response.ClearField("results")
    return f"{_object(response, parts)}\n".encode()


def _result_json(result: Any) -> str:
    parts = {}
    if isinstance(result, codec_pb2.FeatureResult):
        # Protobuf's own converts each number by itself, many times slower.
        for name in ("mean", "std"):
            if numbers := tuple(getattr(result, name)):
                parts[name] = f"[{', '.join([_FLOAT] * len(numbers)) % numbers}]"
                result.ClearField(name)
    return _object(result, parts)


def _object(message: Any, parts: Mapping[str, str]) -> str:
    """A message as JSON, with more of its fields, which are JSON already."""
    text = json.dumps(json_format.MessageToDict(message))
    more = ", ".join(f'"{name}": {part}' for name, part in parts.items())
    return f"{text[:-1]}{', ' if more and len(text) > 2 else ''}{more}}}"


def to_bytes(response: Any, answer: MediaType) -> bytes:
    """A response of one item without a status, or of drawn images, in a form other than JSON."""
    if answer is MediaType.HVAE:
        return bytes(response.results[0].encoded)
    if answer is MediaType.PNG:
        return bytes(response.results[0].image.file)
    if isinstance(response, codec_pb2.ExtractFeaturesResponse):
        result = response.results[0]
        rows = [each for each in (result.mean_bytes, result.std_bytes) if each]
        return _npy(np.stack([np.frombuffer(each, "<f4") for each in rows]))
    images = [_samples(result.image.raw) for result in response.results]
    return _npy(np.stack(images) if isinstance(response, codec_pb2.SampleResponse) else images[0])


def _samples(raw: codec_pb2.RawImage) -> np.ndarray:
    return np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width, raw.channels)


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _name(message: Any) -> str:
    return str(message.DESCRIPTOR.name)
