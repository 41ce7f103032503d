"""An iterator that makes its next item while the last one is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in another thread while the one before it is used."""
    with ThreadPoolExecutor(1, "hvae-archive") as pool:
        item = next(items, None)
        while item is not None:
            following = pool.submit(next, items, None)
            yield item
            item = following.result()
