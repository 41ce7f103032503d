"""Symbols to `.hvae` bytes of version 2 and back: entropy coding, header and check sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hvae_codec.codec.bitstream.container import (
    Opened,
    first_layer_bytes,
    raise_about,
    written_header,
)
from hvae_codec.codec.bitstream.header import (
    SizedHeader,
    parse,
    payload_prefix,
    sized,
    verify_file,
    verify_first_layer,
    write_file,
)
from hvae_codec.codec.entropy.context_coder import ContextCoder, Shape
from hvae_codec.codec.entropy.contexts import ContextIds
from hvae_codec.codec.entropy.tables import Int32Array
from hvae_codec.errors import BitstreamError, CorruptError, ImageTooLargeError, WrongModelError

SHORT_PIXELS = 4096
"""Images of more pixels take the long form, whose check sum has 32 bits."""

MAX_FILE_PIXELS = 1 << 27
"""Most pixels in a file, over all its images, their sides padded to the coarsest stride."""

Symbols = Sequence[npt.NDArray[np.integer]]
Shapes = Callable[[int, int, int], list[Shape]]
"""From a number of images, their height and width to the shape (N, h, w) of each layer."""


def pack_v2(
    coder: ContextCoder,
    header: SizedHeader,
    symbols: Symbols,
    *,
    own_size: tuple[int, int],
    coarsest: int,
    levels: Sequence[ContextIds] | None = None,
) -> list[bytes]:
    """Files of `header.count` images each from symbols [C, N, h, w] per layer, top first.

    levels: those of the symbols, where they are known already.
    header: of each file, with a quality; the size is left out where it is `own_size` (height,
        width).
    coarsest: stride of the top layer.

    Raises ImageTooLargeError beyond the limits, ValueError for symbols that do not fit.
    """
    assert header.quality is not None
    written = written_header(header, own_size)
    check_pixels(header.count, header.height, header.width, coarsest)
    several = header.width * header.height > SHORT_PIXELS
    payloads = coder.encode(symbols, header.quality, header.count, levels)
    files = []
    for number, payload in enumerate(payloads):
        top = symbols[0][:, number * header.count : (number + 1) * header.count]
        first = _first_bytes(top)
        files.append(write_file(written, several=several, first_layer=first, payload=payload))
    return files


def check_pixels(count: int, height: int, width: int, coarsest: int) -> None:
    """Raises ImageTooLargeError if so many images of a size are over the limit of a file."""
    padded_width, padded_height = (-(-side // coarsest) * coarsest for side in (width, height))
    if count * padded_width * padded_height > MAX_FILE_PIXELS:
        raise ImageTooLargeError(
            f"{count} pictures of {width} x {height} pixels, padded to {padded_width} x "
            f"{padded_height}, are over the limit of {MAX_FILE_PIXELS} pixels in a file"
        )


def open_v2(
    data: bytes, model_id: bytes, *, own_size: tuple[int, int], coarsest: int, whole: bool
) -> Opened:
    """Header, its size filled in, and payload of one file, all checked that can be before decoding.

    whole: all check sums are verified; else only the header is read, and the payload may be cut
    off. Raises NotAnHvaeFileError, UnsupportedVersionError, WrongModelError, TruncatedError or
    CorruptError.
    """
    frame = parse(data)
    payload = verify_file(data, frame) if whole else payload_prefix(data, frame)
    stated = frame.header
    if stated.model_id != model_id:
        raise WrongModelError(
            f"the file is of model {stated.model_id.hex()}, not of {model_id.hex()}"
        )
    if stated.quality is None:
        raise CorruptError("damaged .hvae file: it does not state the quality that its model needs")
    if (stated.height, stated.width) == own_size:
        raise CorruptError("damaged .hvae file: it states the size that it should leave out")
    header = sized(stated, own_size)
    try:
        check_pixels(header.count, header.height, header.width, coarsest)
    except ImageTooLargeError as error:
        raise CorruptError(f"damaged .hvae file: {error}") from error
    if header.width * header.height > SHORT_PIXELS and frame.payload_bytes is None:
        raise CorruptError("damaged .hvae file: so large a picture cannot lie in the short form")
    return Opened(header, frame, payload)


def unpack_v2(
    coder: ContextCoder,
    files: Sequence[tuple[bytes, Opened]],
    shapes: Shapes,
    layers: int,
    *,
    numbers: Sequence[int],
    of: int,
) -> list[Int32Array]:
    """Symbols int32 [C, N, h, w] of the first `layers` layers of files of one size, quality and
    count, the images of one file after those of another.

    numbers, of: which of how many files these are, for messages about them. Raises CorruptError.
    """
    header = files[0][1].header
    assert header.quality is not None
    each = shapes(header.count, header.height, header.width)[:layers]
    payloads = [opened.payload for _, opened in files]
    try:
        symbols = coder.decode(payloads, header.quality, each)
    except CorruptError as error:
        if len(files) == 1:
            raise_about(error, numbers[0], of)
        for file, number in zip(files, numbers, strict=True):  # to say which of them it was
            unpack_v2(coder, [file], shapes, layers, numbers=[number], of=of)
        raise
    for position, (data, opened) in enumerate(files):
        top = symbols[0][:, position * header.count : (position + 1) * header.count]
        try:
            verify_first_layer(data, opened.frame, _first_bytes(top))
        except BitstreamError as error:
            raise_about(error, numbers[position], of)
    return symbols


def _first_bytes(top: npt.NDArray[np.integer]) -> bytes:
    """What the check of the first layer covers, image after image."""
    return first_layer_bytes(top.transpose(1, 0, 2, 3))
