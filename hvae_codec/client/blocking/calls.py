# Generated from aio/calls.py by generate_blocking.py: change that one.
"""Calls of one message: made again where that can help, split where a server takes no more."""

from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
from google.protobuf.message import Message

from hvae_codec.client import errors, outcomes
from hvae_codec.client.base import BaseClient, OnError, raises
from hvae_codec.client.blocking.primitives import open_channel, sleep
from hvae_codec.client.chunking import Budget, Packer, Part
from hvae_codec.client.connection.channel import Connection
from hvae_codec.client.requests import Operation, ServerInfo, stacked
from hvae_codec.client.retry import RetryState
from hvae_codec.codec.features import Features
from hvae_codec.v1 import codec_pb2

T = TypeVar("T")

_CALL_ITEMS: Final = 4_096
"""Most items of a call of one message, where the server does not say less."""


class UnaryCalls(BaseClient):
    """A client's calls of one message."""

    def _open(self, connection: Connection) -> Any:
        return open_channel(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight end with ServiceError, later ones with
        HvaeCodecError. Closing again does nothing.
        """
        self._pool.end()
        for channel in self._pool.channels:
            channel.close()

    def _one(self, method: str, request: Message, tries: RetryState) -> Any:
        """One call, made again where that can help; raises what the caller is to see."""
        try:
            return self._call(method, request, tries)
        except grpc.RpcError as error:
            raise tries.failure(error) from error

    def _call(self, method: str, request: Message, tries: RetryState) -> Any:
        """As `_one`, but raises grpc.RpcError."""
        while True:
            try:
                with self._pool.stub() as stub:
                    call = getattr(stub, method)
                    return call(request, timeout=tries.remaining, metadata=self._metadata)
            except grpc.RpcError as error:
                wait = tries.wait_after(error)
                if wait is None:
                    raise
            sleep(wait)

    def _packer(self, items: int, tries: RetryState) -> tuple[ServerInfo, Packer[Any]]:
        """What the server says of itself, asked for once, and what gathers at most so many items
        into messages that it takes.
        """
        info = self._server_info
        if info is None:
            answer = self._one("ListModels", codec_pb2.ListModelsRequest(), tries)
            info = self._server_info = ServerInfo.of(answer)
        return info, Packer(Budget.within(info.limits, self._message_bytes, items))

    def _features(
        self, operation: Operation[Any, Features], values: Iterable[Any], on_error: OnError
    ) -> Any:
        """Features: [N, D] together, or [D] each where errors stand among them."""
        rows: list[Any] = self._all(operation, values, on_error)
        return stacked(rows) if raises(on_error) else rows

    def _all(
        self, operation: Operation[Any, T], values: Iterable[Any], on_error: OnError
    ) -> list[T | Exception]:
        """The outcomes of all values, over as many calls as they need.

        Where errors are to be raised, raises that of the first item that fails, before anything is
        sent where it cannot be sent.
        """
        tries = self._tries(operation.timeout)
        raising = raises(on_error)
        slots = [operation.slot(value) for value in values]
        tries.allow(sum(operation.search(s) for s in slots if not isinstance(s, Exception)))
        if raising:
            outcomes.raise_first(operation, 0, slots)
        parts: list[Part[Any]] = [Part(0, slots)]
        if len(slots) > 1:
            info, packer = self._packer(_CALL_ITEMS, tries)
            parts = [p for slot in slots for p in packer.add(slot, operation.weigh(slot, info))]
            parts += packer.rest()
        found: list[T | Exception] = []
        for part in parts:
            of_part = self._answered(operation, part, tries)
            if raising:
                outcomes.raise_first(operation, part.start, of_part)
            found += outcomes.placed(operation, part.start, of_part)
        return found

    def _answered(
        self,
        operation: Operation[Any, T],
        part: Part[Any],
        tries: RetryState,
        results: Sequence[Any] | None = None,
    ) -> list[T | Exception]:
        """An outcome for every slot of a part, from the results available, if any, and from calls.

        A call that is refused for its size is halved, down to the item that is too large by itself;
        items that the server lost are asked for again.
        """
        found: list[Any] = list(part.slots)
        todo = deque([part.places] if part.places or not part.slots else [])
        while todo:
            places = todo.popleft()
            if results is None:
                request = operation.request([part.slots[place] for place in places])
                try:
                    response = self._call(operation.method, request, tries)
                except grpc.RpcError as error:
                    failure = tries.failure(error)
                    if not errors.is_too_large(error) or not places:
                        raise failure from error
                    if len(places) > 1:
                        half = len(places) // 2
                        todo.extendleft((places[half:], places[:half]))
                    else:
                        found[places[0]] = failure
                    continue
                results = outcomes.results_of(response, len(places))
            lost = outcomes.read_into(found, operation, part.start, places, results)
            results = None
            if not lost:
                tries.answered()
            elif (wait := tries.wait_after_lost_item()) is not None:
                sleep(wait)
                todo.appendleft(lost)
        return found
