"""`AsyncClient`: the client of the gRPC service for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, TypeAlias, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from hvae_codec.client.base import OnError, Raise, Return
from hvae_codec.client.runners import LoopClient
from hvae_codec.client.sans_io import convert, protocol, requests
from hvae_codec.client.sans_io.convert import (
    Given,
    Picture,
    Pictures,
    RemoteEvaluation,
    RemoteLimits,
    RemoteModel,
    Transfer,
)
from hvae_codec.client.sans_io.requests import (
    DecodeOptions,
    EncodeOptions,
    FeatureOptions,
    FileFeatureOptions,
)
from hvae_codec.codec.features import Features
from hvae_codec.v1 import codec_pb2

Array = NDArray[np.uint8]
ManyPictures: TypeAlias = "Pictures | AsyncIterable[Picture]"
ManyFiles: TypeAlias = Iterable[bytes] | AsyncIterable[bytes]


class AsyncClient(LoopClient):
    """`Client` for asyncio: the same arguments and errors, every method a coroutine.

    Those ending in `_stream` are asynchronous generators, and take asynchronous iterables too, each
    read in a task of its own; one that is left before its end wants closing, as by
    `contextlib.aclosing`. Files of paths are read in the event loop. It belongs to the event loop
    of its first call; close it or use it with `async with`.
    """

    async def models(self, *, timeout: float | None = None) -> list[RemoteModel]:
        """As `Client.models`."""
        answer = await self._one("ListModels", codec_pb2.ListModelsRequest(), timeout)
        return [convert.model_of(model) for model in answer.models]

    async def limits(self, *, timeout: float | None = None) -> RemoteLimits:
        """As `Client.limits`."""
        return convert.limits_of(
            await self._one("ListModels", codec_pb2.ListModelsRequest(), timeout)
        )

    async def model(
        self, name: str, quality: float | None = None, *, timeout: float | None = None
    ) -> RemoteModel:
        """As `Client.model`."""
        request = codec_pb2.GetModelRequest(model=convert.selector(name, quality))
        return convert.model_of((await self._one("GetModel", request, timeout)).model)

    @overload
    async def encode(
        self, pictures: Pictures, *, on_error: Raise = ..., **options: Unpack[EncodeOptions]
    ) -> list[bytes]: ...
    @overload
    async def encode(
        self, pictures: Pictures, *, on_error: Return, **options: Unpack[EncodeOptions]
    ) -> list[bytes | Exception]: ...
    async def encode(
        self, pictures: Pictures, *, on_error: OnError = "raise", **options: Unpack[EncodeOptions]
    ) -> list[Any]:
        """As `Client.encode`."""
        convert.check_pictures(pictures)
        return await self._all(requests.encode(**options), pictures, on_error)

    @overload
    async def decode(
        self, encoded: Iterable[bytes], *, on_error: Raise = ..., **options: Unpack[DecodeOptions]
    ) -> list[Array]: ...
    @overload
    async def decode(
        self, encoded: Iterable[bytes], *, on_error: Return, **options: Unpack[DecodeOptions]
    ) -> list[Array | Exception]: ...
    async def decode(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: OnError = "raise",
        **options: Unpack[DecodeOptions],
    ) -> list[Any]:
        """As `Client.decode`."""
        convert.check_files(encoded)
        return await self._all(requests.decode(preview=False, **options), encoded, on_error)

    @overload
    async def preview(
        self, encoded: Iterable[bytes], *, on_error: Raise = ..., **options: Unpack[DecodeOptions]
    ) -> list[Array]: ...
    @overload
    async def preview(
        self, encoded: Iterable[bytes], *, on_error: Return, **options: Unpack[DecodeOptions]
    ) -> list[Array | Exception]: ...
    async def preview(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: OnError = "raise",
        **options: Unpack[DecodeOptions],
    ) -> list[Any]:
        """As `Client.preview`."""
        convert.check_files(encoded)
        return await self._all(requests.decode(preview=True, **options), encoded, on_error)

    @overload
    async def features(
        self, pictures: Pictures, *, on_error: Raise = ..., **options: Unpack[FeatureOptions]
    ) -> Features: ...
    @overload
    async def features(
        self, pictures: Pictures, *, on_error: Return, **options: Unpack[FeatureOptions]
    ) -> list[Features | Exception]: ...
    async def features(
        self, pictures: Pictures, *, on_error: OnError = "raise", **options: Unpack[FeatureOptions]
    ) -> Any:
        """As `Client.features`."""
        convert.check_pictures(pictures)
        return await self._features(requests.features(**options), pictures, on_error)

    @overload
    async def features_from_bytes(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: Raise = ...,
        **options: Unpack[FileFeatureOptions],
    ) -> Features: ...
    @overload
    async def features_from_bytes(
        self, encoded: Iterable[bytes], *, on_error: Return, **options: Unpack[FileFeatureOptions]
    ) -> list[Features | Exception]: ...
    async def features_from_bytes(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: OnError = "raise",
        **options: Unpack[FileFeatureOptions],
    ) -> Any:
        """As `Client.features_from_bytes`."""
        convert.check_files(encoded)
        return await self._features(requests.features(model=None, **options), encoded, on_error)

    async def sample(
        self,
        count: int,
        *,
        model: str,
        quality: float | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        transfer: Transfer = "raw",
        given: Given | None = None,
        between: tuple[Picture, Picture] | None = None,
        timeout: float | None = None,
    ) -> Array:
        """As `Client.sample`."""
        request = convert.sample_request(
            count, model, quality, seed, temperature, transfer, given, between
        )
        return await self._run(protocol.drawn(request, self._tries(timeout)))

    async def evaluate(
        self,
        picture: Picture,
        *,
        model: str,
        quality: float | None = None,
        target_bytes: int | None = None,
        target_psnr: float | None = None,
        transfer: Transfer = "raw",
        timeout: float | None = None,
    ) -> RemoteEvaluation:
        """As `Client.evaluate`."""
        request = convert.evaluate_request(
            picture, model, quality, target_bytes, target_psnr, transfer
        )
        tries = self._tries(timeout)
        tries.allow(requests.search_seconds(request.model, request.image))
        return convert.evaluation_of(await self._run(protocol.one_call("Evaluate", request, tries)))

    @overload
    def encode_stream(
        self, pictures: ManyPictures, *, on_error: Raise = ..., **options: Unpack[EncodeOptions]
    ) -> AsyncGenerator[bytes, None]: ...
    @overload
    def encode_stream(
        self, pictures: ManyPictures, *, on_error: Return, **options: Unpack[EncodeOptions]
    ) -> AsyncGenerator[bytes | Exception, None]: ...
    def encode_stream(
        self,
        pictures: ManyPictures,
        *,
        on_error: OnError = "raise",
        **options: Unpack[EncodeOptions],
    ) -> AsyncGenerator[Any, None]:
        """As `Client.encode_stream`."""
        convert.check_pictures(pictures)
        return self._stream(requests.encode(**options), pictures, on_error)

    @overload
    def decode_stream(
        self, encoded: ManyFiles, *, on_error: Raise = ..., **options: Unpack[DecodeOptions]
    ) -> AsyncGenerator[Array, None]: ...
    @overload
    def decode_stream(
        self, encoded: ManyFiles, *, on_error: Return, **options: Unpack[DecodeOptions]
    ) -> AsyncGenerator[Array | Exception, None]: ...
    def decode_stream(
        self,
        encoded: ManyFiles,
        *,
        on_error: OnError = "raise",
        **options: Unpack[DecodeOptions],
    ) -> AsyncGenerator[Any, None]:
        """As `Client.decode_stream`."""
        convert.check_files(encoded)
        return self._stream(requests.decode(preview=False, **options), encoded, on_error)

    @overload
    def preview_stream(
        self, encoded: ManyFiles, *, on_error: Raise = ..., **options: Unpack[DecodeOptions]
    ) -> AsyncGenerator[Array, None]: ...
    @overload
    def preview_stream(
        self, encoded: ManyFiles, *, on_error: Return, **options: Unpack[DecodeOptions]
    ) -> AsyncGenerator[Array | Exception, None]: ...
    def preview_stream(
        self,
        encoded: ManyFiles,
        *,
        on_error: OnError = "raise",
        **options: Unpack[DecodeOptions],
    ) -> AsyncGenerator[Any, None]:
        """As `Client.preview_stream`."""
        convert.check_files(encoded)
        return self._stream(requests.decode(preview=True, **options), encoded, on_error)

    @overload
    def features_stream(
        self, pictures: ManyPictures, *, on_error: Raise = ..., **options: Unpack[FeatureOptions]
    ) -> AsyncGenerator[Features, None]: ...
    @overload
    def features_stream(
        self, pictures: ManyPictures, *, on_error: Return, **options: Unpack[FeatureOptions]
    ) -> AsyncGenerator[Features | Exception, None]: ...
    def features_stream(
        self,
        pictures: ManyPictures,
        *,
        on_error: OnError = "raise",
        **options: Unpack[FeatureOptions],
    ) -> AsyncGenerator[Any, None]:
        """As `Client.features_stream`."""
        convert.check_pictures(pictures)
        return self._stream(requests.features(**options), pictures, on_error)
