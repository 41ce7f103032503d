"""Equal shares of work: who had less of it comes first, and asking more often gives no more."""

from collections import Counter
from typing import Final

_REMEMBERED: Final = 4_096
"""Callers whose work is known."""


class Shares:
    """What each caller had, of those that wait at the same time.

    Who waits for nothing gathers no claim: a caller that comes back begins where the others are.
    """

    def __init__(self) -> None:
        self._had: dict[str | None, float] = {}
        self._level = 0.0
        self._waiting: Counter[str | None] = Counter()

    @property
    def waiting(self) -> int:
        """Callers that wait."""
        return len(self._waiting)

    def wait(self, caller: str | None) -> None:
        """A caller waits, once more than before."""
        self._waiting[caller] += 1

    def leave(self, caller: str | None) -> None:
        """A caller waits once less."""
        self._waiting[caller] -= 1
        if not self._waiting[caller]:
            del self._waiting[caller]

    def of(self, caller: str | None) -> float:
        """What a caller had; the least comes first."""
        return max(self._had.get(caller, 0.0), self._level)

    def add(self, caller: str | None, weight: float, waiting: int) -> None:
        """A caller, of so many that wait, gets work of a weight."""
        self._had[caller] = self.of(caller) + weight
        # What each of them was due: so callers that come anew keep no one waiting.
        self._level += weight / waiting
        if len(self._had) > _REMEMBERED:
            self._had = {name: had for name, had in self._had.items() if had > self._level}
