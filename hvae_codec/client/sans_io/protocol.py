"""Client logic without I/O: generators of steps, which the runners of both clients take.

Retries, deadlines, what is sent again and whose error it is are here once.
"""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from hvae_codec.client import errors
from hvae_codec.client.errors import ServiceError, StreamEndedError
from hvae_codec.client.retry import RetryState
from hvae_codec.client.sans_io import convert
from hvae_codec.client.sans_io.chunking import Budget, Packer, Part
from hvae_codec.client.sans_io.requests import Operation, ServerInfo, stacked
from hvae_codec.client.sans_io.steps import (
    Call,
    Emit,
    End,
    Finish,
    Later,
    Open,
    Pull,
    Receive,
    Send,
    Streaming,
    StreamStep,
    StreamSteps,
    UnarySteps,
    Wait,
)
from hvae_codec.codec.features import Features
from hvae_codec.v1 import codec_pb2

T = TypeVar("T")

_CALL_ITEMS: Final = 4_096
"""Most items of a call of one message, where the server does not say less."""

_UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE.value[0]


class ServerInfoCache:
    """What a client has found out about its server."""

    def __init__(self, message_bytes: int) -> None:
        self.message_bytes = message_bytes
        self._facts: ServerInfo | None = None

    def facts(self, tries: RetryState) -> UnarySteps[ServerInfo]:
        """Those of the server, asked for once."""
        if self._facts is None:
            answer = yield from one_call("ListModels", codec_pb2.ListModelsRequest(), tries)
            self._facts = ServerInfo.of(answer)
        return self._facts

    def packer(self, items: int, tries: RetryState) -> UnarySteps[tuple[ServerInfo, Packer[Any]]]:
        """What gathers at most so many items into messages that the server takes."""
        facts = yield from self.facts(tries)
        return facts, Packer(Budget.within(facts.limits, self.message_bytes, items))


def one_call(method: str, request: Message, tries: RetryState) -> UnarySteps[Any]:
    """One call, made again where that can help; raises what the caller is to see."""
    try:
        return (yield from _call(method, request, tries))
    except grpc.RpcError as error:
        raise tries.failure(error) from error


def drawn(request: codec_pb2.SampleRequest, tries: RetryState) -> UnarySteps[NDArray[np.uint8]]:
    """Samples, uint8 [N, H, W, C], of one call: others would be those of another seed."""
    response = yield from one_call("Sample", request, tries)
    for index, result in enumerate(response.results):
        if result.HasField("status"):
            raise errors.placed(errors.of_status(result.status), "samples", index)
    return np.stack([convert.picture_of(result.image) for result in response.results])


def all_features(
    operation: Operation[Any, Features],
    values: Iterable[Any],
    known: ServerInfoCache,
    tries: RetryState,
) -> UnarySteps[Features]:
    """`all_results` of features as one [N, D]; raises the error of the first that fails."""
    rows = yield from all_results(operation, values, known, tries, raising=True)
    return stacked([row for row in rows if isinstance(row, Features)])


def all_results(
    operation: Operation[Any, T],
    values: Iterable[Any],
    known: ServerInfoCache,
    tries: RetryState,
    *,
    raising: bool,
) -> UnarySteps[list[T | Exception]]:
    """The outcomes of all values, over as many calls as they need.

    Raises the error of the first that fails where it is `raising`, before anything is sent where
    it cannot be sent.
    """
    slots = [operation.slot(value) for value in values]
    tries.allow(sum(operation.search(slot) for slot in slots if not isinstance(slot, Exception)))
    if raising:
        _raise_first(operation, 0, slots)
    parts: list[Part[Any]] = [Part(0, slots)]
    if len(slots) > 1:
        facts, packer = yield from known.packer(_CALL_ITEMS, tries)
        parts = [p for slot in slots for p in packer.add(slot, operation.weigh(slot, facts))]
        parts += packer.rest()
    outcomes: list[T | Exception] = []
    for part in parts:
        found = yield from _answered(operation, part, tries)
        if raising:
            _raise_first(operation, part.start, found)
        outcomes += _placed(operation, part.start, found)
    return outcomes


