"""`CodecService` over grpc.aio: deadlines, admission and streams around `Calls`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

from .admission import Admission
from .calls import Calls
from .interception import abort_with, wire_bytes
from .messages import items_of
from .status import StoppingError, item_status, status_of

_logger = logging.getLogger(__name__)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]

WINDOW: Final = 3
"""Messages of one stream that are worked on at once, or wait for their reader."""


class CodecServicer(codec_pb2_grpc.CodecServiceServicer):
    """The calls of the contract."""

    def __init__(self, calls: Calls, admission: Admission) -> None:
        self._calls = calls
        self._admission = admission
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more messages of streams; those that were taken are answered."""
        self._stopping.set()

    # The names are those of the contract's methods.
    async def Encode(  # noqa: N802
        self, request: codec_pb2.EncodeRequest, context: Context
    ) -> codec_pb2.EncodeResponse:
        """Encode pictures."""
        return await self._answer(self._calls.encode, request, context)

    async def Decode(  # noqa: N802
        self, request: codec_pb2.DecodeRequest, context: Context
    ) -> codec_pb2.DecodeResponse:
        """Decode files, whole or as previews."""
        return await self._answer(self._calls.decode, request, context)

    async def ExtractFeatures(  # noqa: N802
        self, request: codec_pb2.ExtractFeaturesRequest, context: Context
    ) -> codec_pb2.ExtractFeaturesResponse:
        """Read features of pictures and files."""
        return await self._answer(self._calls.extract_features, request, context)

    async def Sample(  # noqa: N802
        self, request: codec_pb2.SampleRequest, context: Context
    ) -> codec_pb2.SampleResponse:
        """Draw pictures from a prior."""
        return await self._answer(self._calls.sample, request, context)

    async def ListModels(  # noqa: N802
        self, request: codec_pb2.ListModelsRequest, context: Context
    ) -> codec_pb2.ListModelsResponse:
        """List the models; they are fixed while the server runs."""
        return await self._answer(self._calls.list_models, request, context)

    async def GetModel(  # noqa: N802
        self, request: codec_pb2.GetModelRequest, context: Context
    ) -> codec_pb2.GetModelResponse:
        """Describe a model."""
        return await self._answer(self._calls.get_model, request, context)

    async def Evaluate(  # noqa: N802
        self, request: codec_pb2.EvaluateRequest, context: Context
    ) -> codec_pb2.EvaluateResponse:
        """Say what a picture costs and how good it is."""
        return await self._answer(self._calls.evaluate, request, context)

    async def StreamEncode(  # noqa: N802
        self, requests: AsyncIterator[codec_pb2.StreamEncodeRequest], context: Context
    ) -> AsyncIterator[codec_pb2.StreamEncodeResponse]:
        """Encode, for many messages."""
        kind = codec_pb2.StreamEncodeResponse
        async for answer in self._stream(self._calls.encode, kind, requests, context):
            yield answer

    async def StreamDecode(  # noqa: N802
        self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], context: Context
    ) -> AsyncIterator[codec_pb2.StreamDecodeResponse]:
        """Decode, for many messages."""
        kind = codec_pb2.StreamDecodeResponse
        async for answer in self._stream(self._calls.decode, kind, requests, context):
            yield answer

    async def StreamExtractFeatures(  # noqa: N802
        self, requests: AsyncIterator[codec_pb2.StreamExtractFeaturesRequest], context: Context
    ) -> AsyncIterator[codec_pb2.StreamExtractFeaturesResponse]:
        """ExtractFeatures, for many messages."""
        kind = codec_pb2.StreamExtractFeaturesResponse
        async for answer in self._stream(self._calls.extract_features, kind, requests, context):
            yield answer

    async def StreamSample(  # noqa: N802
        self, requests: AsyncIterator[codec_pb2.StreamSampleRequest], context: Context
    ) -> AsyncIterator[codec_pb2.StreamSampleResponse]:
        """Sample, for many messages."""
        kind = codec_pb2.StreamSampleResponse
        async for answer in self._stream(self._calls.sample, kind, requests, context):
            yield answer

    async def _answer(
        self,
        call: Callable[[Request, float | None], Awaitable[Response]],
        request: Request,
        context: Context,
    ) -> Response:
        """Answer a call; its errors end it with their status."""
        try:
            with self._admission.enter(_items(request), wire_bytes()):
                return await call(request, _until(context))
        except Exception as error:
            _log(error, request)
            await abort_with(context, status_of(error))

    async def _stream(
        self,
        call: Callable[[Any, float | None], Awaitable[Any]],
        kind: Callable[..., Response],
        messages: AsyncIterator[Any],
        context: Context,
    ) -> AsyncIterator[Response]:
        """Answer a stream's messages in order, WINDOW of them at once; the next is read when one of
        these has been taken by its reader.
        """
        answers: asyncio.Queue[asyncio.Task[Response] | None] = asyncio.Queue()
        window = asyncio.Semaphore(WINDOW)
        until = _until(context)
        tasks: set[asyncio.Task[Any]] = set()

        async def answer(request: Message, size: int) -> Response:
            try:
                async with self._admission.wait(_items(request), size):
                    return kind(response=await call(request, until))
            except Exception as error:
                _log(error, request)
                return kind(status=item_status(error))

        async def read() -> None:
            try:
                while True:
                    await window.acquire()
                    message, size = await self._next(messages)
                    if message is None:
                        return
                    task = asyncio.create_task(answer(message.request, size))
                    tasks.add(task)
                    answers.put_nowait(task)
            finally:
                answers.put_nowait(None)

        reader = asyncio.create_task(read())
        tasks.add(reader)
        try:
            while (task := await answers.get()) is not None:
                yield await task
                tasks.discard(task)
                window.release()
            await reader  # for what it may have raised
            if self._stopping.is_set():
                error = StoppingError("the server is stopping; send the rest again")
                await abort_with(context, status_of(error))
        finally:
            for task in tasks:
                task.cancel()

    async def _next(self, messages: AsyncIterator[Any]) -> tuple[Any, int]:
        """The next message and its bytes; None where there is none, or the server is stopping."""

        async def read() -> tuple[Any, int]:
            message = await anext(messages, None)
            return message, 0 if message is None else wire_bytes()

        if self._stopping.is_set():
            return None, 0
        following = asyncio.ensure_future(read())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
            return following.result() if following.done() else (None, 0)
        finally:
            stopping.cancel()
            if not following.done():
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following


def _items(request: Message) -> int:
    """What a request counts for: its items, or one where it is about none."""
    return max(1, items_of(request))


def _until(context: Context) -> float | None:
    """The call's deadline by the event loop's clock."""
    remaining = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def _log(error: Exception, request: Message) -> None:
    """The log has what the caller is not told."""
    if status_of(error).code is grpc.StatusCode.INTERNAL:
        _logger.error("%s failed", type(request).__name__, exc_info=error)
