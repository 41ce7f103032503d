"""What the files of a model may hold, and the checks around their payload.

A file holds one image, or a block of `count` images of one size. A model of tiles codes a larger
image as a row-major grid of tiles, edges padded; a fully convolutional model codes it whole and
states its quality. docs/FORMAT.md specifies both to the byte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from hvae_codec.codec.bitstream.header import (
    MAX_COUNT,
    Frame,
    Header,
    SizedHeader,
    parse,
    payload_prefix,
    sized,
    verify_file,
    verify_first_layer,
)
from hvae_codec.codec.images.limits import MAX_PICTURE_PIXELS, MAX_SIDE_PIXELS
from hvae_codec.errors import BitstreamError, CorruptError, ImageTooLargeError, WrongModelError

MAX_TILES = 1 << 20
"""Most tiles in one file, over all its images."""

SHORT_PIXELS = 4096
"""Images of a fully convolutional model of more pixels take the long form, whose check sum has 32
bits."""

MAX_FILE_PIXELS = 1 << 27
"""Most pixels in a file of a fully convolutional model, over all its images, their sides padded to
the coarsest stride."""


@dataclass(frozen=True)
class FileForm(ABC):
    """What the files of one model have in common.

    model_id: its first bytes of hash, which files state.
    own_size: the model's (height, width), which files leave out.
    """

    model_id: bytes
    own_size: tuple[int, int]
    states_quality: ClassVar[bool]

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """(height, width) in pixels of which the networks see multiples."""

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels that the networks compute of an image."""
        rows, columns = self.grid
        return -(-height // rows) * rows, -(-width // columns) * columns

    @abstractmethod
    def check_amount(self, header: SizedHeader) -> None:
        """Raise ImageTooLargeError if a file cannot hold so much."""

    @abstractmethod
    def is_long(self, header: SizedHeader) -> bool:
        """Whether a file of one image takes the long form."""


class TiledForm(FileForm):
    """Files of a model that codes tiles of its own size."""

    states_quality = False

    @property
    def grid(self) -> tuple[int, int]:
        """As `FileForm.grid`."""
        return self.own_size

    def check_amount(self, header: SizedHeader) -> None:
        """As `FileForm.check_amount`."""
        if (tiles := tiles_of(header, self.own_size)) > MAX_TILES:
            raise ImageTooLargeError(f"{tiles} tiles; one file takes at most {MAX_TILES}")

    def is_long(self, header: SizedHeader) -> bool:
        """As `FileForm.is_long`."""
        return tiles_of(header, self.own_size) > 1


@dataclass(frozen=True)
class ConvForm(FileForm):
    """Files of a fully convolutional model; coarsest: the stride of its top layer."""

    coarsest: int
    states_quality = True

    @property
    def grid(self) -> tuple[int, int]:
        """As `FileForm.grid`."""
        return self.coarsest, self.coarsest

    def check_amount(self, header: SizedHeader) -> None:
        """As `FileForm.check_amount`."""
        height, width = self.padded(header.height, header.width)
        if header.count * width * height > MAX_FILE_PIXELS:
            raise ImageTooLargeError(
                f"{header.count} images of {header.width} x {header.height} pixels, padded to "
                f"{width} x {height}, are over the limit of {MAX_FILE_PIXELS} pixels in a file"
            )

    def is_long(self, header: SizedHeader) -> bool:
        """As `FileForm.is_long`."""
        return header.width * header.height > SHORT_PIXELS


def tiles_of(header: Header, tile: tuple[int, int]) -> int:
    """Tiles in a file, over all its images, for a model of tiles (height, width) pixels."""
    if header.width is None or header.height is None:
        return header.count
    return header.count * -(-header.height // tile[0]) * -(-header.width // tile[1])


class OpenedFile(NamedTuple):
    """A file whose header and, where it was asked for, whole have been verified."""

    data: bytes
    header: SizedHeader
    frame: Frame
    payload: bytes

    def verify_first(self, top: npt.NDArray[np.integer]) -> None:
        """Raise CorruptError unless these are the symbols of its top layer, image after image."""
        verify_first_layer(self.data, self.frame, first_layer_bytes(top))


def open_file(data: bytes, form: FileForm, *, whole: bool) -> OpenedFile:
    """Header, its size filled in, and payload of a file, all checked that can be before decoding.

    whole: all check sums are verified; else only the header is read, and the payload may be cut
    off. Raises NotAnHvaeFileError, UnsupportedVersionError, WrongModelError, TruncatedError or
    CorruptError.
    """
    frame = parse(data)
    payload = verify_file(data, frame) if whole else payload_prefix(data, frame)
    stated = frame.header
    if stated.model_id != form.model_id:
        raise WrongModelError(
            f"the file is of model {stated.model_id.hex()}, not of {form.model_id.hex()}"
        )
    if stated.quality is not None and not form.states_quality:
        raise CorruptError("damaged .hvae file: it states a quality that its model does not have")
    if stated.quality is None and form.states_quality:
        raise CorruptError("damaged .hvae file: it does not state the quality that its model needs")
    if (stated.height, stated.width) == form.own_size:
        raise CorruptError("damaged .hvae file: it states the size that it should leave out")
    header = sized(stated, form.own_size)
    try:
        form.check_amount(header)
    except ImageTooLargeError as error:
        raise CorruptError(f"damaged .hvae file: {error}") from error
    if form.is_long(header) and frame.payload_bytes is None:
        raise CorruptError("damaged .hvae file: so large an image cannot lie in the short form")
    return OpenedFile(data, header, frame, payload)


def open_files(files: Sequence[bytes], form: FileForm, *, whole: bool) -> list[OpenedFile]:
    """`open_file` of each; with more than one file, errors name the file by its position."""
    opened = []
    for number, data in enumerate(files):
        try:
            opened.append(open_file(data, form, whole=whole))
        except BitstreamError as error:
            raise_about(error, number, len(files))
    return opened


def raise_about(error: BitstreamError, number: int, of: int) -> NoReturn:
    """Raise the error, saying which of several files it is about."""
    if of == 1:
        raise error
    raise type(error)(f"file {number} of {of}: {error}") from error


def written_header(header: SizedHeader, form: FileForm) -> Header:
    """The header to write; the size is left out where it is the model's own.

    Raises ImageTooLargeError beyond the limits, ValueError for a count that is out of range.
    """
    width, height, count = header.width, header.height, header.count
    if not (1 <= width <= MAX_SIDE_PIXELS and 1 <= height <= MAX_SIDE_PIXELS):
        raise ImageTooLargeError(
            f"an image has sides of 1 to {MAX_SIDE_PIXELS} pixels, not {width} x {height}"
        )
    if width * height > MAX_PICTURE_PIXELS:
        raise ImageTooLargeError(
            f"{width} x {height} pixels are over the limit of {MAX_PICTURE_PIXELS}"
        )
    if not 1 <= count <= (MAX_COUNT if header.block else 1):
        raise ValueError(f"a block holds 1 to {MAX_COUNT} images, any other file 1, not {count}")
    form.check_amount(header)
    own = (height, width) == form.own_size
    return Header(
        header.model_id,
        None if own else width,
        None if own else height,
        count,
        header.grey,
        header.block,
        header.quality,
    )


def first_layer_bytes(symbols: npt.NDArray[np.integer]) -> bytes:
    """What the check of the first layer covers: big-endian int16, image after image."""
    return symbols.astype(">i2").tobytes()