def streamed(
    operation: Operation[Any, Any],
    known: ServerInfoCache,
    tries: RetryState,
    streaming: Streaming,
    *,
    raising: bool,
) -> StreamSteps:
    """The outcomes of the values that are pulled, in order, over the call's form for many messages.

    Messages that wait for their answers are in `pending`. A stream that breaks is
    opened again and begins with the first of those. What a stream could break on, or broke on for
    its size or an unknown reason, goes by a call of its own.
    """
    facts, packer = yield from known.packer(streaming.message_items, tries)
    pending: deque[Part[Any]] = deque()
    is_open = exhausted = False
    while pending or not exhausted:
        if not exhausted and len(pending) < streaming.in_flight:
            idle = not pending or (is_open and _by_stream(pending[0]))
            watch = is_open and streaming.delay_seconds is not None
            pull = Pull(_patience(packer, streaming, tries, idle=idle), watch)
            value, parts = yield from _gathered(operation, facts, packer, streaming, tries, pull)
            exhausted = value is End.END
            for part in parts:
                pending.append(part)
                if is_open and _by_stream(part):
                    yield Send(operation.message(part.items))
                elif _by_stream(part):
                    is_open = yield from _opened(operation, filter(_by_stream, pending), tries)
            if parts or not isinstance(value, Later):
                continue
            if not pending:  # a stream that ends while nothing is on its way is opened again
                is_open = is_open and value is not Later.ANSWER
                continue
        part = pending[0]
        results = None
        if _by_stream(part):
            try:
                if not is_open:
                    is_open = yield from _opened(operation, filter(_by_stream, pending), tries)
                response = yield Receive()
                if response is End.END:
                    raise StreamEndedError
            except grpc.RpcError as error:
                is_open = False
                # A call of its own can be halved, and says what became of it.
                by_call = errors.is_too_large(error) or errors.is_status_lost(error)
                if not by_call:
                    yield Wait(_wait_after(error, tries))
                    continue
            else:
                results = _results(response, part)
        outcomes = yield from _answered(operation, part, tries, results)
        yield from _emitted(operation, part.start, outcomes, raising=raising)
        pending.popleft()
    if is_open:
        with suppress(grpc.RpcError):  # every answer is here
            yield Finish()


def _gathered(
    operation: Operation[Any, Any],
    facts: ServerInfo,
    packer: Packer[Any],
    streaming: Streaming,
    tries: RetryState,
    pull: Pull,
) -> Generator[StreamStep, Any, tuple[Any, list[Part[Any]]]]:
    """What the source gave, and the messages that are to go out with that or for lack of it."""
    value = yield pull
    if value is Later.ANSWER:
        return value, []
    if value is Later.NOTHING:
        tries.check_time()
    if value is Later.NOTHING or value is End.END:
        return value, list(packer.rest())
    slot = operation.slot(value)
    parts = list(packer.add(slot, operation.weigh(slot, facts)))
    age, delay = packer.age, streaming.delay_seconds
    if age is not None and delay is not None and age >= delay:  # though the source had more
        parts += packer.rest()
    return value, parts


def _patience(
    packer: Packer[Any], streaming: Streaming, tries: RetryState, *, idle: bool
) -> float | None:
    """Seconds to wait for the source; None for as long as it takes. `idle`: nothing is to be done
    meanwhile but to wait for the stream.
    """
    bounds = [] if tries.remaining is None else [tries.remaining]
    if streaming.delay_seconds is not None:
        if packer.age is not None:
            bounds.append(max(0.0, streaming.delay_seconds - packer.age))
        elif not idle:
            bounds.append(streaming.delay_seconds)
    return min(bounds, default=None)


def _call(method: str, request: Message, tries: RetryState) -> UnarySteps[Any]:
    while True:
        try:
            return (yield Call(method, request, tries.remaining))
        except grpc.RpcError as error:
            wait = tries.wait_after(error)
            if wait is None:
                raise
        yield Wait(wait)


