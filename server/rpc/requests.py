"""What requests hold, checked: which codec they mean, their images and files, and their memory."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

import hvae_codec
from hvae_codec import Codec
from hvae_codec.codec.bitstream.header import Frame, verify_file
from hvae_codec.codec.images.limits import check_size
from hvae_codec.codec.images.load import as_uint8, decode_image_bytes
from hvae_codec.codec.images.sniff import read_image_header
from hvae_codec.codec.model_choice import AUTO
from hvae_codec.codec.registry import codec_of, model_for
from hvae_codec.errors import HvaeCodecError, ImageError, InputWarning
from hvae_codec.grpc_error_info import reason_of
from hvae_codec.utils.cancellation import check
from hvae_codec.v1 import codec_pb2

from ..admission.capacity import Held
from ..engine.engine import Engine
from ..engine.operations import ImageArray
from ..errors import InvalidRequestError, LimitError
from ..settings import Limits

MAX_EFFORT: Final = 2
_TARGETS: Final = ("target_bytes", "target_psnr")

Shape = tuple[int, int, int]
"""Height, width and channels of an image."""


_MESSAGE_COPIES: Final = 2
"""gRPC keeps the bytes of a message that it has parsed until its call has ended."""

_ANSWER_COPIES: Final = 3
"""As a message, as the bytes that it is written to, and as those that the transport sends."""

_PIXEL_BYTES: Final = 3
_READER_PIXEL_BYTES: Final = 4
"""Of the image library, while it reads a file beside the array that it gives."""


def message_footprint(size: int) -> int:
    """Bytes of memory of a request whose message has `size` bytes on the wire."""
    return _MESSAGE_COPIES * size


def answer_footprint(size: int) -> int:
    """Bytes of memory of an answer whose message has at most `size` bytes."""
    return _ANSWER_COPIES * size


def sample_footprint(pixels: int) -> int:
    """Bytes of memory of images of `pixels` pixels together, decoded."""
    return _PIXEL_BYTES * pixels


def file_footprint(pixels: int) -> int:
    """Bytes of memory of image files of `pixels` pixels together that are being decoded."""
    return (_PIXEL_BYTES + _READER_PIXEL_BYTES) * pixels


def check_items(limits: Limits, field: str, count: int) -> None:
    """Raise InvalidRequestError for no items in `field`, LimitError for too many."""
    if count < 1:
        raise InvalidRequestError(f"{field}: the request has none, at least 1 is needed")
    if count > limits.items:
        raise LimitError(
            f"{field}: {count:,} items in one call, this server allows {limits.items:,}; "
            "send them in several calls"
        )


def check_pixels(limits: Limits, pixels: int) -> None:
    """Raise LimitError for too many pixels of a call's images together."""
    if pixels > limits.pixels:
        raise LimitError(
            f"the images of this call have {pixels:,} pixels or more, this server allows "
            f"{limits.pixels:,} in one call; send fewer at a time"
        )


def check_response(limits: Limits, response_bytes: int) -> None:
    """Raise LimitError for an answer that would not fit into one message."""
    if response_bytes > limits.message_bytes:
        raise LimitError(
            f"the answer may take {response_bytes:,} bytes, this server allows "
            f"{limits.message_bytes:,} in one message; ask for fewer items in one call"
        )


@dataclass(frozen=True)
class Target:
    """What `hvae_codec.encode` searches for: its arguments beside image and model."""

    arguments: dict[str, Any]

    def encode(self, image: ImageArray, name: str) -> bytes:
        """An image by a model of that name. Raises RateError and what else that raises."""
        return hvae_codec.encode(image, name, **self.arguments)


@dataclass(frozen=True)
class Encoding:
    """How the images of a request are to be encoded."""

    name: str
    quality: float | None
    effort: int | None
    target: Target | None

    def model_of(self, image: ImageArray) -> str:
        """The name of the model that takes an image."""
        return model_for(*image.shape[:2]) if self.name == AUTO else self.name


def encoding_of(
    selector: codec_pb2.ModelSelector, effort: int | None = None, max_bytes: int = 0
) -> Encoding:
    """What a request says of its encoding.

    Raises InvalidRequestError where that contradicts itself.
    """
    name = _name_of(selector)
    if effort is not None and effort > MAX_EFFORT:
        raise InvalidRequestError(f"effort: 0 to {MAX_EFFORT}, got {effort}")
    kind = selector.WhichOneof("rung")
    wanted: dict[str, Any] = {kind: getattr(selector, kind)} if kind in _TARGETS else {}
    if max_bytes:
        if kind is not None and kind not in _TARGETS:
            raise InvalidRequestError(
                "max_bytes: give it by itself or beside a target, not a quality"
            )
        wanted["max_bytes"] = max_bytes
    if not wanted:
        return Encoding(name, _quality_of(selector), effort, None)
    if any(not 0 < value < float("inf") for value in wanted.values()):
        raise InvalidRequestError(f"model: targets are above 0 and finite, got {wanted}")
    if effort == 0:
        raise InvalidRequestError("effort: a target takes 1 or 2, got 0")
    return Encoding(name, None, effort, Target(wanted | ({"effort": effort} if effort else {})))


