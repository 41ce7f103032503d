"""`CodecService` over grpc.aio: keeps the event loop free and turns errors into statuses."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

from .batches import Call
from .handlers import Handlers
from .limits import Limits
from .status import status_of

_logger = logging.getLogger(__name__)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]


class CodecServicer(codec_pb2_grpc.CodecServiceServicer):
    """The five calls. All that computes runs on `worker`, one call at a time."""

    def __init__(
        self,
        handlers: Handlers,
        limits: Limits,
        models: codec_pb2.ListModelsResponse,
        worker: Executor,
    ) -> None:
        self._handlers = handlers
        self._limits = limits
        self._models = models
        self._worker = worker

    # The names are those of the contract's methods.
    async def Encode(  # noqa: N802
        self, request: codec_pb2.EncodeRequest, context: Context
    ) -> codec_pb2.EncodeResponse:
        """Encode pictures."""
        return await self._answer(self._handlers.encode, request, context)

    async def Decode(  # noqa: N802
        self, request: codec_pb2.DecodeRequest, context: Context
    ) -> codec_pb2.DecodeResponse:
        """Decode files, whole or as previews."""
        return await self._answer(self._handlers.decode, request, context)

    async def ExtractFeatures(  # noqa: N802
        self, request: codec_pb2.ExtractFeaturesRequest, context: Context
    ) -> codec_pb2.ExtractFeaturesResponse:
        """Read features of pictures and files."""
        return await self._answer(self._handlers.extract_features, request, context)

    async def Sample(  # noqa: N802
        self, request: codec_pb2.SampleRequest, context: Context
    ) -> codec_pb2.SampleResponse:
        """Draw pictures from a prior."""
        return await self._answer(self._handlers.sample, request, context)

    async def ListModels(  # noqa: N802
        self, request: codec_pb2.ListModelsRequest, context: Context
    ) -> codec_pb2.ListModelsResponse:
        """List the models; they are fixed while the server runs."""
        return self._models

    async def _answer(
        self,
        handler: Callable[[Request, Call], Response],
        request: Request,
        context: Context,
    ) -> Response:
        """Run a handler on the worker; its errors end the call with their status."""
        call = Call()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker, self._handle, handler, request, call)
        except asyncio.CancelledError:
            call.end()
            raise
        except Exception as error:
            status = status_of(error)
            if status.code is grpc.StatusCode.INTERNAL:
                _logger.exception("%s failed", type(request).__name__)
            await context.abort(status.code, status.details, status.trailing_metadata)

    def _handle(
        self, handler: Callable[[Request, Call], Response], request: Request, call: Call
    ) -> Response:
        call.check()
        response = handler(request, call)
        # Encoded bytes have no size that is known beforehand, so this check comes last.
        self._limits.check_response(response.ByteSize())
        return response
