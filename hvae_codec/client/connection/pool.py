"""The connections of one client, and which of them a call takes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from hvae_codec.errors import HvaeCodecError
from hvae_codec.v1 import codec_pb2_grpc

CALLS: Final = 100
"""Calls at once of one connection, as servers of this contract allow; gRPC lets more wait until one
of them ends, without a word."""

_CLOSED: Final = "this client was closed: make another one"


class _Entry:
    """A connection, and how many calls are on their way."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.stub = codec_pb2_grpc.CodecServiceStub(channel)  # type: ignore[no-untyped-call]
        self.calls = 0


class Pool:
    """Opens connections as they are needed, `most` at most; a call takes the one with the fewest.

    Safe in any thread.
    """

    def __init__(self, open_channel: Callable[[], Any], most: int) -> None:
        self._open_channel = open_channel
        self._most = most
        self._lock = threading.Lock()
        self._entries = [_Entry(open_channel())]
        self._closed = False

    @property
    def channels(self) -> list[Any]:
        """Those that are open."""
        with self._lock:
            return [entry.channel for entry in self._entries]

    def end(self) -> None:
        """Take no more calls; the channels are the caller's to close."""
        with self._lock:
            self._closed = True

    @contextmanager
    def stub(self) -> Iterator[Any]:
        """The contract's methods on a connection, for one call.

        Raises:
            HvaeCodecError: the client is closed.
        """
        entry = self._take()
        try:
            yield entry.stub
        except (ValueError, grpc.aio.UsageError) as error:  # gRPC's own, if that was just now
            if self._closed and not isinstance(error, HvaeCodecError):
                raise HvaeCodecError(_CLOSED) from error
            raise
        finally:
            with self._lock:
                entry.calls -= 1

    def _take(self) -> _Entry:
        with self._lock:
            if self._closed:
                raise HvaeCodecError(_CLOSED)
            entry = min(self._entries, key=lambda each: each.calls)
            if entry.calls >= CALLS and len(self._entries) < self._most:
                entry = _Entry(self._open_channel())
                self._entries.append(entry)
            entry.calls += 1
            return entry
