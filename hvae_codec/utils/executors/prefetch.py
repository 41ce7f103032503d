"""An iterator that makes its next items while the last one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], count: int = 1) -> Iterator[Item]:
    """The same items, up to `count` of them made in another thread before they are asked for."""
    with ThreadPoolExecutor(1, "hvae-ahead") as pool:
        waiting = deque(pool.submit(next, items, None) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
