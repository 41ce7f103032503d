"""Taking the steps of `client/sans_io/protocol.py`: with calls that block, and in an event loop."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from hvae_codec.client.base import BaseClient, OnError
from hvae_codec.client.connection.channel import Connection
from hvae_codec.client.connection.loop_channel import LoopChannel
from hvae_codec.client.connection.pool import Pool
from hvae_codec.client.live import LiveTasks, LiveThreads
from hvae_codec.client.sans_io import protocol, steps
from hvae_codec.client.sans_io.requests import Operation
from hvae_codec.client.sans_io.steps import End
from hvae_codec.codec.features import Features

T = TypeVar("T")


class BlockingClient(BaseClient):
    """Takes steps with calls that block."""

    def _open(self, connection: Connection) -> grpc.Channel:
        return connection.channel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight end with ServiceError."""
        for channel in self._pool.channels:
            channel.close()

    def _one(self, method: str, request: Message, timeout: float | None) -> Any:
        return self._run(protocol.one_call(method, request, self._tries(timeout)))

    def _all(
        self, operation: Operation[Any, T], values: Iterable[Any], on_error: OnError
    ) -> list[T | Exception]:
        return self._run(self._all_steps(operation, values, on_error))

    def _features(
        self, operation: Operation[Any, Features], values: Iterable[Any], on_error: OnError
    ) -> Any:
        return self._run(self._features_steps(operation, values, on_error))

    def _run(self, walk: steps.UnarySteps[T]) -> T:
        """The result of steps of calls of one message."""
        result: Any = None
        error: grpc.RpcError | None = None
        while True:
            try:
                step = walk.send(result) if error is None else walk.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            result = error = None
            try:
                result = self._take(step)
            except grpc.RpcError as failed:
                error = failed

    def _take(self, step: steps.UnaryStep) -> Any:
        match step:
            case steps.Call(method, request, timeout):
                with self._pool.stub() as stub:
                    call = getattr(stub, method)
                    return call(request, timeout=timeout, metadata=self._metadata)
            case steps.Wait(seconds):
                return time.sleep(seconds)

    def _stream(
        self, operation: Operation[Any, Any], values: Iterable[Any], on_error: OnError
    ) -> Iterator[Any]:
        """The outcomes of a stream; a generator, which ends the stream where it is closed."""
        walk = self._stream_steps(operation, values, on_error)
        live = LiveThreads(values) if self._is_live(values) else None
        source = iter(()) if live else iter(values)
        stream: _Stream | None = None
        result: Any = None
        error: grpc.RpcError | None = None
        try:
            while True:
                try:
                    step = walk.send(result) if error is None else walk.throw(error)
                except StopIteration:
                    return
                result = error = None
                match step:
                    case steps.Emit(outcomes):
                        yield from outcomes
                    case steps.Pull():
                        result = live.pull(step) if live else next(source, End.END)
                    case steps.Open(method, timeout):
                        if stream is not None:
                            stream.close()
                        stream = _Stream(self._pool, method, timeout, self._metadata)
                        if live:
                            live.follow(stream)
                    case steps.Send(message):
                        assert stream is not None
                        stream.send(message)
                    case steps.Receive() | steps.Finish():
                        assert stream is not None
                        if isinstance(step, steps.Finish):
                            stream.finish()
                        try:
                            result = live.receive() if live else stream.next()
                        except grpc.RpcError as failed:
                            error = failed
                    case steps.Call() | steps.Wait():
                        try:
                            result = self._take(step)
                        except grpc.RpcError as failed:
                            error = failed
        finally:
            if live is not None:
                live.close()
            if stream is not None:
                stream.close()


class _Stream:
    """A stream whose messages go out from a thread of gRPC's."""

    def __init__(self, pool: Pool, method: str, timeout: float | None, metadata: Any) -> None:
        self._requests: SimpleQueue[Message | None] = SimpleQueue()
        requests = iter(self._requests.get, None)
        self._ended = ExitStack()
        stub = self._ended.enter_context(pool.stub())
        self._call = getattr(stub, method)(requests, timeout=timeout, metadata=metadata)

    def send(self, message: Message) -> None:
        self._requests.put(message)

    def finish(self) -> None:
        """Say that no more will be sent."""
        self._requests.put(None)

    def next(self) -> Any:
        """The next answer, or END."""
        return next(self._call, End.END)

    def close(self) -> None:
        """End it, whatever is on its way; nothing happens to one that has ended."""
        self._call.cancel()
        self._requests.put(None)  # frees the thread
        self._ended.close()


