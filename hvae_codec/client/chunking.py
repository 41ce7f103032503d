"""Many items into messages that a server takes: in order, none left out, none too large."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from hvae_codec.client.messages import RemoteLimits

Item = TypeVar("Item")


class Weight(NamedTuple):
    """What an item adds to its message and to the answer; estimates, where nobody knows yet."""

    request_bytes: int = 0
    answer_bytes: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Budget:
    """What one message may hold. One item alone may hold more: the server then says so."""

    items: int
    request_bytes: int
    answer_bytes: int
    pixels: int

    @classmethod
    def within(cls, limits: RemoteLimits, message_bytes: int, items: int) -> "Budget":
        """What the server, this client's largest message and a wanted number of items allow."""
        whole = min(limits.message_bytes, message_bytes)
        kept = whole - whole // 64 - min(1_024, whole // 4)  # what goes around the items
        return cls(min(limits.items, items), kept, kept, limits.pixels)

    def holds(self, count: int, total: Weight) -> bool:
        """Whether a message of so many items has room for them."""
        return (
            count <= self.items
            and total.request_bytes <= self.request_bytes
            and total.answer_bytes <= self.answer_bytes
            and total.pixels <= self.pixels
        )


@dataclass(frozen=True)
class Part(Generic[Item]):
    """The items of one message, with the errors of those between them that cannot be sent."""

    start: int
    """Place of the first slot among all."""
    slots: Sequence[Item | Exception]
    oversize: bool = False
    """Whether it holds more than the budget, so that a stream might break on it."""

    @property
    def places(self) -> list[int]:
        """Where in `slots` there are items."""
        return [at for at, slot in enumerate(self.slots) if not isinstance(slot, Exception)]

    @property
    def items(self) -> list[Item]:
        """What is to be sent."""
        return [slot for slot in self.slots if not isinstance(slot, Exception)]


class Packer(Generic[Item]):
    """Gathers items until a message is full."""

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = budget
        self._clock = clock
        self._since = 0.0
        self._start = 0
        self._slots: list[Item | Exception] = []
        self._total = Weight()

    @property
    def age(self) -> float | None:
        """Seconds that the first of what was added and not yet yielded has waited, if any was."""
        return self._clock() - self._since if self._slots else None

    def add(self, slot: Item | Exception, weight: Weight) -> Iterator[Part[Item]]:
        """Take one more; yields the messages that this made full, at most two."""
        total = Weight(*(a + b for a, b in zip(self._total, weight, strict=True)))
        if self._slots and not self._budget.holds(len(self._slots) + 1, total):
            yield from self.rest()
            total = weight
        if not self._slots:
            self._since = self._clock()
        self._slots.append(slot)
        self._total = total
        if len(self._slots) >= self._budget.items or not self._budget.holds(1, total):
            yield from self.rest()

    def rest(self) -> Iterator[Part[Item]]:
        """The message of what was added and not yet yielded, if anything was."""
        if not self._slots:
            return
        oversize = not self._budget.holds(1, self._total)
        yield Part(self._start, self._slots, oversize)
        self._start += len(self._slots)
        self._slots, self._total = [], Weight()
