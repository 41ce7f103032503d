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
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pydantic import AliasChoices, ConfigDict, Field, create_model
from ray import serve

import hvae_codec
from hvae_codec.utils.options import arguments_of
from hvae_codec.utils.options import build as build_settings

from .admission.capacity import Admission
from .auth.access import Access
from .auth.file_watcher import watch
from .auth.token_file import TokenFile
from .engine.engine import Engine
from .errors import LimitError, UnauthenticatedError
from .rpc.methods import Calls
from .rpc.servicer import SERVICE, CodecServicer, wire_bytes
from .rpc.status import abort_with
from .settings import Settings

_DEFAULTS: Final[dict[str, Any]] = {"preload": ["cifar10"], "coding_processes": 1}
"""Of a replica, where they are not the server's."""

_ARGUMENTS: Final[dict[str, Any]] = {
    name: (
        each.kind,
        Field(
            _DEFAULTS.get(name, each.default),
            validation_alias=AliasChoices(name, each.old) if each.old else None,
        ),
    )
    for name, each in arguments_of(Settings).items()
    if name
    in {
        *("models", "preload", "coding_processes", "token_file"),
        *("max_message_bytes", "max_items", "max_pixels", "max_queued_items", "max_queued_bytes"),
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

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Ray sends none."""


class RayCodecService:
    """A replica. The methods' names are those of the contract."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]
        """Load models and bring the engine up; Ray sends calls when this is done.

        Raises:
            UnknownModelError, UnknownQualityError, CheckpointError: of the models to preload.
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
            self._watching = asyncio.create_task(watch([tokens]))
        for each in settings.preload or ():
            hvae_codec.load(each.name, each.quality)
        await self._engine.start()

    async def __del__(self) -> None:
        """Called by Ray when the replica stops and its calls have ended."""
        self._servicer.stop()
        await self._engine.stop()

    async def _answer(self, method: str, request: Message, given: Any) -> Message:
        """The answer of a call; of one that ended with a status an empty one, which stays here:
        what is raised would reach the caller without the status's details.
        """
        context: Any = _Context(given)
        try:
            await self._check_token(given, context)
            await self._check_size(request, context)
            return await self._servicer.answer(method, request, context)
        except _CallEndedError:
            return GetMessageClass(SERVICE.methods_by_name[method].output_type)()

    async def _stream(self, method: str, messages: Any, given: Any) -> AsyncIterator[Message]:
        context: Any = _Context(given)
        await self._check_token(given, context)
        checked = self._checked(messages, context)
        async for answer in self._servicer.stream(method, checked, context):
            yield answer

    async def _checked(self, messages: Any, context: _Context) -> AsyncIterator[Message]:
        async for message in messages:
            await self._check_size(message, context)
            yield message

    async def _check_token(self, given: Any, context: _Context) -> None:
        if self._access is None:
            return
        try:
            self._access.check("", given.invocation_metadata())
        except UnauthenticatedError as error:
            await abort_with(context, error)

    async def _check_size(self, message: Message, context: _Context) -> None:
        """Ray's proxy takes messages of any size."""
        size = message.ByteSize()
        wire_bytes.set(size)
        if size > self._message_bytes:
            text = f"a message of {size:,} bytes; at most {self._message_bytes:,}"
            await abort_with(context, LimitError(text))


def _add_method(name: str, *, stream: bool) -> None:
    """Give `RayCodecService` the method of the contract of this name."""

    async def answer(self: RayCodecService, request: Any, grpc_context: Any) -> Message:
        return await self._answer(name, request, grpc_context)

    async def answer_stream(
        self: RayCodecService, messages: Any, grpc_context: Any
    ) -> AsyncIterator[Message]:
        async for response in self._stream(name, messages, grpc_context):
            yield response

    setattr(RayCodecService, name, answer_stream if stream else answer)


for _method in SERVICE.methods:
    _add_method(_method.name, stream=_method.server_streaming)


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
