"""What the messages of the contract hold, whichever method they belong to.

Looked up by class: this runs for every call, and descriptors are slow to ask.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from hvae_codec.v1 import codec_pb2

_ITEMS: Final[dict[type[Any], Callable[[Any], int]]] = {
    codec_pb2.EncodeRequest: lambda request: len(request.images),
    codec_pb2.DecodeRequest: lambda request: len(request.encoded),
    codec_pb2.ExtractFeaturesRequest: lambda request: len(request.sources),
    codec_pb2.SampleRequest: lambda request: int(request.count),
    codec_pb2.EvaluateRequest: lambda request: 1,
}

_STREAMED: Final[frozenset[type[Any]]] = frozenset(
    {
        *(codec_pb2.StreamEncodeRequest, codec_pb2.StreamEncodeResponse),
        *(codec_pb2.StreamDecodeRequest, codec_pb2.StreamDecodeResponse),
        *(codec_pb2.StreamExtractFeaturesRequest, codec_pb2.StreamExtractFeaturesResponse),
        *(codec_pb2.StreamSampleRequest, codec_pb2.StreamSampleResponse),
    }
)

_WITH_RESULTS: Final[frozenset[type[Any]]] = frozenset(
    {
        codec_pb2.EncodeResponse,
        codec_pb2.DecodeResponse,
        codec_pb2.ExtractFeaturesResponse,
        codec_pb2.SampleResponse,
    }
)


_wire_bytes: ContextVar[int] = ContextVar("wire_bytes")


def wire_bytes() -> int:
    """Bytes of the request that this task was given last, as `set_wire_bytes` says.

    A message that is asked for its size is serialised for that, images and all. Raises
    LookupError where there was no request.
    """
    return _wire_bytes.get()


def set_wire_bytes(size: int) -> None:
    """Say how many bytes the request has that this task is about to answer."""
    _wire_bytes.set(size)


def items_of(message: Any) -> int:
    """Images, files or sources that a request, unary or of a stream, asks about; of Sample the
    images that it wants. 0 where it is about none."""
    request = message.request if type(message) in _STREAMED else message
    count = _ITEMS.get(type(request))
    return 0 if count is None else count(request)


def message_code(message: Any) -> int:
    """Number of the status code of a response: of a message of a stream its own, else 0."""
    return int(message.status.code) if type(message) in _STREAMED else 0


def item_codes(message: Any) -> tuple[int, list[int]]:
    """How many items of a response have a result, and the status codes of those that have none."""
    response = message.response if type(message) in _STREAMED else message
    if type(response) in _WITH_RESULTS:
        failed = [each.status.code for each in response.results if each.HasField("status")]
        return len(response.results) - len(failed), failed
    return int(type(response) is codec_pb2.EvaluateResponse), []
