"""Fair queueing: the caller that got the least work is served first."""

from collections import Counter
from typing import Final

_REMEMBERED: Final = 4_096
"""Most callers whose work is remembered."""


class Shares:
    """The work that each caller got, as virtual time.

    An idle caller gains no claim: it starts again at the level of the others.
    """

    def __init__(self) -> None:
        self._had: dict[str | None, float] = {}
        self._level = 0.0
        self._waiting: Counter[str | None] = Counter()

    @property
    def waiting(self) -> int:
        """Number of callers with waiting entries."""
        return len(self._waiting)

    def wait(self, caller: str | None) -> None:
        """Count a waiting entry of a caller."""
        self._waiting[caller] += 1

    def leave(self, caller: str | None) -> None:
        """Count a waiting entry less."""
        self._waiting[caller] -= 1
        if not self._waiting[caller]:
            del self._waiting[caller]

    def of(self, caller: str | None) -> float:
        """Work of a caller; the least is served first."""
        return max(self._had.get(caller, 0.0), self._level)

    def add(self, caller: str | None, weight: float, waiting: int) -> None:
        """Give a caller work of a weight, one of so many that wait."""
        self._had[caller] = self.of(caller) + weight
        # What each was due; without it, new callers would always be served first.
        self._level += weight / waiting
        if len(self._had) > _REMEMBERED:
            self._had = {name: had for name, had in self._had.items() if had > self._level}
