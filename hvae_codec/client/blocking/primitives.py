"""What threads give `Client`; `aio/primitives.py` has the same names for asyncio."""

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, Final

import grpc

from hvae_codec.client.connection.channel import Connection

SOURCE_ERRORS: Final = BaseException
"""What a source raises for the caller, in whose thread it is to be raised."""

QUEUE_TIMEOUT: Final = Empty
"""What `Queue.get` raises where nothing came within its timeout."""

Queue = SimpleQueue
sleep = time.sleep
source_of = iter


def open_channel(connection: Connection) -> grpc.Channel:
    """A channel for calls that block."""
    return connection.channel()


class Tasks:
    """Work beside the caller, in threads that see its context."""

    def start(self, name: str, work: Callable[..., Any], *given: Any) -> None:
        """Begin a function."""
        run = copy_context().run
        threading.Thread(target=run, args=(work, *given), name=name, daemon=True).start()

    def close(self) -> None:
        """Let each end when what it waits for comes."""
