"""`CodecService` over grpc.aio: deadlines, quotas, admission, streams and observation of calls."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import Counter

from hvae_codec.v1 import codec_pb2

from ..admission.capacity import Admission, Held
from ..admission.open_calls import OpenCalls, Silence, UnreadAnswers, host_of
from ..errors import OverloadError, SilentCallError, StoppingError, TokenLimitError
from ..observability.calls import CallObserver, current_call
from .message_reader import MessageReader
from .methods import Calls
from .requests import message_footprint
from .status import abort_with, item_status, over_is_cancelled, status_of

_logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

WINDOW: Final = 3
"""Messages of one stream that are worked on at once, or wait for their reader."""


SERVICE: Final = codec_pb2.DESCRIPTOR.services_by_name["CodecService"]

_STREAM: Final = "Stream"
"""Begins the name of a method that is another one for many messages."""

_ITEMS: Final[dict[type[Any], Callable[[Any], int]]] = {
    codec_pb2.EncodeRequest: lambda request: len(request.images),
    codec_pb2.DecodeRequest: lambda request: len(request.encoded),
    codec_pb2.ExtractFeaturesRequest: lambda request: len(request.sources),
    codec_pb2.SampleRequest: lambda request: int(request.count),
    codec_pb2.EvaluateRequest: lambda request: 1,
}
"""Items of a request, by its class; others are about none."""

wire_bytes: Final[ContextVar[int]] = ContextVar("wire_bytes")
"""Bytes of the request that this task was given last. A message that is asked for its size is
serialised for that, images and all."""


class CodecServicer:
    """The methods of the contract, and the two ways that all of them go: `answer` and `stream`."""

    def __init__(
        self,
        calls: Calls,
        admission: Admission,
        silence: Silence | None = None,
        observe: Callable[[Context], CallObserver] = lambda context: CallObserver(),
        unread: UnreadAnswers | None = None,
        open_calls: OpenCalls | None = None,
    ) -> None:
        """silence: ends streams whose next message does not come; None: none of them. observe:
        makes the observer of the call that this task answers. unread: ends calls whose answers
        nobody reads; None: none of them. open_calls: counts streams by host; None: as many as like.
        """
        self._methods: dict[str, Callable[[Any, float | None, Held], Awaitable[Any]]] = {
            "Encode": calls.encode,
            "Decode": calls.decode,
            "ExtractFeatures": calls.extract_features,
            "Sample": calls.sample,
            "ListModels": calls.list_models,
            "GetModel": calls.get_model,
            "Evaluate": calls.evaluate,
        }
        self._admission = admission
        self._silence = silence or Silence(math.inf)
        self._observe = observe
        self._unread = unread or UnreadAnswers(math.inf)
        self._open_calls = open_calls
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more messages of streams; those that were taken are answered."""
        self._stopping.set()

    def handlers(self, sent: Callable[[str], Counter]) -> Any:
        """All methods, for gRPC; `sent` is the counter of a method's bytes."""
        made = {each.name: self._handler(each, sent) for each in SERVICE.methods}
        return grpc.method_handlers_generic_handler(SERVICE.full_name, made)

    def _handler(self, method: MethodDescriptor, sent: Callable[[str], Counter]) -> Any:
        name, request_type = method.name, GetMessageClass(method.input_type)
        counter = sent(name)

        def parse(data: bytes) -> Message:
            wire_bytes.set(len(data))
            return request_type.FromString(data)

        def serialise(response: Message) -> bytes:
            data = response.SerializeToString()
            counter.inc(len(data))
            return data

        async def unary(request: Message, context: Context) -> Message:
            return await self.answer(name, request, context)

        async def stream(
            messages: AsyncIterator[Message], context: Context
        ) -> AsyncIterator[Message]:
            async with aclosing(self.stream(name, messages, context)) as responses:
                async for response in responses:
                    yield response

        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, parse, serialise)
        return grpc.unary_unary_rpc_method_handler(unary, parse, serialise)

    async def answer(self, method: str, request: Message, context: Context) -> Message:
        """Answer a call of one message; its errors end it with their status."""
        # Asked now: a call that was cancelled may be over when its answer is there.
        peer = context.peer()
        with self._observe(context) as observer:
            try:
                items, size = _items(request), wire_bytes.get()
                observer.request(items, size)
                with current_call().quota.taken(items):
                    size = message_footprint(size)
                    held = self._admission.take(max(1, items), size, _owner(context))
                    _at_the_end(held.release)
                    response: Message = await self._methods[method](
                        request, _deadline(context), held
                    )
            except Exception as error:
                _log(error, request)
                await abort_with(context, error)
            observer.response(response)
            _at_the_end(self._unread.begin(peer, lambda: held.bytes))
            return response

    async def stream(
        self, method: str, messages: AsyncIterator[Any], context: Context
    ) -> AsyncGenerator[Message, None]:
        """Answer a stream's messages in order, WINDOW of them at once; the next is read when one of
        these has been taken by its reader, and those before it have been admitted.
        """
        answers: asyncio.Queue[tuple[asyncio.Task[Any], Held] | None] = asyncio.Queue()
        window = asyncio.Semaphore(WINDOW)
        deadline, owner, quota = _deadline(context), _owner(context), current_call().quota
        peer = context.peer()
        tasks: set[asyncio.Task[Any]] = set()
        all_held: dict[Held, None] = {}  # of answers that were not taken yet, in their order
        taken: deque[int] = deque()  # items of the quota, by message
        ended = False

        async def arrived(message: Any) -> tuple[Message, int, int]:
            request, items, size = message.request, _items(message.request), wire_bytes.get()
            observer.request(items, size)
            await quota.take_in_turn(items)
            taken.append(items)
            return request, items, size

        async def read() -> None:
            try:
                while True:
                    await window.acquire()
                    following = await reader.next()
                    if following is None:
                        return
                    request, items, size = following
                    held = await self._admission.take_in_turn(
                        max(1, items), message_footprint(size), owner
                    )
                    held.line_up(all_held)
                    answer = self._answer_message(method, request, deadline, held)
                    task = asyncio.create_task(answer)
                    tasks.add(task)
                    answers.put_nowait((task, held))
            finally:
                answers.put_nowait(None)

        def end() -> None:
            """Keep nothing but the answer that is being sent."""
            nonlocal ended
            ended = True
            for task in tasks:
                task.cancel()
            for held in list(all_held)[1:]:
                held.release()

        with self._observe(context) as observer:
            reader = MessageReader(
                messages, self._stopping, self._silence, owner, arrived, _has_items
            )
            answered = False
            try:
                self._enter_host(context)
                reading = asyncio.create_task(read())
                tasks.add(reading)
                while (following := await answers.get()) is not None:
                    task, held = following
                    response = await task
                    quota.release(taken.popleft())
                    observer.response(response)
                    answered = True
                    with self._unread.waiting(peer, lambda: _size(all_held), end):
                        yield response
                    if ended:
                        raise self._unread.error()
                    held.release()
                    del all_held[held]
                    reader.answered()
                    tasks.discard(task)
                    window.release()
                await reading  # for what it may have raised
                if self._stopping.is_set():
                    raise StoppingError("the server is stopping; send the rest again")
                if not answered:
                    await _cancelled_unless_open(context)
            except (OverloadError, SilentCallError, StoppingError, TokenLimitError) as error:
                await abort_with(context, error)
            finally:
                reader.close()
                for task in tasks:
                    task.cancel()
                for held in all_held:
                    held.release()
                quota.release(sum(taken))

    def _enter_host(self, context: Context) -> None:
        """Count the stream that this task answers as its host's.

        Raises OverloadError.
        """
        if self._open_calls is not None:
            self._open_calls.enter_host(host_of(context.peer()), stream=True)

    async def _answer_message(
        self, method: str, request: Message, deadline: float | None, held: Held
    ) -> Message:
        """The answer of one message of a stream: a response, or the status of its error."""
        kind = GetMessageClass(SERVICE.methods_by_name[method].output_type)
        try:
            call = self._methods[method.removeprefix(_STREAM)]
            return kind(response=await call(request, deadline, held))
        except Exception as error:
            held.release()
            _log(error, request)
            return kind(status=item_status(error))


