# Generated from aio/client.py by generate_blocking.py: change that one.
"""`Client`: the blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from hvae_codec.client import messages, outcomes, requests
from hvae_codec.client.base import OnError, Raise, Return
from hvae_codec.client.blocking.streams import StreamCalls
from hvae_codec.client.messages import (
    Given,
    Picture,
    Pictures,
    RemoteEvaluation,
    RemoteLimits,
    RemoteModel,
    Transfer,
)
from hvae_codec.client.requests import (
    DecodeOptions,
    EncodeOptions,
    FeatureOptions,
    FileFeatureOptions,
)
from hvae_codec.codec.features import Features
from hvae_codec.v1 import codec_pb2

Array = NDArray[np.uint8]


class Client(StreamCalls):
    """A connection to one server; share it between threads, and close it or use it with `with`.

    All methods raise the classes of `hvae_codec.errors` for inputs that the codec refuses, and
    ServiceError for everything else. `quality` None means the middle quality level of the model's
    model family, or the default of a model with all qualities from 1 to 100. With
    `on_error="return"`, items that fail do so alone: the list, or the stream, has the exception in
    their place. Requests of more items, pixels or bytes than the server takes in one call are sent
    in several. `timeout` is in seconds, over all tries; where it is None, the client's holds.

    The calls ending in `_stream` take any iterable, and yield the results
    in order. They read it only as far as messages are on their way. What is no list or array is
    read in a thread of its own, and results come while it has nothing more for the moment
    (`Streaming`). They have no timeout but their own. A stream that breaks is opened again, and
    goes on with the first message that was not answered.
    """

    def models(self, *, timeout: float | None = None) -> list[RemoteModel]:
        """The models of the server."""
        answer = self._one("ListModels", codec_pb2.ListModelsRequest(), self._tries(timeout))
        return [messages.model_of(model) for model in answer.models]

    def limits(self, *, timeout: float | None = None) -> RemoteLimits:
        """What the server takes in one call; calls of many items keep to it by themselves."""
        answer = self._one("ListModels", codec_pb2.ListModelsRequest(), self._tries(timeout))
        return messages.limits_of(answer)

    def model(
        self, name: str, quality: float | None = None, *, timeout: float | None = None
    ) -> RemoteModel:
        """One model of the server: UnknownModelError, UnknownQualityError where it has none."""
        request = codec_pb2.GetModelRequest(model=messages.selector(name, quality))
        answer = self._one("GetModel", request, self._tries(timeout))
        return messages.model_of(answer.model)

    @overload
    def encode(
        self, pictures: Pictures, *, on_error: Raise = ..., **options: Unpack[EncodeOptions]
    ) -> list[bytes]: ...
    @overload
    def encode(
        self, pictures: Pictures, *, on_error: Return, **options: Unpack[EncodeOptions]
    ) -> list[bytes | Exception]: ...
    def encode(
        self, pictures: Pictures, *, on_error: OnError = "raise", **options: Unpack[EncodeOptions]
    ) -> list[Any]:
        """Images to `.hvae` files, in order, as `EncodeOptions` say; images are all that
        `Codec.encode` takes, or bytes of PNG, JPEG and WebP files."""
        messages.check_pictures(pictures)
        return self._all(requests.encode(**options), pictures, on_error)

    @overload
    def decode(
        self, encoded: Iterable[bytes], *, on_error: Raise = ..., **options: Unpack[DecodeOptions]
    ) -> list[Array]: ...
    @overload
    def decode(
        self, encoded: Iterable[bytes], *, on_error: Return, **options: Unpack[DecodeOptions]
    ) -> list[Array | Exception]: ...
    def decode(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: OnError = "raise",
        **options: Unpack[DecodeOptions],
    ) -> list[Any]:
        """`.hvae` files to images uint8 [H, W, C], in order; each file names its model itself."""
        messages.check_files(encoded)
        return self._all(requests.decode(preview=False, **options), encoded, on_error)

    @overload
    def preview(
        self, encoded: Iterable[bytes], *, on_error: Raise = ..., **options: Unpack[DecodeOptions]
    ) -> list[Array]: ...
    @overload
    def preview(
        self, encoded: Iterable[bytes], *, on_error: Return, **options: Unpack[DecodeOptions]
    ) -> list[Array | Exception]: ...
    def preview(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: OnError = "raise",
        **options: Unpack[DecodeOptions],
    ) -> list[Any]:
        """Rough images uint8 [H, W, C] from the top layer alone, in order."""
        messages.check_files(encoded)
        return self._all(requests.decode(preview=True, **options), encoded, on_error)

    @overload
    def features(
        self, pictures: Pictures, *, on_error: Raise = ..., **options: Unpack[FeatureOptions]
    ) -> Features: ...
    @overload
    def features(
        self, pictures: Pictures, *, on_error: Return, **options: Unpack[FeatureOptions]
    ) -> list[Features | Exception]: ...
    def features(
        self, pictures: Pictures, *, on_error: OnError = "raise", **options: Unpack[FeatureOptions]
    ) -> Any:
        """Mean and standard deviation of a layer, the top one unless `FeatureOptions` say another,
        [N, D] each; of images or of bytes of `.hvae` files. With "return" [D] each, in a list."""
        messages.check_pictures(pictures)
        return self._features(requests.features(**options), pictures, on_error)

    @overload
    def features_from_bytes(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: Raise = ...,
        **options: Unpack[FileFeatureOptions],
    ) -> Features: ...
    @overload
    def features_from_bytes(
        self, encoded: Iterable[bytes], *, on_error: Return, **options: Unpack[FileFeatureOptions]
    ) -> list[Features | Exception]: ...
    def features_from_bytes(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: OnError = "raise",
        **options: Unpack[FileFeatureOptions],
    ) -> Any:
        """As `features`, of `.hvae` files or of their first bytes; each names its model itself."""
        messages.check_files(encoded)
        return self._features(requests.features(model=None, **options), encoded, on_error)

    def sample(
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
        """`count` images drawn from the prior, uint8 [count, H, W, C].

        The top layer is drawn too, unless it is `given`: as latents [D], or as an image or the
        bytes of a `.hvae` file that has them; or `between`: at equal distances on the straight
        line from that of one such image to that of another, both ends among them.
        """
        request = messages.sample_request(
            count, model, quality, seed, temperature, transfer, given, between
        )
        answer = self._one("Sample", request, self._tries(timeout))
        return outcomes.samples_of(answer, request.count)

    def evaluate(
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
        """What one image costs and how good it is; the model and its quality as for `encode`."""
        request = messages.evaluate_request(
            picture, model, quality, target_bytes, target_psnr, transfer
        )
        tries = self._tries(timeout)
        tries.allow(requests.search_seconds(request.model, request.image))
        return messages.evaluation_of(self._one("Evaluate", request, tries))

    @overload
    def encode_stream(
        self, pictures: Pictures, *, on_error: Raise = ..., **options: Unpack[EncodeOptions]
    ) -> Iterator[bytes]: ...
    @overload
    def encode_stream(
        self, pictures: Pictures, *, on_error: Return, **options: Unpack[EncodeOptions]
    ) -> Iterator[bytes | Exception]: ...
    def encode_stream(
        self,
        pictures: Pictures,
        *,
        on_error: OnError = "raise",
        **options: Unpack[EncodeOptions],
    ) -> Iterator[Any]:
        """As `encode`, for any number of images."""
        messages.check_pictures(pictures)
        return self._stream(requests.encode(**options), pictures, on_error)

    @overload
    def decode_stream(
        self, encoded: Iterable[bytes], *, on_error: Raise = ..., **options: Unpack[DecodeOptions]
    ) -> Iterator[Array]: ...
    @overload
    def decode_stream(
        self, encoded: Iterable[bytes], *, on_error: Return, **options: Unpack[DecodeOptions]
    ) -> Iterator[Array | Exception]: ...
    def decode_stream(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: OnError = "raise",
        **options: Unpack[DecodeOptions],
    ) -> Iterator[Any]:
        """As `decode`, for any number of files."""
        messages.check_files(encoded)
        return self._stream(requests.decode(preview=False, **options), encoded, on_error)

    @overload
    def preview_stream(
        self, encoded: Iterable[bytes], *, on_error: Raise = ..., **options: Unpack[DecodeOptions]
    ) -> Iterator[Array]: ...
    @overload
    def preview_stream(
        self, encoded: Iterable[bytes], *, on_error: Return, **options: Unpack[DecodeOptions]
    ) -> Iterator[Array | Exception]: ...
    def preview_stream(
        self,
        encoded: Iterable[bytes],
        *,
        on_error: OnError = "raise",
        **options: Unpack[DecodeOptions],
    ) -> Iterator[Any]:
        """As `preview`, for any number of files."""
        messages.check_files(encoded)
        return self._stream(requests.decode(preview=True, **options), encoded, on_error)

    @overload
    def features_stream(
        self, pictures: Pictures, *, on_error: Raise = ..., **options: Unpack[FeatureOptions]
    ) -> Iterator[Features]: ...
    @overload
    def features_stream(
        self, pictures: Pictures, *, on_error: Return, **options: Unpack[FeatureOptions]
    ) -> Iterator[Features | Exception]: ...
    def features_stream(
        self,
        pictures: Pictures,
        *,
        on_error: OnError = "raise",
        **options: Unpack[FeatureOptions],
    ) -> Iterator[Any]:
        """As `features`, for any number of images or of bytes of `.hvae` files; [D] each."""
        messages.check_pictures(pictures)
        return self._stream(requests.features(**options), pictures, on_error)
