"""Calls of any number of items over a stream, opened again where it breaks."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
from google.protobuf.message import Message

from hvae_codec.client import errors, outcomes
from hvae_codec.client.aio.calls import UnaryCalls
from hvae_codec.client.aio.live import Live
from hvae_codec.client.aio.primitives import Queue, sleep, source_of
from hvae_codec.client.base import OnError, raises
from hvae_codec.client.chunking import Packer, Part
from hvae_codec.client.connection.pool import Pool
from hvae_codec.client.errors import StreamEndedError
from hvae_codec.client.inbox import End, Later
from hvae_codec.client.requests import Operation, ServerInfo
from hvae_codec.client.retry import LONGEST_SECONDS, RetryState


class StreamCalls(UnaryCalls):
    """A client's calls of any number of items."""

    async def _stream(
        self, operation: Operation[Any, Any], values: Any, on_error: OnError
    ) -> AsyncGenerator[Any, None]:
        """The outcomes of the values, in order; a generator, which ends the stream where it is
        closed. It may take for ever unless the caller said how long.
        """
        raising = raises(on_error)
        tries = self._tries_of(operation.timeout)
        info, packer = await self._packer(self._streaming.message_items, tries)
        call = _StreamCall(self, operation, values, tries, info, packer)
        try:
            while (found := await call.next_outcomes()) is not None:
                start, of_part = found
                failed = (at for at, each in enumerate(of_part) if isinstance(each, Exception))
                first = next(failed, None) if raising else None
                named = outcomes.placed(operation, start, of_part)
                for outcome in named[:first]:
                    yield outcome
                if first is not None:
                    raise named[first]
        finally:
            await call.close()


