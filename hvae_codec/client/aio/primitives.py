"""What asyncio gives `AsyncClient`; `blocking/primitives.py` has the same names for threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias, TypeVar

from hvae_codec.client.connection.channel import Connection
from hvae_codec.client.connection.loop_channel import LoopChannel
from hvae_codec.client.messages import Picture, Pictures

T = TypeVar("T")

ManyPictures: TypeAlias = "Pictures | AsyncIterable[Picture]"
ManyFiles: TypeAlias = Iterable[bytes] | AsyncIterable[bytes]

SOURCE_ERRORS: Final = Exception
"""What a source raises for the caller; a cancelled task is none of it."""

QUEUE_TIMEOUT: Final = TimeoutError
"""What `Queue.get` raises where nothing came within its timeout."""

sleep = asyncio.sleep


def open_channel(connection: Connection) -> LoopChannel:
    """A channel of the event loop of its first call."""
    return LoopChannel(connection.async_channel)


def source_of(values: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Values one by one."""
    return aiter(values) if isinstance(values, AsyncIterable) else _each(iter(values))


async def _each(values: Iterator[Any]) -> AsyncIterator[Any]:
    """Values that the event loop waits for, which answers what has come before each."""
    for value in values:
        yield value
        await asyncio.sleep(0)


class Queue(asyncio.Queue[T]):
    """A queue whose `get` may be given a timeout in seconds."""

    async def get(self, timeout: float | None = None) -> T:
        async with asyncio.timeout(timeout):
            return await super().get()


class Tasks:
    """Work beside the caller, in tasks of the running event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Callable[..., Any], *given: Any) -> None:
        """Begin a coroutine."""
        task = asyncio.create_task(work(*given), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel what has not ended, and wait until it has."""
        tasks: list[Awaitable[None]] = []
        for task in self._tasks:
            task.cancel()
            tasks.append(task)
        await asyncio.gather(*tasks, return_exceptions=True)
