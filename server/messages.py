"""What the messages of the contract hold, whichever method they belong to."""

from collections.abc import Iterator
from typing import Any


def request_of(message: Any) -> Any:
    """The request inside a message of a stream, or the message itself."""
    return message.request if "request" in message.DESCRIPTOR.fields_by_name else message


def items_of(message: Any) -> int:
    """Pictures, files or sources that a request, unary or of a stream, asks about; of Sample the
    pictures that it wants. 0 where it is about none."""
    request = request_of(message)
    match request.DESCRIPTOR.name:
        case "EncodeRequest":
            return len(request.images)
        case "DecodeRequest":
            return len(request.encoded)
        case "ExtractFeaturesRequest":
            return len(request.sources)
        case "SampleRequest":
            return int(request.count)
        case "EvaluateRequest":
            return 1
        case _:
            return 0


def message_code(message: Any) -> int:
    """Number of the status code of a response: of a message of a stream its own, else 0."""
    return int(message.status.code) if "status" in message.DESCRIPTOR.fields_by_name else 0


def item_codes(message: Any) -> Iterator[int]:
    """Numbers of the status codes of the items of a response, 0 for those that have a result."""
    fields = message.DESCRIPTOR.fields_by_name
    response = message.response if "response" in fields else message
    if response.DESCRIPTOR.name == "EvaluateResponse":
        yield 0
    elif "results" in response.DESCRIPTOR.fields_by_name:
        for result in response.results:
            yield result.status.code if result.HasField("status") else 0
