"""What a server's results mean for the items of a request."""

from collections.abc import Sequence
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray

from hvae_codec.client import errors, messages
from hvae_codec.client.chunking import Part
from hvae_codec.client.errors import ServiceError
from hvae_codec.client.requests import Operation
from hvae_codec.v1 import codec_pb2

_UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE.value[0]
_RESOURCE_EXHAUSTED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


def samples_of(response: codec_pb2.SampleResponse, count: int) -> NDArray[np.uint8]:
    """`count` samples, uint8 [N, H, W, C], of an answer; raises the error of the first that failed,
    or ServiceError where they are not so many, or of several sizes.
    """
    errors.warn_of(response.warnings)
    results = results_of(response, count)
    for index, result in enumerate(results):
        if result.HasField("status"):
            raise errors.placed(errors.of_status(result.status), "samples", index)
    samples = [messages.picture_of(result.image) for result in results]
    if len({sample.shape for sample in samples}) > 1:
        raise errors.unreadable("its samples are of several sizes")
    return np.stack(samples)


def results_of(response: Any, count: int) -> Sequence[Any]:
    """Those of a response; raises ServiceError where they are not `count`."""
    results: Sequence[Any] = response.results
    if len(results) != count:
        raise ServiceError(
            f"the server answered {count} items with {len(results)} results",
            grpc.StatusCode.INTERNAL,
        )
    return results


def results_of_message(message: Any, part: Part[Any]) -> Sequence[Any] | None:
    """The results in a message of a stream, or None where the part is to go by a call of its own:
    refused for its size, or lost. Raises what ends the stream for the caller.
    """
    if not message.HasField("status"):
        return results_of(message.response, len(part.places))
    if message.status.code in (_UNAVAILABLE, _RESOURCE_EXHAUSTED):
        return None
    raise errors.of_status(message.status)


def read_into(
    outcomes: list[Any],
    operation: Operation[Any, Any],
    start: int,
    places: list[int],
    results: Sequence[Any],
) -> list[int]:
    """Put the outcome of each result in its place; returns the places that the server lost.

    `start`: the place of the first item among all of the caller's, which warnings name.
    """
    lost = []
    for place, result in zip(places, results, strict=True):
        if result.HasField("status") and result.status.code == _UNAVAILABLE:
            lost.append(place)
        elif operation.warns:
            errors.warn_of(result.warnings, f"{operation.field}[{start + place}]")
        if result.HasField("status"):
            outcomes[place] = errors.of_status(result.status)
        else:
            outcomes[place] = operation.read(result)
    return lost


def placed(operation: Operation[Any, Any], start: int, outcomes: Sequence[Any]) -> list[Any]:
    """The outcomes, errors among them led by their place."""
    return [
        errors.placed(outcome, operation.field, start + at)
        if isinstance(outcome, Exception)
        else outcome
        for at, outcome in enumerate(outcomes)
    ]


def raise_first(operation: Operation[Any, Any], start: int, outcomes: Sequence[Any]) -> None:
    """Raise the first error among outcomes, led by its place."""
    for at, outcome in enumerate(outcomes):
        if isinstance(outcome, Exception):
            raise errors.placed(outcome, operation.field, start + at) from outcome