def _wait_after(error: grpc.RpcError, tries: RetryState) -> float:
    """Seconds until a broken stream is opened again; raises what the caller is to see."""
    wait = tries.wait_after(error)
    if wait is None:
        raise tries.failure(error) from error
    return wait


def _opened(
    operation: Operation[Any, Any], parts: Iterable[Part[Any]], tries: RetryState
) -> Generator[StreamStep, Any, bool]:
    yield Open(f"Stream{operation.method}", tries.remaining)
    for part in parts:
        yield Send(operation.message(part.items))
    return True


def _by_stream(part: Part[Any]) -> bool:
    """Whether a part goes as a message of a stream: not if nothing is in it, or too much."""
    return bool(part.places) and not part.oversize


def _results(response: Any, part: Part[Any]) -> Sequence[Any] | None:
    """The results in a message of a stream, or None where the part is to go by a call of its own:
    refused for its size, or lost. Raises what ends the stream for the caller.
    """
    if not response.HasField("status"):
        return _counted(response.response.results, part.places)
    again = (_UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    if response.status.code in again:
        return None
    raise errors.of_status(response.status)


def _answered(
    operation: Operation[Any, T],
    part: Part[Any],
    tries: RetryState,
    results: Sequence[Any] | None = None,
) -> UnarySteps[list[T | Exception]]:
    """An outcome for every slot of a part, from the results available, if any, and from calls.

    A call that is refused for its size is halved, down to the item that is too large by itself;
    items that the server lost are asked for again.
    """
    outcomes: list[Any] = list(part.slots)
    todo = deque([part.places] if part.places or not part.slots else [])
    while todo:
        places = todo.popleft()
        if results is None:
            request = operation.request([part.slots[place] for place in places])
            try:
                response = yield from _call(operation.method, request, tries)
            except grpc.RpcError as error:
                failure = tries.failure(error)
                if not errors.is_too_large(error) or not places:
                    raise failure from error
                if len(places) > 1:
                    half = len(places) // 2
                    todo.extendleft((places[half:], places[:half]))
                else:
                    outcomes[places[0]] = failure
                continue
            results = _counted(response.results, places)
        lost = []
        for place, result in zip(places, results, strict=True):
            if not result.HasField("status"):
                outcomes[place] = operation.read(result)
                continue
            outcomes[place] = errors.of_status(result.status)
            if result.status.code == _UNAVAILABLE:
                lost.append(place)
        results = None
        if not lost:
            tries.answered()
        elif (wait := tries.wait_after_lost_item()) is not None:
            yield Wait(wait)
            todo.appendleft(lost)
    return outcomes


def _counted(results: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    if len(results) != len(places):
        raise ServiceError(
            f"the server answered {len(places)} items with {len(results)} results",
            grpc.StatusCode.INTERNAL,
        )
    return results


def _placed(operation: Operation[Any, Any], start: int, outcomes: Sequence[Any]) -> list[Any]:
    """The outcomes, errors among them led by their place."""
    return [
        errors.placed(outcome, operation.field, start + at)
        if isinstance(outcome, Exception)
        else outcome
        for at, outcome in enumerate(outcomes)
    ]


def _raise_first(operation: Operation[Any, Any], start: int, outcomes: Sequence[Any]) -> None:
    for at, outcome in enumerate(outcomes):
        if isinstance(outcome, Exception):
            raise errors.placed(outcome, operation.field, start + at) from outcome


def _emitted(
    operation: Operation[Any, Any], start: int, outcomes: Sequence[Any], *, raising: bool
) -> StreamSteps:
    """Hand outcomes on; where it is `raising`, up to the first error, which ends the stream."""
    found = _placed(operation, start, outcomes)
    errors = (at for at, outcome in enumerate(found) if isinstance(outcome, Exception))
    first = next(errors, None) if raising else None
    yield Emit(found[:first])
    if first is not None:
        raise found[first]
