"""Between what a client's caller holds (arrays, files, bytes) and the messages of `codec.proto`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.images import Picture as LocalPicture
from hvae_codec.codec.images import as_uint8, decode_image_bytes
from hvae_codec.codec.latents import Features
from hvae_codec.errors import ImageError
from hvae_codec.v1 import codec_pb2

Picture: TypeAlias = "LocalPicture | bytes"
"""One picture: whatever the codec accepts, or the bytes of a PNG, JPEG or WebP file."""

Pictures = Iterable[Picture] | NDArray[np.uint8]
"""Many pictures: any iterable, or a uint8 array [N, H, W, C]."""

Transfer = Literal["raw", "png"]
"""How pictures travel back: "raw" costs no time, "png" saves bytes."""

_FORMATS: Final[dict[Transfer, codec_pb2.ImageFormat]] = {
    "raw": codec_pb2.IMAGE_FORMAT_RAW,
    "png": codec_pb2.IMAGE_FORMAT_PNG,
}


class RemoteModel(NamedTuple):
    """A model of the server, with what was measured of it on its test images."""

    name: str
    quality: int
    model_id: str
    spec_name: str
    image_shape: tuple[int, int, int]
    """Channels, height, width of the pictures that the network itself takes."""
    z_dims: tuple[int, ...]
    """Dimensions of each latent layer, top first."""
    rates_nats: tuple[float, ...]
    """Mean rate of each latent layer in nats per picture, top first."""
    payload_bytes: float
    psnr_db: float
    continuous: bool
    """Whether the model has all qualities from 1 to 100, `quality` being its default."""


def _image(picture: Picture) -> codec_pb2.Image:
    """Message of one picture; files travel as they are, everything else raw."""
    if isinstance(picture, bytes):
        return codec_pb2.Image(file=picture)
    if isinstance(picture, str | os.PathLike):
        try:
            return codec_pb2.Image(file=Path(picture).read_bytes())
        except OSError as error:
            raise ImageError(f"cannot read {picture}: {error.strerror}") from error
    array = as_uint8(picture)
    height, width, channels = array.shape
    raw = codec_pb2.RawImage(height=height, width=width, channels=channels, data=array.tobytes())
    return codec_pb2.Image(raw=raw)


def _images(pictures: Pictures) -> list[codec_pb2.Image]:
    """Messages of many pictures; a single picture in their place is refused."""
    if isinstance(pictures, np.ndarray) and pictures.ndim != 4:
        raise ImageError(
            f"pictures must be an array [N, H, W, C] or a list, got shape {list(pictures.shape)}"
        )
    if isinstance(pictures, bytes | str | os.PathLike):
        raise ImageError(f"pictures must be a list, got one {type(pictures).__name__}")
    images = []
    for index, picture in enumerate(pictures):
        try:
            images.append(_image(picture))
        except ImageError as error:
            raise type(error)(f"images[{index}]: {error}") from error
    return images


def _files(encoded: Iterable[bytes] | bytes) -> list[bytes]:
    """Many encoded pictures; a single one in their place is refused."""
    if isinstance(encoded, bytes):
        raise TypeError("encoded pictures must be a list of bytes, got one bytes object")
    return list(encoded)


def _picture(image: codec_pb2.Image) -> NDArray[np.uint8]:
    """Samples, uint8 [H, W, C], of a picture in an answer."""
    if image.WhichOneof("content") == "file":
        return decode_image_bytes(image.file)
    raw = image.raw
    shape = (raw.height, raw.width, raw.channels)
    return np.frombuffer(raw.data, np.uint8).reshape(shape).copy()


def _selector(model: str, quality: int | None) -> codec_pb2.ModelSelector:
    return codec_pb2.ModelSelector(name=model, quality=quality)


def encode_request(pictures: Pictures, model: str, quality: int | None) -> codec_pb2.EncodeRequest:
    return codec_pb2.EncodeRequest(model=_selector(model, quality), images=_images(pictures))


def decode_request(
    encoded: Iterable[bytes], transfer: Transfer, preview: bool
) -> codec_pb2.DecodeRequest:
    return codec_pb2.DecodeRequest(
        encoded=_files(encoded), format=_FORMATS[transfer], preview=preview
    )


def features_request(
    pictures: Pictures, model: str, quality: int | None
) -> codec_pb2.ExtractFeaturesRequest:
    sources = [codec_pb2.FeatureSource(image=image) for image in _images(pictures)]
    return codec_pb2.ExtractFeaturesRequest(model=_selector(model, quality), sources=sources)


def file_features_request(encoded: Iterable[bytes]) -> codec_pb2.ExtractFeaturesRequest:
    sources = [codec_pb2.FeatureSource(encoded=file) for file in _files(encoded)]
    return codec_pb2.ExtractFeaturesRequest(sources=sources)


def sample_request(
    count: int, model: str, quality: int | None, seed: int, temperature: float, transfer: Transfer
) -> codec_pb2.SampleRequest:
    return codec_pb2.SampleRequest(
        model=_selector(model, quality),
        count=count,
        seed=seed,
        temperature=temperature,
        format=_FORMATS[transfer],
    )


def encoded_of(response: codec_pb2.EncodeResponse) -> list[bytes]:
    return [result.encoded for result in response.results]


def pictures_of(
    response: codec_pb2.DecodeResponse | codec_pb2.SampleResponse,
) -> list[NDArray[np.uint8]]:
    return [_picture(result.image) for result in response.results]


def features_of(response: codec_pb2.ExtractFeaturesResponse) -> Features:
    return Features(
        mean=np.array([result.mean for result in response.results], np.float32),
        std=np.array([result.std for result in response.results], np.float32),
    )


def models_of(response: codec_pb2.ListModelsResponse) -> list[RemoteModel]:
    return [
        RemoteModel(
            name=model.name,
            quality=model.quality,
            model_id=model.model_id,
            spec_name=model.spec_name,
            image_shape=(model.channels, model.height, model.width),
            z_dims=tuple(model.latent_dims),
            rates_nats=tuple(model.rates_nats),
            payload_bytes=model.payload_bytes,
            psnr_db=model.psnr_db,
            continuous=model.continuous_quality,
        )
        for model in response.models
    ]
