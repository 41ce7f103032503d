"""What responses hold: images, features and descriptions of models."""

from collections.abc import Collection, Sequence
from typing import Final

from hvae_codec import Features, ModelInfo
from hvae_codec.codec.images.load import encode_png
from hvae_codec.utils.cancellation import check
from hvae_codec.v1 import codec_pb2

from ..admission.capacity import Held
from ..engine.engine import Engine
from ..engine.operations import ImageArray
from ..settings import Limits
from .requests import (
    Shape,
    answer_footprint,
    check_pixels,
    check_response,
    sample_footprint,
)

_ITEM_OVERHEAD_BYTES: Final = 64
"""Tags, lengths and sizes around the samples of one result, at most."""

_PNG_OVERHEAD_BYTES: Final = 128
"""Signature, header and end of a PNG file, at most."""


class ImageWriter:
    """Writes images of responses; PNG files in a thread beside the networks."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits

    async def write(
        self,
        messages: Sequence[codec_pb2.Image],
        images: Sequence[ImageArray],
        image_format: codec_pb2.ImageFormat,
    ) -> None:
        """Put images into the messages of an answer, one into each."""
        both = zip(messages, images, strict=True)
        if image_format == codec_pb2.IMAGE_FORMAT_RAW:
            for message, image in both:
                _fill_raw(message, image)
            return
        files = await self._engine.on_files(_encoded, images)
        for (message, _), file in zip(both, files, strict=True):
            message.file = file

    async def hold_answer(
        self, shapes: Collection[Shape], image_format: codec_pb2.ImageFormat, held: Held
    ) -> int:
        """Hold what images of these shapes and the answer with them take; returns the answer's
        bytes at most.

        Raises LimitError for an answer with too many pixels or bytes of images, and OverloadError
        as `held` does.
        """
        pixels = sum(height * width for height, width, _ in shapes)
        check_pixels(self._limits, pixels)
        answer = sum(result_bytes(shape, image_format) for shape in shapes)
        check_response(self._limits, answer)
        await held.more(sample_footprint(pixels) + answer_footprint(answer))
        return answer


def _fill_raw(message: codec_pb2.Image, image: ImageArray) -> None:
    """Put an image's samples into a message, in place: they are many, and copied once."""
    raw = message.raw
    raw.height, raw.width, raw.channels = image.shape
    raw.data = image.tobytes()


def _encoded(images: Sequence[ImageArray]) -> list[bytes]:
    files = []
    for image in images:
        check()
        files.append(encode_png(image))
    return files


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
        arithmetic=info.arithmetic,
    )
