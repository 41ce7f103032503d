"""The calls of `CodecService` on Ray Serve, behind its gRPC proxy: on as many machines as it takes.

    serve run deploy/ray_serve.yaml

A replica is a server without a port: the same `Calls` and `Engine`, whose batches join the items of
many calls. Ray's own batching (`@serve.batch`) would join whole calls of one method, and a batch of
them could be any number of items of any models; so batching stays with the engine of each replica,
and Ray balances calls between replicas, queues them and adds replicas.

All methods work, streams too; a stream's messages all go to one replica. What Ray's proxy does not
have, the server of `hvae-codec serve` does: TLS (let something else end it in front of the proxy),
deadlines (the proxy's `request_timeout_s` bounds calls; a caller's own deadline ends its waiting,
not the work), the standard health service (Ray has `ray.serve.RayServeAPIService/Healthz`). Tokens
are checked by each replica; their limits would hold for each replica by itself and are not applied.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message
from pydantic import ConfigDict, create_model
from ray import serve

import hvae_codec
from hvae_codec.v1 import codec_pb2

from .admission.capacity import Admission
from .auth.file_watcher import watch
from .auth.token_interceptor import Access, authorizations
from .auth.tokens import TokenFile
from .engine.engine import Engine
from .errors import LimitError, UnauthenticatedError
from .options import arguments_of
from .options import build as build_settings
from .rpc.interceptors import set_wire_bytes
from .rpc.methods import Calls
from .rpc.servicer import CodecServicer
from .rpc.status import status_of
from .settings import Settings

_SERVICE: Final = codec_pb2.DESCRIPTOR.services_by_name["CodecService"]


_DEFAULTS: Final[dict[str, Any]] = {"warm": ["cifar10"], "coding_processes": 1}
"""Of a replica, where they are not the server's."""

_ARGUMENTS: Final[dict[str, Any]] = {
    name: (kind, _DEFAULTS.get(name, default))
    for name, (kind, default) in arguments_of(Settings).items()
    if name
    in {
        *("models", "warm", "coding_processes", "token_file"),
        *("max_message_bytes", "max_items", "max_pixels", "capacity_items", "capacity_bytes"),
    }
}

_Arguments: Any = create_model("_Arguments", __config__=ConfigDict(extra="forbid"), **_ARGUMENTS)


class Arguments(_Arguments):  # type: ignore[misc]
    """What the application's `args` in a config file may say: these flags of the server.

    Directories and files are alike on all machines; a capacity is that of one replica.
    """

    def settings(self) -> Settings:
        """Of a replica, whose networks run in one thread of it."""
        return build_settings(Settings, {"network_threads": 1, **self.model_dump()})


class _CallEndedError(Exception):
    """The call ended with a status, which its context has."""


class _Context:
    """What `CodecServicer` asks of gRPC's context, of Ray's."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def time_remaining(self) -> None:
        """Ray does not tell a replica of deadlines."""

    def peer(self) -> None:
        """All calls come from the proxy."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> NoReturn:
        """End the call. Raises _CallEndedError."""
        self._given.set_code(code)
        self._given.set_details(details)
        self._given.set_trailing_metadata(list(trailing_metadata or ()))
        raise _CallEndedError(details)

    async def end(self, status: grpc.Status) -> NoReturn:
        """End the call with a status. Raises _CallEndedError."""
        await self.abort(status.code, status.details, status.trailing_metadata)