class Codecs:
    """The codecs of this process, loaded beside the event loop when they are first asked for."""

    def __init__(self) -> None:
        self._loaded: dict[object, Codec] = {}

    async def selected(self, selector: codec_pb2.ModelSelector) -> Codec:
        """The codec that a request names.

        Raises InvalidRequestError where it names none or a target, UnknownModelError and
        UnknownQualityError.
        """
        refuse_targets(selector)
        return await self.named(_name_of(selector), _quality_of(selector))

    async def named(self, name: str, quality: float | None = None) -> Codec:
        """`hvae_codec.load`."""
        key = (name, quality)
        if key not in self._loaded:
            codec = await asyncio.to_thread(partial(hvae_codec.load, name, quality))
            if quality is not None and not float(quality).is_integer():
                return codec  # there are more of these than are worth keeping
            self._loaded[key] = codec
        return self._loaded[key]

    async def of_id(self, model_id: bytes) -> Codec:
        """The codec of the model with this id, as files state it. Raises UnknownModelError."""
        if model_id not in self._loaded:
            self._loaded[model_id] = await asyncio.to_thread(codec_of, model_id)
        return self._loaded[model_id]


def refuse_targets(selector: codec_pb2.ModelSelector) -> None:
    """Raise InvalidRequestError where a target is given in place of a quality."""
    if (kind := selector.WhichOneof("rung")) in _TARGETS:
        raise InvalidRequestError(f"model: {kind} is for Encode and Evaluate only")


def _name_of(selector: codec_pb2.ModelSelector) -> str:
    if not selector.name:
        raise InvalidRequestError("model: the name is missing; ListModels gives the names")
    return selector.name


def _quality_of(selector: codec_pb2.ModelSelector) -> float | None:
    kind = selector.WhichOneof("rung")
    return None if kind is None else getattr(selector, kind)


def layer_index(codec: Codec, layer: int) -> int:
    """Index, top first, of the layer z_`layer`; 0 is the top one.

    Raises InvalidRequestError where the model has no such layer.
    """
    total = len(codec.info.z_dims)
    if layer > total:
        raise InvalidRequestError(
            f"layer: model {codec.info.name!r} has z1 to z{total}, not z{layer}"
        )
    return 0 if layer == 0 else total - layer


def check_known(field: str, value: int, kind: Any) -> None:
    """Refuse a value of an enum that this version of the contract does not know."""
    if value not in kind.values():
        known = ", ".join(kind.keys())
        raise InvalidRequestError(f"{field}: unknown value {value}, known are {known}")


Warned = dict[int, list[codec_pb2.Warning]]
"""What was not taken of images, by their number in what is read."""


class ImageReader:
    """Reads images of requests; files (PNG, JPEG, WebP) in a thread beside the networks."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits

    async def read(
        self, messages: Sequence[codec_pb2.Image], held: Held, warned: Warned
    ) -> list[ImageArray | Exception]:
        """Samples of the images of a request, or the error of each that cannot be read; what was
        not taken of them is put into `warned`.

        Raises LimitError where their sizes together do not fit, and OverloadError as `held` does,
        before files are decoded.
        """
        images: list[ImageArray | Exception] = []
        pixels, file_pixels, files = 0, 0, []
        for number, message in enumerate(messages):
            try:
                kind = message.WhichOneof("content")
                if kind == "raw":
                    images.append(_from_raw(message.raw))
                    pixels += message.raw.height * message.raw.width
                elif kind == "file":
                    file_pixels += _pixels_of_file(message.file)
                    images.append(ImageError("not read yet"))
                    files.append(number)
                else:
                    raise InvalidRequestError("the image is empty: set `file` or `raw`")
            except HvaeCodecError as error:
                images.append(error)
        check_pixels(self._limits, pixels + file_pixels)
        await held.more(sample_footprint(pixels) + file_footprint(file_pixels))
        if files:
            found = await self._engine.on_files(_decoded, [messages[n].file for n in files])
            for number, (image, warnings) in zip(files, found, strict=True):
                images[number] = image
                if warnings:
                    warned[number] = [_warning_message(warning) for warning in warnings]
        return images


def _from_raw(raw: codec_pb2.RawImage) -> ImageArray:
    """Samples of a raw image.

    Raises ImageError, ImageTooLargeError.
    """
    height, width, channels, data = raw.height, raw.width, raw.channels, raw.data
    if len(data) != height * width * channels:
        check_size(width, height)
        raise ImageError(
            f"a raw image of height {height}, width {width} and {channels} channels "
            f"has {height * width * channels:,} bytes of data, got {len(data):,}"
        )
    return as_uint8(np.frombuffer(data, np.uint8).reshape(height, width, channels).copy())


def _pixels_of_file(data: bytes) -> int:
    """Pixels of an image, from the header of its file, before its samples are decoded.

    Raises ImageError, ImageTooLargeError.
    """
    header = read_image_header(data)
    check_size(header.width, header.height)
    return header.width * header.height


def _decoded(files: Sequence[bytes]) -> list[tuple[ImageArray | Exception, list[InputWarning]]]:
    images: list[tuple[ImageArray | Exception, list[InputWarning]]] = []
    for file in files:
        check()
        warnings: list[InputWarning] = []
        try:
            images.append((decode_image_bytes(file, warn=warnings.append), warnings))
        except HvaeCodecError as error:
            images.append((error, warnings))
    return images


def _warning_message(warning: InputWarning) -> codec_pb2.Warning:
    return codec_pb2.Warning(message=str(warning), reason=reason_of(type(warning)))


def shape_of(encoded: bytes, frame: Frame, codec: Codec, *, whole: bool) -> Shape:
    """Shape that an image will have once `codec` decodes it, from its bytes and their frame.

    `whole`: the bytes are a whole file, so that its check can be verified first, and a damaged
    size is found to be damage. Raises BitstreamError, and InvalidRequestError for a block.
    """
    if whole:
        verify_file(encoded, frame)
    if frame.header.block:
        raise InvalidRequestError(
            f"a block of {frame.header.count:,} images; this call takes files of one image"
        )
    height, width, channels, _ = codec.stated_shape(frame.header)
    return height, width, channels
