"""Images of requests and of answers: their samples, and their messages."""

from collections.abc import Collection, Sequence

from hvae_codec.codec.images.load import decode_image_bytes, encode_png
from hvae_codec.errors import HvaeCodecError, ImageError
from hvae_codec.utils.cancellation import check
from hvae_codec.v1 import codec_pb2

from ..admission.capacity import Held, answer_footprint, file_footprint, sample_footprint
from ..engine.engine import FILES_AT_ONCE, Engine
from ..engine.fairness import Turns
from ..engine.operations import Picture
from ..errors import InvalidRequestError
from ..settings import Limits
from . import convert
from .convert import Shape


class Pictures:
    """Reads and writes them; files (PNG, JPEG, WebP) in a thread beside the networks."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._turns = Turns(FILES_AT_ONCE)

    async def read(
        self, images: Sequence[codec_pb2.Image], held: Held
    ) -> list[Picture | Exception]:
        """Samples of the images of a request, or the error of each that cannot be read.

        Raises LimitError where their sizes together do not fit, and OverloadError as `held` does,
        before files are decoded.
        """
        pictures: list[Picture | Exception] = []
        pixels, file_pixels, files = 0, 0, []
        for number, image in enumerate(images):
            try:
                kind = image.WhichOneof("content")
                if kind == "raw":
                    pictures.append(convert.from_raw(image.raw))
                    pixels += image.raw.height * image.raw.width
                elif kind == "file":
                    file_pixels += convert.pixels_of_file(image.file)
                    pictures.append(ImageError("not read yet"))
                    files.append(number)
                else:
                    raise InvalidRequestError(convert.EMPTY)
            except HvaeCodecError as error:
                pictures.append(error)
        self._limits.check_pixels(pixels + file_pixels)
        await held.more(sample_footprint(pixels) + file_footprint(file_pixels))
        if files:
            async with self._turns.turn():
                found = await self._engine.on_files(_decoded, [images[n].file for n in files])
            for number, picture in zip(files, found, strict=True):
                pictures[number] = picture
        return pictures

    async def write(
        self,
        images: Sequence[codec_pb2.Image],
        pictures: Sequence[Picture],
        image_format: codec_pb2.ImageFormat,
    ) -> None:
        """Put images into the messages of an answer, one into each."""
        both = zip(images, pictures, strict=True)
        if image_format == codec_pb2.IMAGE_FORMAT_RAW:
            for image, picture in both:
                convert.fill_raw(image, picture)
            return
        async with self._turns.turn():
            files = await self._engine.on_files(_encoded, pictures)
        for (image, _), file in zip(both, files, strict=True):
            image.file = file

    async def hold_answer(
        self, shapes: Collection[Shape], image_format: codec_pb2.ImageFormat, held: Held
    ) -> int:
        """Hold what images of these shapes and the answer with them take; returns the answer's
        bytes at most.

        Raises LimitError for an answer with too many pixels or bytes of images, and OverloadError
        as `held` does.
        """
        pixels = sum(height * width for height, width, _ in shapes)
        self._limits.check_pixels(pixels)
        answer = sum(convert.result_bytes(shape, image_format) for shape in shapes)
        self._limits.check_response(answer)
        await held.more(sample_footprint(pixels) + answer_footprint(answer))
        return answer


def _encoded(pictures: Sequence[Picture]) -> list[bytes]:
    files = []
    for picture in pictures:
        check()
        files.append(encode_png(picture))
    return files


def _decoded(files: Sequence[bytes]) -> list[Picture | Exception]:
    pictures: list[Picture | Exception] = []
    for file in files:
        check()
        try:
            pictures.append(decode_image_bytes(file))
        except HvaeCodecError as error:
            pictures.append(error)
    return pictures
