"""The last calls, items and messages that failed, for the status page."""

import time
from collections import deque
from typing import Any, Final

_MOST: Final = 20
_MESSAGE_LETTERS: Final = 200


class RecentFailures:
    """Keeps few, and of each what its caller was told; equal ones in a row count as one."""

    def __init__(self) -> None:
        self._failures: deque[dict[str, Any]] = deque(maxlen=_MOST)

    def note(self, method: str, code: str, message: str) -> None:
        """A call of a method, or a part of it, ended with a status."""
        last = self._failures[-1] if self._failures else {}
        count = 1
        if (last.get("method"), last.get("code")) == (method, code):
            count += self._failures.pop()["count"]
        text = message[:_MESSAGE_LETTERS]
        self._failures.append(
            {"time": time.time(), "method": method, "code": code, "message": text, "count": count}
        )

    def newest_first(self) -> list[dict[str, Any]]:
        """Time in seconds since 1970, method, code, message, and how many in a row."""
        return list(reversed(self._failures))
