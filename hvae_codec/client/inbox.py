"""What came of a caller's values and of a stream that is open, each in its order."""

from collections import deque
from enum import Enum
from typing import Any, Final, NamedTuple

SOURCE: Final = object()
"""The origin of the caller's values; that of an answer is its stream."""


class End(Enum):
    """There is no more."""

    END = 0


class Later(Enum):
    """The caller's values have nothing yet."""

    NOTHING = 0
    """Not within the time."""
    ANSWER = 1
    """But the stream has an answer, or has ended."""


class Arrival(NamedTuple):
    """What the source or a stream gave: a value, which may be END, or an error."""

    origin: object
    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Inbox:
    """Sorts arrivals of the source, and of the stream that is open."""

    def __init__(self) -> None:
        self._values: deque[Arrival] = deque()
        self._answers: deque[Arrival] = deque()
        self._stream: object = None
        self._asked = False

    def ask(self) -> bool:
        """Whether the source is to be asked for a value: none is on its way."""
        asked, self._asked = self._asked, True
        return not asked

    def follow(self, stream: object) -> None:
        """Keep answers of this stream from now on, and of no other."""
        self._stream = stream
        self._answers.clear()

    def add(self, arrival: Arrival) -> None:
        """Take in what came."""
        if arrival.origin is SOURCE:
            self._values.append(arrival)
        elif arrival.origin is self._stream:
            self._answers.append(arrival)

    def value(self, *, watch: bool) -> Arrival | None:
        """The value that was asked for; with `watch` ANSWER where there is an answer."""
        if watch and self._answers:
            return Arrival(SOURCE, Later.ANSWER)
        if not self._values:
            return None
        self._asked = False
        return self._values.popleft()

    def answer(self) -> Arrival | None:
        """The next answer, if one came."""
        return self._answers.popleft() if self._answers else None
