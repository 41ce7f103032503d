"""`CodecService` over grpc.aio: deadlines, admission and streams around `Calls`."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

from ..admission import footprint
from ..admission.capacity import Admission, Held
from ..admission.silence import Silence
from ..errors import SilentCallError, StoppingError
from ..observability.call_context import current_call
from .interceptors import abort_with, wire_bytes
from .message_reader import MessageReader
from .messages import items_of
from .methods import Calls
from .status import item_status, status_of

_logger = logging.getLogger(__name__)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]

WINDOW: Final = 3
"""Messages of one stream that are worked on at once, or wait for their reader."""


class CodecServicer(codec_pb2_grpc.CodecServiceServicer):
    """The calls of the contract."""

    def __init__(self, calls: Calls, admission: Admission, silence: Silence | None = None) -> None:
        """silence: ends streams whose next message does not come; None: none of them."""
        self._calls = calls
        self._admission = admission
        self._silence = silence or Silence(math.inf)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more messages of streams; those that were taken are answered."""
        self._stopping.set()

    # The names are those of the contract's methods.
    async def Encode(  # noqa: N802
        self, request: codec_pb2.EncodeRequest, context: Context
    ) -> codec_pb2.EncodeResponse:
        """Encode images."""
        return await self._answer(self._calls.encode, request, context)

    async def Decode(  # noqa: N802
        self, request: codec_pb2.DecodeRequest, context: Context
    ) -> codec_pb2.DecodeResponse:
        """Decode files, whole or as previews."""
        return await self._answer(self._calls.decode, request, context)

    async def ExtractFeatures(  # noqa: N802
        self, request: codec_pb2.ExtractFeaturesRequest, context: Context
    ) -> codec_pb2.ExtractFeaturesResponse:
        """Read features of images and files."""
        return await self._answer(self._calls.extract_features, request, context)

    async def Sample(  # noqa: N802
        self, request: codec_pb2.SampleRequest, context: Context
    ) -> codec_pb2.SampleResponse:
        """Draw images from a prior."""
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
        """Say what an image costs and how good it is."""
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
        call: Callable[[Request, float | None, Held], Awaitable[Response]],
        request: Request,
        context: Context,
    ) -> Response:
        """Answer a call; its errors end it with their status."""
        try:
            size = footprint.of_message(wire_bytes())
            held = self._admission.take(_items(request), size, _owner(context))
            _until_taken(held)
            return await call(request, _until(context), held)
        except Exception as error:
            _log(error, request)
            await abort_with(context, status_of(error))

    async def _stream(
        self,
        call: Callable[[Any, float | None, Held], Awaitable[Any]],
        kind: Callable[..., Response],
        messages: AsyncIterator[Any],
        context: Context,
    ) -> AsyncIterator[Response]:
        """Answer a stream's messages in order, WINDOW of them at once; the next is read when one of
        these has been taken by its reader, and those before it have been admitted.
        """
        answers: asyncio.Queue[tuple[asyncio.Task[Response], Held] | None] = asyncio.Queue()
        window = asyncio.Semaphore(WINDOW)
        until, owner = _until(context), _owner(context)
        reader = MessageReader(messages, self._stopping, self._silence, owner)
        tasks: set[asyncio.Task[Any]] = set()
        all_held: set[Held] = set()  # of answers that were not taken yet

        async def answer(request: Message, held: Held) -> Response:
            try:
                return kind(response=await call(request, until, held))
            except Exception as error:
                held.release()
                _log(error, request)
                return kind(status=item_status(error))

        async def read() -> None:
            try:
                while True:
                    await window.acquire()
                    following = await reader.next()
                    if following is None:
                        return
                    request, size = following[0].request, footprint.of_message(following[1])
                    held = await self._admission.take_in_turn(_items(request), size, owner)
                    all_held.add(held)
                    task = asyncio.create_task(answer(request, held))
                    tasks.add(task)
                    answers.put_nowait((task, held))
            finally:
                answers.put_nowait(None)

        reading = asyncio.create_task(read())
        tasks.add(reading)
        try:
            while (following := await answers.get()) is not None:
                task, held = following
                yield await task
                held.release()
                all_held.discard(held)
                reader.answered()
                tasks.discard(task)
                window.release()
            await reading  # for what it may have raised
            if self._stopping.is_set():
                error = StoppingError("the server is stopping; send the rest again")
                await abort_with(context, status_of(error))
        except SilentCallError as error:
            await abort_with(context, status_of(error))
        finally:
            for task in tasks:
                task.cancel()
            for held in all_held:
                held.release()


def _owner(context: Context) -> str | None:
    """Who calls, which the rest of the server is told, too."""
    call = current_call()
    if call.owner is None:
        call.owner = call.token or context.peer()
    return call.owner


def _until_taken(held: Held) -> None:
    """Hold so much until the answer of the call that this task answers has been taken."""
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda _: held.release())


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
