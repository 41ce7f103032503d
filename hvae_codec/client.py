"""Clients of the gRPC service: arrays and bytes in, arrays and bytes out.

    with Client("127.0.0.1:50051") as client:
        blobs = client.encode(["photo.jpg", array], model="cifar10", quality=3)
        pictures = client.decode(blobs)

`AsyncClient` has the same methods as coroutines. Where the server refuses an input, both raise the
class of `hvae_codec.errors` that the codec itself would raise in this process, its message led by
the item's place in the request; every other failure is a `ServiceError`.
"""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self, cast

import grpc
import numpy as np
from google.protobuf.message import Message
from grpc_status import rpc_status
from numpy.typing import NDArray

from hvae_codec import client_messages as messages
from hvae_codec import error_info
from hvae_codec.client_messages import Pictures, RemoteModel, Transfer
from hvae_codec.codec.latents import Features
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

__all__ = ["AsyncClient", "Client", "Pictures", "RemoteModel", "ServiceError", "Transfer"]

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
DEFAULT_MESSAGE_BYTES: Final = 4 * 1024 * 1024


class ServiceError(RuntimeError):
    """A call failed for a reason that is not an error of the codec; `code` is the gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


def _channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A proxy from the environment would be asked for loopback addresses too.
        ("grpc.enable_http_proxy", 0),
    ]


def _translated(error: grpc.RpcError, target: str, timeout: float | None) -> Exception:
    """The exception that a client raises for a failed call."""
    code: grpc.StatusCode = error.code()
    details: str = error.details() or "no details"
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except ValueError:
        status = None
    if status is not None and (library_class := error_info.library_class(status)) is not None:
        return library_class(details)
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServiceError(f"no server at {target} takes this call: {details}", code)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServiceError(f"no answer from {target} within {timeout} s", code)
    return ServiceError(f"call to {target} failed with {code.name}: {details}", code)


class Client:
    """A connection to one server; share it between threads, and close it or use it with `with`.

    Args:
        target: HOST:PORT.
        timeout: seconds that a call may take where the call itself does not say, None for no limit.
        max_message_bytes: largest message either way; the server has a limit of its own.

    All methods raise the classes of `hvae_codec.errors` for inputs that the codec refuses, and
    ServiceError for everything else. `quality` None means the middle rung of the model's ladder, or
    the default of a model with all qualities from 1 to 100; `timeout` is in seconds, and where it
    is None, the client's holds.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = DEFAULT_MESSAGE_BYTES,
    ) -> None:
        self.target = target
        self._timeout = timeout
        self._channel = grpc.insecure_channel(target, _channel_options(max_message_bytes))
        self._stub = codec_pb2_grpc.CodecServiceStub(self._channel)  # type: ignore[no-untyped-call]

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
        self._channel.close()

    def _call(self, method: Any, request: Message, timeout: float | None) -> Any:
        timeout = self._timeout if timeout is None else timeout
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _translated(error, self.target, timeout) from error

    def models(self, *, timeout: float | None = None) -> list[RemoteModel]:
        """The models of the server."""
        request = codec_pb2.ListModelsRequest()
        return messages.models_of(self._call(self._stub.ListModels, request, timeout))

    def encode(
        self,
        pictures: Pictures,
        *,
        model: str,
        quality: int | None = None,
        timeout: float | None = None,
    ) -> list[bytes]:
        """Pictures to `.hvae` files, in order; pictures are all that `Codec.encode` takes, or bytes
        of PNG, JPEG and WebP files."""
        request = messages.encode_request(pictures, model, quality)
        return messages.encoded_of(self._call(self._stub.Encode, request, timeout))

    def decode(
        self,
        encoded: Iterable[bytes],
        *,
        transfer: Transfer = "raw",
        timeout: float | None = None,
    ) -> list[NDArray[np.uint8]]:
        """`.hvae` files to pictures uint8 [H, W, C], in order; each file names its model itself."""
        request = messages.decode_request(encoded, transfer, preview=False)
        return messages.pictures_of(self._call(self._stub.Decode, request, timeout))

    def preview(
        self,
        encoded: Iterable[bytes],
        *,
        transfer: Transfer = "raw",
        timeout: float | None = None,
    ) -> list[NDArray[np.uint8]]:
        """Rough pictures uint8 [H, W, C] from the top layer alone, in order."""
        request = messages.decode_request(encoded, transfer, preview=True)
        return messages.pictures_of(self._call(self._stub.Decode, request, timeout))

    def features(
        self,
        pictures: Pictures,
        *,
        model: str,
        quality: int | None = None,
        timeout: float | None = None,
    ) -> Features:
        """Mean and standard deviation of the top layer of pictures, float32 [N, D] each."""
        request = messages.features_request(pictures, model, quality)
        return messages.features_of(self._call(self._stub.ExtractFeatures, request, timeout))

    def features_from_bytes(
        self, encoded: Iterable[bytes], *, timeout: float | None = None
    ) -> Features:
        """Mean and standard deviation of the top layer from `.hvae` files, float32 [N, D] each."""
        request = messages.file_features_request(encoded)
        return messages.features_of(self._call(self._stub.ExtractFeatures, request, timeout))

    def sample(
        self,
        count: int,
        *,
        model: str,
        quality: int | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        transfer: Transfer = "raw",
        timeout: float | None = None,
    ) -> NDArray[np.uint8]:
        """`count` pictures drawn from the prior, uint8 [count, H, W, C]."""
        request = messages.sample_request(count, model, quality, seed, temperature, transfer)
        return np.stack(messages.pictures_of(self._call(self._stub.Sample, request, timeout)))


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and errors, every method a coroutine.

    Make it inside the event loop that uses it, and close it or use it with `async with`.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = DEFAULT_MESSAGE_BYTES,
    ) -> None:
        self.target = target
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(target, _channel_options(max_message_bytes))
        self._stub = codec_pb2_grpc.CodecServiceStub(self._channel)  # type: ignore[no-untyped-call]

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
        await self._channel.close(None)

    async def _call(self, method: Any, request: Message, timeout: float | None) -> Any:
        timeout = self._timeout if timeout is None else timeout
        try:
            return await method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _translated(error, self.target, timeout) from error

    async def models(self, *, timeout: float | None = None) -> list[RemoteModel]:
        """As `Client.models`."""
        request = codec_pb2.ListModelsRequest()
        return messages.models_of(await self._call(self._stub.ListModels, request, timeout))

    async def encode(
        self,
        pictures: Pictures,
        *,
        model: str,
        quality: int | None = None,
        timeout: float | None = None,
    ) -> list[bytes]:
        """As `Client.encode`."""
        request = messages.encode_request(pictures, model, quality)
        return messages.encoded_of(await self._call(self._stub.Encode, request, timeout))

    async def decode(
        self,
        encoded: Iterable[bytes],
        *,
        transfer: Transfer = "raw",
        timeout: float | None = None,
    ) -> list[NDArray[np.uint8]]:
        """As `Client.decode`."""
        request = messages.decode_request(encoded, transfer, preview=False)
        return messages.pictures_of(await self._call(self._stub.Decode, request, timeout))

    async def preview(
        self,
        encoded: Iterable[bytes],
        *,
        transfer: Transfer = "raw",
        timeout: float | None = None,
    ) -> list[NDArray[np.uint8]]:
        """As `Client.preview`."""
        request = messages.decode_request(encoded, transfer, preview=True)
        return messages.pictures_of(await self._call(self._stub.Decode, request, timeout))

    async def features(
        self,
        pictures: Pictures,
        *,
        model: str,
        quality: int | None = None,
        timeout: float | None = None,
    ) -> Features:
        """As `Client.features`."""
        request = messages.features_request(pictures, model, quality)
        return messages.features_of(await self._call(self._stub.ExtractFeatures, request, timeout))

    async def features_from_bytes(
        self, encoded: Iterable[bytes], *, timeout: float | None = None
    ) -> Features:
        """As `Client.features_from_bytes`."""
        request = messages.file_features_request(encoded)
        return messages.features_of(await self._call(self._stub.ExtractFeatures, request, timeout))

    async def sample(
        self,
        count: int,
        *,
        model: str,
        quality: int | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        transfer: Transfer = "raw",
        timeout: float | None = None,
    ) -> NDArray[np.uint8]:
        """As `Client.sample`."""
        request = messages.sample_request(count, model, quality, seed, temperature, transfer)
        return np.stack(messages.pictures_of(await self._call(self._stub.Sample, request, timeout)))