class _StreamCall:
    """One call of many items: their messages, those of them that wait for answers, the stream.

    A stream that breaks is opened again and begins with the first message that was not answered.
    What a stream could break on, or broke on for its size or an unknown reason, goes by a call of
    its own.
    """

    def __init__(
        self,
        client: StreamCalls,
        operation: Operation[Any, Any],
        values: Any,
        tries: RetryState,
        info: ServerInfo,
        packer: Packer[Any],
    ) -> None:
        self._client = client
        self._operation = operation
        self._tries = tries
        self._info = info
        self._packer = packer
        self._streaming = client._streaming_of(values)
        # Without a delay nothing else is done while the source is waited for.
        self._live: Live | None = None
        self._source: Iterator[Any] = iter(())
        if client._is_live(values):
            self._live = Live(source_of(values))
        else:
            self._source = iter(values)
        self._pending: deque[Part[Any]] = deque()
        self._stream: _Stream | None = None
        self._exhausted = False

    async def next_outcomes(self) -> tuple[int, list[Any]] | None:
        """The outcomes of the first message that has none yet, and where its items begin; None
        after the last one.
        """
        while await self._fill():
            part = self._pending[0]
            results = None
            if _by_stream(part):
                try:
                    results = outcomes.results_of_message(await self._received(), part)
                except grpc.RpcError as error:
                    self._drop_stream()
                    # A call of its own can be halved, and says what became of it.
                    if not (errors.is_too_large(error) or errors.is_status_lost(error)):
                        wait = self._tries.wait_after(error)
                        if wait is None:
                            raise self._tries.failure(error) from error
                        await sleep(wait)
                        continue
            found = await self._client._answered(self._operation, part, self._tries, results)
            self._pending.popleft()
            return part.start, found
        if self._stream is not None:
            self._stream.finish()
            with suppress(grpc.RpcError):  # every answer is here
                await self._next_message(self._stream)
        return None

    async def close(self) -> None:
        """End the stream, whatever is on its way, and read no more values."""
        self._drop_stream()
        if self._live is not None:
            await self._live.close()

    async def _fill(self) -> bool:
        """Send messages until as many are on their way as may be, or until it is better to wait
        for an answer; returns whether one is to come.
        """
        while not self._exhausted and len(self._pending) < self._streaming.in_flight:
            value, parts = await self._gathered()
            self._exhausted = value is End.END
            for part in parts:
                self._pending.append(part)
                if not _by_stream(part):
                    continue
                if self._stream is None:
                    await self._open()
                else:
                    await self._send(self._stream, part)
            if parts or not isinstance(value, Later):
                continue
            if self._pending:
                break
            if value is Later.ANSWER:  # it ended while nothing was on its way
                self._drop_stream()
        return bool(self._pending)

    async def _gathered(self) -> tuple[Any, list[Part[Any]]]:
        """What the source gave, and the messages that are to go out with that or for lack of it."""
        value = await self._pulled()
        if value is Later.ANSWER:
            return value, []
        if value is Later.NOTHING:
            self._tries.check_time()
        if value is Later.NOTHING or value is End.END:
            return value, list(self._packer.rest())
        slot = self._operation.slot(value)
        parts = list(self._packer.add(slot, self._operation.weigh(slot, self._info)))
        age, delay = self._packer.age, self._streaming.delay_seconds
        if age is not None and delay is not None and age >= delay:  # though the source had more
            parts += self._packer.rest()
        return value, parts

    async def _pulled(self) -> Any:
        """The next value, END, or a `Later`."""
        if self._live is None:
            return next(self._source, End.END)
        watch = self._stream is not None and self._streaming.delay_seconds is not None
        return await self._live.pull(self._patience(), watch=watch)

    def _patience(self) -> float | None:
        """Seconds to wait for the source; None for as long as it takes."""
        remaining = self._tries.remaining
        bounds = [] if remaining is None else [remaining]
        if (delay := self._streaming.delay_seconds) is not None:
            delay = min(delay, LONGEST_SECONDS)
            if self._packer.age is not None:
                bounds.append(max(0.0, delay - self._packer.age))
            elif self._pending and (self._stream is None or not _by_stream(self._pending[0])):
                bounds.append(delay)  # there is more to do than to wait for the stream
        return min(bounds, default=None)

    async def _open(self) -> None:
        """Open a stream, and send what is pending."""
        client, name = self._client, f"Stream{self._operation.method}"
        self._stream = _Stream(client._pool, name, self._tries.remaining, client._metadata)
        if self._live is not None:
            self._live.follow(self._stream)
        for part in filter(_by_stream, list(self._pending)):
            await self._send(self._stream, part)

    async def _send(self, stream: _Stream, part: Part[Any]) -> None:
        stream.send(self._operation.message(part.items))
        await sleep(0)  # it goes out while the next one is made

    async def _received(self) -> Any:
        """The next message of the stream; raises grpc.RpcError where there is none."""
        if self._stream is None:
            await self._open()
        assert self._stream is not None
        if (message := await self._next_message(self._stream)) is End.END:
            raise StreamEndedError
        return message

    async def _next_message(self, stream: _Stream) -> Any:
        return await (stream.next() if self._live is None else self._live.receive())

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


class _Stream:
    """A stream whose messages go out beside the caller: one that waited to send would not receive,
    and the server might wait for that.
    """

    def __init__(self, pool: Pool, method: str, timeout: float | None, metadata: Any) -> None:
        self._requests: Queue[Message | None] = Queue()
        self._ended = ExitStack()
        stub = self._ended.enter_context(pool.stub())
        self._call = getattr(stub, method)(self._sent(), timeout=timeout, metadata=metadata)
        self._answers = aiter(self._call)

    async def _sent(self) -> AsyncGenerator[Message, None]:
        while (message := await self._requests.get()) is not None:
            yield message

    def send(self, message: Message) -> None:
        """Let a message go out, without waiting until it has."""
        self._requests.put_nowait(message)

    def finish(self) -> None:
        """Say that no more will be sent."""
        self._requests.put_nowait(None)

    async def next(self) -> Any:
        """The next answer, or END."""
        return await anext(self._answers, End.END)

    def close(self) -> None:
        """End it, whatever is on its way; nothing happens to one that has ended."""
        self._call.cancel()
        self._requests.put_nowait(None)  # frees a thread that waits for a message
        self._ended.close()


def _by_stream(part: Part[Any]) -> bool:
    """Whether a part goes as a message of a stream: not if nothing is in it, or too much."""
    return bool(part.places) and not part.oversize
