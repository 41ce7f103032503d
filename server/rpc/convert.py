"""Between the messages of `codec.proto` and arrays."""

from typing import Any, Final

import numpy as np

from hvae_codec import Codec, Features, ModelInfo
from hvae_codec.codec.bitstream.header import Frame, verify_file
from hvae_codec.codec.images.load import as_uint8, check_size
from hvae_codec.codec.images.sniff import read_image_header
from hvae_codec.errors import ImageError
from hvae_codec.v1 import codec_pb2

from ..engine.operations import Picture
from ..errors import InvalidRequestError

EMPTY: Final = "the image is empty: set `file` or `raw`"

Shape = tuple[int, int, int]
"""Height, width and channels of an image."""

_ITEM_OVERHEAD_BYTES: Final = 64
"""Tags, lengths and sizes around the samples of one result, at most."""

_PNG_OVERHEAD_BYTES: Final = 128
"""Signature, header and end of a PNG file, at most."""


def from_raw(raw: codec_pb2.RawImage) -> Picture:
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


def pixels_of_file(data: bytes) -> int:
    """Pixels of an image, from the header of its file, before its samples are decoded.

    Raises ImageError, ImageTooLargeError.
    """
    header = read_image_header(data)
    check_size(header.width, header.height)
    return header.width * header.height


def check_known(field: str, value: int, kind: Any) -> None:
    """Refuse a value of an enum that this version of the contract does not know."""
    if value not in kind.values():
        known = ", ".join(kind.keys())
        raise InvalidRequestError(f"{field}: unknown value {value}, known are {known}")


def fill_raw(image: codec_pb2.Image, picture: Picture) -> None:
    """Put an image's samples into a message, in place: they are many, and copied once."""
    raw = image.raw
    raw.height, raw.width, raw.channels = picture.shape
    raw.data = picture.tobytes()


def result_bytes(shape: Shape, image_format: codec_pb2.ImageFormat) -> int:
    """Most bytes that a result with an image of `shape` can take.

    For PNG this is the case in which nothing compresses: one filter byte a row, and what deflate
    and the chunks add to noise (measured: at most 0.14 %).
    """
    height, width, channels = shape
    samples = height * width * channels
    if image_format == codec_pb2.IMAGE_FORMAT_RAW:
        return samples + _ITEM_OVERHEAD_BYTES
    rows = samples + height
    return rows + rows // 500 + _PNG_OVERHEAD_BYTES + _ITEM_OVERHEAD_BYTES


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


_DTYPES: Final = {
    codec_pb2.FEATURE_ENCODING_FLOAT32: "<f4",
    codec_pb2.FEATURE_ENCODING_FLOAT16: "<f2",
}


def to_feature_result(
    features: Features,
    moments: codec_pb2.FeatureMoments,
    encoding: codec_pb2.FeatureEncoding,
) -> codec_pb2.FeatureResult:
    """Message of the features [1, D] of one image, as the request asked for them."""
    mean, std = features.mean[0], features.std[0]
    result = codec_pb2.FeatureResult()
    dtype = _DTYPES.get(encoding)
    if dtype is None:
        result.mean.extend(mean.tolist())
    else:
        result.mean_bytes = mean.astype(dtype).tobytes()
    if moments == codec_pb2.FEATURE_MOMENTS_MEAN:
        return result
    if dtype is None:
        result.std.extend(std.tolist())
    else:
        result.std_bytes = std.astype(dtype).tobytes()
    return result


def to_description(info: ModelInfo) -> codec_pb2.ModelDescription:
    """Message of what is known of a model."""
    channels, height, width = info.image_shape
    return codec_pb2.ModelDescription(
        name=info.name,
        quality=info.quality,
        model_id=info.model_id,
        spec_name=info.spec_name,
        height=height,
        width=width,
        channels=channels,
        latent_dims=info.z_dims,
        rates_nats=info.rates_nats,
        payload_bytes=info.payload_bytes,
        psnr_db=info.psnr_db,
        continuous_quality=info.continuous,
    )