class LoopClient(BaseClient):
    """Takes steps in the event loop of its first call."""

    def _open(self, connection: Connection) -> LoopChannel:
        return LoopChannel(connection.async_channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """As `Client.close`."""
        for channel in self._pool.channels:
            await channel.close()

    async def _one(self, method: str, request: Message, timeout: float | None) -> Any:
        return await self._run(protocol.one_call(method, request, self._tries(timeout)))

    async def _all(
        self, operation: Operation[Any, T], values: Iterable[Any], on_error: OnError
    ) -> list[T | Exception]:
        return await self._run(self._all_steps(operation, values, on_error))

    async def _features(
        self, operation: Operation[Any, Features], values: Iterable[Any], on_error: OnError
    ) -> Any:
        return await self._run(self._features_steps(operation, values, on_error))

    async def _run(self, walk: steps.UnarySteps[T]) -> T:
        """As `BlockingClient._run`."""
        result: Any = None
        error: grpc.RpcError | None = None
        while True:
            try:
                step = walk.send(result) if error is None else walk.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            result = error = None
            try:
                result = await self._take(step)
            except grpc.RpcError as failed:
                error = failed

    async def _take(self, step: steps.UnaryStep) -> Any:
        match step:
            case steps.Call(method, request, timeout):
                with self._pool.stub() as stub:
                    call = getattr(stub, method)
                    return await call(request, timeout=timeout, metadata=self._metadata)
            case steps.Wait(seconds):
                return await asyncio.sleep(seconds)

    async def _stream(
        self,
        operation: Operation[Any, Any],
        values: Iterable[Any] | AsyncIterable[Any],
        on_error: OnError,
    ) -> AsyncGenerator[Any, None]:
        """As `BlockingClient._stream`."""
        walk = self._stream_steps(operation, values, on_error)
        live: LiveTasks | None = None
        source: Iterator[Any] = iter(())
        if isinstance(values, AsyncIterable) or self._is_live(values):
            live = LiveTasks(values)
        else:
            source = iter(values)
        stream: _LoopStream | None = None
        result: Any = None
        error: grpc.RpcError | None = None
        try:
            while True:
                try:
                    step = walk.send(result) if error is None else walk.throw(error)
                except StopIteration:
                    return
                result = error = None
                match step:
                    case steps.Emit(outcomes):
                        for outcome in outcomes:
                            yield outcome
                    case steps.Pull():
                        result = await live.pull(step) if live else next(source, End.END)
                    case steps.Open(method, timeout):
                        if stream is not None:
                            stream.close()
                        stream = _LoopStream(self._pool, method, timeout, self._metadata)
                        if live:
                            live.follow(stream)
                    case steps.Send(message):
                        assert stream is not None
                        stream.send(message)
                        await asyncio.sleep(0)  # it goes out while the next one is made
                    case steps.Receive() | steps.Finish():
                        assert stream is not None
                        if isinstance(step, steps.Finish):
                            stream.finish()
                        try:
                            result = await (live.receive() if live else stream.next())
                        except grpc.RpcError as failed:
                            error = failed
                    case steps.Call() | steps.Wait():
                        try:
                            result = await self._take(step)
                        except grpc.RpcError as failed:
                            error = failed
        finally:
            if stream is not None:
                stream.close()
            if live is not None:
                await live.close()


class _LoopStream:
    """A stream whose messages go out from a task of gRPC's: one that waited to send would not
    receive, and the server might wait for that.
    """

    def __init__(self, pool: Pool, method: str, timeout: float | None, metadata: Any) -> None:
        self._requests: asyncio.Queue[Message | None] = asyncio.Queue()
        self._ended = ExitStack()
        stub = self._ended.enter_context(pool.stub())
        self._call = getattr(stub, method)(self._sent(), timeout=timeout, metadata=metadata)
        self._answers = aiter(self._call)

    async def _sent(self) -> AsyncGenerator[Message, None]:
        while (message := await self._requests.get()) is not None:
            yield message

    def send(self, message: Message) -> None:
        self._requests.put_nowait(message)

    def finish(self) -> None:
        """As `_Stream.finish`."""
        self._requests.put_nowait(None)

    async def next(self) -> Any:
        """As `_Stream.next`."""
        return await anext(self._answers, End.END)

    def close(self) -> None:
        """As `_Stream.close`."""
        self._call.cancel()
        self._requests.put_nowait(None)
        self._ended.close()
