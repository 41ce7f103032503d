"""Running many items through a codec: batch by batch, and naming the item that fails."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from hvae_codec.errors import HvaeCodecError

from .status import ItemError

BATCH_ITEMS: Final = 256
"""Items that go through a codec together; a call that is given up stops after such a batch."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class CallEndedError(Exception):
    """The caller went away, or its deadline passed, before its answer was ready."""


class Call:
    """Whether somebody still waits for the answer of a call."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def end(self) -> None:
        """Say that nobody waits any more."""
        self._ended.set()

    def check(self) -> None:
        """Raise CallEndedError if nobody waits any more."""
        if self._ended.is_set():
            raise CallEndedError


@dataclass(frozen=True)
class Batched(Generic[Item, Result]):
    """A function of many items, with the same function of one item to find the culprit."""

    many: Callable[[list[Item]], Iterable[Result]]
    one: Callable[[Item], object]

    def run(self, call: Call, field: str, items: Sequence[tuple[int, Item]]) -> dict[int, Result]:
        """Results by index; raises ItemError for the first item that fails."""
        results: dict[int, Result] = {}
        for start in range(0, len(items), BATCH_ITEMS):
            call.check()
            batch = items[start : start + BATCH_ITEMS]
            try:
                batch_results = self.many([item for _, item in batch])
            except HvaeCodecError as error:
                raise self._culprit(field, batch, error) from error
            indices = (index for index, _ in batch)
            results.update(zip(indices, batch_results, strict=True))
        return results

    def _culprit(
        self, field: str, batch: Sequence[tuple[int, Item]], batch_error: HvaeCodecError
    ) -> Exception:
        """The error of the first item that fails by itself, else the batch's own."""
        for index, item in batch:
            try:
                self.one(item)
            except HvaeCodecError as error:
                return ItemError(field, index, error)
        return batch_error