class RayCodecService:
    """A replica. The methods' names are those of the contract."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]
        """Load models and bring the engine up; Ray sends calls when this is done.

        Raises:
            UnknownModelError, UnknownQualityError, CheckpointError: of the models to be warm.
            TokenFileError: as `TokenFile`.
        """
        if settings.models is not None:
            os.environ["HVAE_MODELS"] = str(settings.models)
        self._message_bytes = settings.limits.message_bytes
        self._engine = Engine(settings.engine)
        calls, admission = Calls(self._engine, settings.limits), Admission(settings.capacity)
        self._servicer = CodecServicer(calls, admission)
        self._access: Access | None = None
        if settings.token_file is not None:
            tokens = TokenFile(settings.token_file)
            self._access = Access(tokens)
            self._watching = asyncio.create_task(watch([tokens.refresh]))
        for warm in settings.warm or ():
            hvae_codec.load(warm.name, warm.quality)
        await self._engine.start()

    async def __del__(self) -> None:
        """Called by Ray when the replica stops and its calls have ended."""
        self._servicer.stop()
        await self._engine.stop()

    async def Encode(self, request: Any, grpc_context: Any) -> Message:  # noqa: N802
        """Encode images."""
        return await self._answer("Encode", request, grpc_context)

    async def Decode(self, request: Any, grpc_context: Any) -> Message:  # noqa: N802
        """Decode files."""
        return await self._answer("Decode", request, grpc_context)

    async def ExtractFeatures(self, request: Any, grpc_context: Any) -> Message:  # noqa: N802
        """Read features."""
        return await self._answer("ExtractFeatures", request, grpc_context)

    async def Sample(self, request: Any, grpc_context: Any) -> Message:  # noqa: N802
        """Draw images."""
        return await self._answer("Sample", request, grpc_context)

    async def ListModels(self, request: Any, grpc_context: Any) -> Message:  # noqa: N802
        """List the models."""
        return await self._answer("ListModels", request, grpc_context)

    async def GetModel(self, request: Any, grpc_context: Any) -> Message:  # noqa: N802
        """Describe a model."""
        return await self._answer("GetModel", request, grpc_context)

    async def Evaluate(self, request: Any, grpc_context: Any) -> Message:  # noqa: N802
        """Say what an image costs and how good it is."""
        return await self._answer("Evaluate", request, grpc_context)

    async def StreamEncode(  # noqa: N802
        self, messages: Any, grpc_context: Any
    ) -> AsyncIterator[Message]:
        """Encode, for many messages."""
        async for answer in self._stream("StreamEncode", messages, grpc_context):
            yield answer

    async def StreamDecode(  # noqa: N802
        self, messages: Any, grpc_context: Any
    ) -> AsyncIterator[Message]:
        """Decode, for many messages."""
        async for answer in self._stream("StreamDecode", messages, grpc_context):
            yield answer

    async def StreamExtractFeatures(  # noqa: N802
        self, messages: Any, grpc_context: Any
    ) -> AsyncIterator[Message]:
        """ExtractFeatures, for many messages."""
        async for answer in self._stream("StreamExtractFeatures", messages, grpc_context):
            yield answer

    async def StreamSample(  # noqa: N802
        self, messages: Any, grpc_context: Any
    ) -> AsyncIterator[Message]:
        """Sample, for many messages."""
        async for answer in self._stream("StreamSample", messages, grpc_context):
            yield answer

    async def _answer(self, method: str, request: Message, given: Any) -> Message:
        """The answer of a call; of one that ended with a status an empty one, which stays here:
        what is raised would reach the caller without the status's details.
        """
        context = _Context(given)
        try:
            await self._check_token(given, context)
            await self._check_size(request, context)
            answer: Message = await getattr(self._servicer, method)(request, context)
            return answer
        except _CallEndedError:
            return _answer_type(method)()

    async def _stream(self, method: str, messages: Any, given: Any) -> AsyncIterator[Message]:
        context = _Context(given)
        await self._check_token(given, context)
        checked = self._checked(messages, context)
        async for answer in getattr(self._servicer, method)(checked, context):
            yield answer

    async def _checked(self, messages: Any, context: _Context) -> AsyncIterator[Message]:
        async for message in messages:
            await self._check_size(message, context)
            yield message

    async def _check_token(self, given: Any, context: _Context) -> None:
        if self._access is None:
            return
        try:
            self._access.token_of(authorizations(given.invocation_metadata()))
        except UnauthenticatedError as error:
            await context.end(status_of(error))

    async def _check_size(self, message: Message, context: _Context) -> None:
        """Ray's proxy takes messages of any size."""
        size = message.ByteSize()
        set_wire_bytes(size)
        if size > self._message_bytes:
            text = f"a message of {size:,} bytes; at most {self._message_bytes:,}"
            await context.end(status_of(LimitError(text)))


def build(arguments: Arguments) -> serve.Application:
    """The application, of a config file's `args`."""
    # Not as a decorator: under its own name the class is sent to workers as a name alone.
    deployment: Any = serve.deployment(
        RayCodecService,
        name="CodecService",
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=64,
    )
    application: serve.Application = deployment.bind(arguments.settings())
    return application


def _answer_type(method: str) -> Callable[[], Message]:
    name = _SERVICE.methods_by_name[method].output_type.name
    found: Callable[[], Message] = getattr(codec_pb2, name)
    return found
