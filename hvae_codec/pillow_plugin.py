"""`.hvae` files in Pillow: one import, and `Image.open` and `Image.save` know them.

    import hvae_codec.pillow_plugin
    from PIL import Image

    Image.open("photo.png").save("photo.hvae", quality=40)
    Image.open("icon.png").save("icon.hvae", model="cifar10", quality=4, effort=1)
    Image.open("photo.hvae").resize((64, 64)).show()

Opening reads the header alone: size and mode ("L" or "RGB") are there at once, and networks run
when the pixels are loaded. A block of images is an image of several frames (`seek`, `tell`,
`n_frames`). `verify` checks every byte without networks.

Saving takes these arguments, all optional:

* model: a name that `hvae_codec.models()` lists; if not given, "auto": "photo" for images of more
  than 64x64 pixels, "cifar10" for smaller ones (`hvae_codec.codec.registry.model_for`);
* quality and effort: as `hvae_codec.load` takes them, on the scale of that model: of "photo" 1 to
  100 and no effort, of "cifar10" its quality levels;
* target_bytes, target_psnr, max_bytes: as `hvae_codec.encode` takes them, instead of quality;
* save_all, append_images: as of Pillow's own formats; all frames, in one block;
* exif: its orientation is applied to the pixels, in place of the opened file's;
* icc_profile: what the samples are of, in place of what the opened file states; None: of sRGB.

Modes "L" and "RGB" are kept, "1" becomes "L" and "P" becomes "RGB"; others, and transparency in any
form, are refused with advice. A file holds pixels and nothing else: as the image is saved, the EXIF
orientation of an opened file is applied and colours are converted to sRGB. An image that was made
from it (`rotate`, `convert`, `copy`) is saved as its pixels are, as by Pillow's own formats:
`ImageOps.exif_transpose` applies its orientation (`hvae_codec.codec.images.load`).

Errors are those that Pillow's users catch, with this library's messages: UnidentifiedImageError
where a file's header cannot be used, OSError where its pixels cannot be loaded or an image cannot
be saved, ValueError (this library's own) for arguments. With `ImageFile.LOAD_TRUNCATED_IMAGES` a
file that is cut off or damaged behind its first layer loads as the preview that is left.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile, ImageSequence, UnidentifiedImageError

from hvae_codec.codec.bitstream.header import MAGIC, parse, read_header, verify_file
from hvae_codec.codec.images.load import upright_copy, with_profile
from hvae_codec.errors import BitstreamError, CorruptError, HvaeCodecError, ImageError
from hvae_codec.utils.arguments import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.codec.bitstream.symbols import SymbolBatch
    from hvae_codec.codec.codec import Codec

FORMAT = "HVAE"
MIME_TYPE = "image/x-hvae"
EXTENSION = ".hvae"

_HEADER_BYTES = 64  # a header is shorter
_TARGETS = ("target_bytes", "target_psnr", "max_bytes")


class HvaeImageFile(ImageFile.ImageFile):
    """A `.hvae` file as Pillow sees it. `info` has the "model" and "quality" that it is of."""

    format = FORMAT
    format_description = "Hierarchical VAE"

    # What an unpickled copy, whose one frame is loaded, finds.
    n_frames = 1
    is_animated = False
    _min_frame = 0
    _frame = 0
    _loaded = 0
    _block: SymbolBatch | None = None

    def _open(self) -> None:
        assert self.fp is not None
        from hvae_codec.codec.registry import info_of

        try:
            header = read_header(self.fp.read(_HEADER_BYTES))
            model = info_of(header.model_id)
        except HvaeCodecError as error:
            raise UnidentifiedImageError(str(error)) from error
        channels, height, width = model.image_shape
        self._size = (header.width or width, header.height or height)
        self._mode = "L" if header.grey or channels == 1 else "RGB"
        self.info |= {"model": model.name, "quality": model.quality_of(header)}
        self.n_frames = header.count
        self.is_animated = header.count > 1
        self._header = header
        self._shown_as = (self._mode, self._size)
        self._loaded = -1

    def tell(self) -> int:
        """The frame that is shown, from 0."""
        return self._frame

    def seek(self, frame: int) -> None:
        """Go to a frame. Raises EOFError beyond the last one."""
        if self._seek_check(frame):
            self._frame = frame
            self._mode, self._size = self._shown_as  # which thumbnail() may have changed

    def verify(self) -> None:
        """Check every byte, without decoding. Raises OSError. As in Pillow, open the file again to
        load it.
        """
        data = self._bytes()
        try:
            verify_file(data, parse(data))
        except BitstreamError as error:
            raise OSError(str(error)) from error
        super().verify()

    def load(self) -> Any:
        """Decode the pixels. Raises OSError if they cannot be."""
        if self._loaded != self._frame:
            try:
                self._show(self._strips())
            except HvaeCodecError as error:
                raise OSError(str(error)) from error
            self._loaded = self._frame
            if self._exclusive_fp and self.fp is not None:
                self.fp.close()
            self.fp = None
        return super().load()

    def _show(self, strips: Iterator[NDArray[np.uint8]]) -> None:
        picture = Image.new(self.mode, self.size)
        top = 0
        for strip in strips:
            pixels = strip[..., 0] if self.mode == "L" else strip
            picture.paste(Image.fromarray(pixels), (0, top))
            top += len(strip)
        self.im = picture.im
        self.readonly = 0

    def _strips(self) -> Iterator[NDArray[np.uint8]]:
        """The pixels of the frame, strips uint8 [h, W, C] from the top."""
        from hvae_codec.codec.registry import codec_for

        if self._block is None:
            data = self._bytes()
            if read_header(data) != self._header:
                raise OSError("the file has been changed since it was opened; open it again")
            codec = codec_for(data)
            if not self._header.block:
                return _rows(codec, data)
            self._codec, self._block = codec, _read_block(codec, data)
        return iter(self._codec.images_of([self._block.select([self._frame])]))

    def _bytes(self) -> bytes:
        if self.fp is None:
            raise OSError("the file is closed; open it again")
        self.fp.seek(0)
        return self.fp.read()


def register() -> None:
    """Make the format known to Pillow. Importing this module has done so."""
    Image.register_open(FORMAT, HvaeImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, EXTENSION)
    Image.register_mime(FORMAT, MIME_TYPE)


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _rows(codec: Codec, data: bytes) -> Iterator[NDArray[np.uint8]]:
    try:
        return codec.decode_rows(data)
    except CorruptError:
        if not ImageFile.LOAD_TRUNCATED_IMAGES:
            raise
    return codec.decode_rows(data, preview=True)


def _read_block(codec: Codec, data: bytes) -> SymbolBatch:
    try:
        return codec.file_coder.read_block(data)
    except CorruptError:
        if not ImageFile.LOAD_TRUNCATED_IMAGES:
            raise
    return codec.file_coder.read_block(data, layers=1)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    options: dict[str, Any] = image.encoderinfo
    if options.get("exif") is not None:
        image = _turned(image, options["exif"])
    if "icc_profile" in options:
        image = with_profile(image, options["icc_profile"])
    targets = {name: options[name] for name in _TARGETS if options.get(name) is not None}
    if not targets:
        file.write(_said(_codec(options, image).encode, image))
        return
    if options.get("quality") is not None:
        raise ValueError(f"quality and {next(iter(targets))} exclude each other")
    from hvae_codec.codec.rate_control.targets import encode

    effort = 1 if options.get("effort") is None else options["effort"]
    file.write(_said(encode, image, _model(options, image), effort=effort, **targets))


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    options: dict[str, Any] = image.encoderinfo
    given = [name for name in _TARGETS if options.get(name) is not None]
    if given:
        raise ValueError(f"{given[0]} is for one image; with save_all give quality")
    images = [image, *_appended(options.get("append_images"))]
    before = [one.tell() for one in images]
    exif = options.get("exif")
    frames = [
        upright_copy(frame) if exif is None else _turned(frame, exif)
        for one in images
        for frame in ImageSequence.Iterator(one)
    ]
    if "icc_profile" in options:
        frames = [with_profile(frame, options["icc_profile"]) for frame in frames]
    for one, frame in zip(images, before, strict=True):
        one.seek(frame)
    file.write(_said(_codec(options, image).encode_block, frames))


def _turned(image: Image.Image, exif: Image.Exif | bytes) -> Image.Image:
    """A copy of an image, turned as the EXIF says that `save` was given."""
    if not isinstance(exif, Image.Exif):
        data, exif = exif, Image.Exif()
        try:
            exif.load(data)
        # Pillow raises SyntaxError where the bytes are of no TIFF.
        except (AttributeError, SyntaxError, TypeError, ValueError, struct.error) as error:
            raise HvaeCodecError(f"exif is EXIF in bytes or an Image.Exif: {error}") from error
    return upright_copy(image, exif)


def _appended(given: object) -> list[Image.Image]:
    """The images of `append_images`. Raises HvaeCodecError where they are none."""
    images = list(given) if isinstance(given, Iterable) else None
    if given is None:
        images = []
    if images is None or not all(isinstance(one, Image.Image) for one in images):
        raise HvaeCodecError(f"append_images is a list of Pillow images; got {shown(given)}")
    return images


def _codec(options: dict[str, Any], image: Image.Image) -> Codec:
    from hvae_codec.codec.registry import load

    quality, effort = options.get("quality"), options.get("effort")
    return load(_model(options, image), quality, effort=effort)


def _model(options: dict[str, Any], image: Image.Image) -> str:
    """The model asked for, or that of the image's size."""
    from hvae_codec.codec.model_choice import AUTO
    from hvae_codec.codec.registry import model_for

    named: str = options.get("model") or AUTO
    return model_for(image.height, image.width) if named == AUTO else named


def _said(encode: Any, *arguments: Any, **options: Any) -> bytes:
    """What `encode` returns, an image that it cannot take being an OSError as of other formats."""
    try:
        blob: bytes = encode(*arguments, **options)
    except ImageError as error:
        raise OSError(f"cannot write as {FORMAT}: {error}") from error
    return blob


register()