async def _cancelled_unless_open(context: Context) -> None:
    """Raise CancelledError where a call that nothing was sent to is over.

    Where the reader's wait was too short for gRPC to cancel the method, to send something tells.
    """
    with over_is_cancelled():
        await context.send_initial_metadata(())


def _owner(context: Context) -> str | None:
    """The caller: its token's name, else its connection; noted for the rest of the server."""
    call = current_call()
    if call.owner is None:
        call.owner = call.token or context.peer()
    return call.owner


def _at_the_end(leave: Callable[[], object]) -> None:
    """Call this function once the answer of the call that this task answers has been taken."""
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda _: leave())


def _size(held: Iterable[Held]) -> int:
    """Bytes that these hold."""
    return sum(each.bytes for each in held)


def _has_items(message: Any) -> bool:
    """Whether a message of a stream asks about any item."""
    return _items(message.request) > 0


def _items(request: Message) -> int:
    """Images, files or sources that a request asks about; of Sample the images that it wants. 0
    where it is about none.
    """
    count = _ITEMS.get(type(request))
    return 0 if count is None else count(request)


def _deadline(context: Context) -> float | None:
    """The call's deadline by the event loop's clock."""
    remaining = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def _log(error: Exception, request: Message) -> None:
    """Log an error whose details the caller does not get."""
    if status_of(error).code is grpc.StatusCode.INTERNAL:
        _logger.error("%s failed", type(request).__name__, exc_info=error)
