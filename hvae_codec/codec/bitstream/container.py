"""Symbols to `.hvae` bytes and back: entropy coding, header and check sums together.

An image larger than the model's own size is a row-major grid of tiles, edges padded; a block holds
`count` images of one size, one after another. Either way the payload codes T tiles as one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

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
    write_file,
    write_files,
)
from hvae_codec.codec.entropy.tables import Int32Array
from hvae_codec.codec.entropy.tile_coder import SymbolCoder
from hvae_codec.codec.images.limits import MAX_PICTURE_PIXELS, MAX_SIDE_PIXELS
from hvae_codec.errors import BitstreamError, CorruptError, ImageTooLargeError, WrongModelError

MAX_TILES = 1 << 20
"""Most tiles in one file, over all its images."""

Symbols = Sequence[npt.NDArray[np.integer]]


def tiles_of(header: Header, tile: tuple[int, int]) -> int:
    """Tiles in a file, over all its images, for a model of tiles (height, width) pixels."""
    if header.width is None or header.height is None:
        return header.count
    return header.count * -(-header.height // tile[0]) * -(-header.width // tile[1])


def pack(
    coder: SymbolCoder, header: SizedHeader, symbols: Symbols, *, tile: tuple[int, int]
) -> bytes:
    """One file from the symbols [T, D_l] per layer, top first, of all its tiles.

    header: of the whole file; `tile` is the model's own (height, width), which files leave out.

    Raises ImageTooLargeError beyond the limits, ValueError for symbols that do not fit.
    """
    written = written_header(header, tile)
    tiles = tiles_of(header, tile)
    if tiles > MAX_TILES:
        raise ImageTooLargeError(f"{tiles} tiles; one file takes at most {MAX_TILES}")
    if any(len(layer) != tiles for layer in symbols):
        raise ValueError(f"need the symbols of {tiles} tiles, not {[len(s) for s in symbols]}")
    payload = coder.encode(symbols)
    first = first_layer_bytes(symbols[0])
    return write_file(written, several=tiles > 1, first_layer=first, payload=payload)


def pack_many(
    coder: SymbolCoder, header: SizedHeader, symbols: Symbols, *, tile: tuple[int, int]
) -> list[bytes]:
    """N files of one tile each from symbols [N, D_l] per layer; the bytes are those of `pack`.

    header: of each file.
    """
    if tiles_of(header, tile) != 1:
        raise ValueError(
            f"{header.width} x {header.height} pixels are more than one tile; use pack"
        )
    tops = [top.tobytes() for top in symbols[0].astype(">i2")]
    return write_files(written_header(header, tile), tops, coder.encode_records(symbols))


def unpack(
    coder: SymbolCoder,
    model_id: bytes,
    data: bytes,
    *,
    tile: tuple[int, int],
    layers: int | None = None,
) -> tuple[SizedHeader, list[Int32Array]]:
    """The header, its size filled in, and the symbols int32 [T, D_l] of the first `layers` layers.

    layers None or above 1: the file must be whole, and all its check sums are verified. layers 1:
    the top layer alone, verified by its own check; the file may be cut off or damaged behind it.
    Raises NotAnHvaeFileError, UnsupportedVersionError, WrongModelError, TruncatedError or
    CorruptError. Allocates in proportion to what so many bytes can hold under the tables.
    """
    headers, symbols = unpack_many(coder, model_id, [data], tile=tile, layers=layers)
    return headers[0], symbols


def unpack_runs(
    coder: SymbolCoder,
    model_id: bytes,
    data: bytes,
    *,
    tile: tuple[int, int],
    layers: int | None = None,
) -> tuple[SizedHeader, Iterator[list[Int32Array]]]:
    """`unpack` in little memory: the header, and the symbols [t, D_l] of all tiles, run by run.

    All checks are done, and everything raised, before this returns.
    """
    whole = _is_whole(coder, layers)
    (file,) = _open_all([data], model_id, tile, whole=whole)
    tiles = tiles_of(file.header, tile)
    top, runs = coder.decode_runs(file.payload, tiles, layers)
    _verify_first_layers([data], [file], [tiles], top)
    return file.header, runs


def unpack_many(
    coder: SymbolCoder,
    model_id: bytes,
    files: Sequence[bytes],
    *,
    tile: tuple[int, int],
    layers: int | None = None,
) -> tuple[list[SizedHeader], list[Int32Array]]:
    """`unpack` of many files of any sizes; the symbols of all their tiles lie one after another.

    File i contributes `tiles_of(headers[i], tile)` rows. With more than one file, errors name the
    file by its position.
    """
    opened = _open_all(files, model_id, tile, whole=_is_whole(coder, layers))
    headers = [file.header for file in opened]
    tiles = [tiles_of(header, tile) for header in headers]
    payloads = [file.payload for file in opened]
    if len(files) != 1 and all(n == 1 for n in tiles):
        symbols = coder.decode_records(payloads, layers)
    else:
        parts = [coder.decode(p, n, layers) for p, n in zip(payloads, tiles, strict=True)]
        symbols = [np.concatenate(layer) for layer in zip(*parts, strict=True)]
    _verify_first_layers(files, opened, tiles, symbols[0])
    return headers, symbols


def _is_whole(coder: SymbolCoder, layers: int | None) -> bool:
    """Whether the whole file vouches for so many layers: it does unless the top one's own check
    can. ValueError for a number of layers that there is not.
    """
    total = len(coder.tables.layers)
    if layers is not None and not 1 <= layers <= total:
        raise ValueError(f"layers must lie in 1..{total}, not {layers}")
    return layers != 1


class Opened(NamedTuple):
    """A file whose header and, where it was asked for, whole have been verified."""

    header: SizedHeader
    frame: Frame
    payload: bytes


def _open_all(
    files: Sequence[bytes], model_id: bytes, tile: tuple[int, int], *, whole: bool
) -> list[Opened]:
    opened = []
    for number, data in enumerate(files):
        try:
            opened.append(_open(data, model_id, tile, whole))
        except BitstreamError as error:
            raise_about(error, number, len(files))
    return opened


def _open(data: bytes, model_id: bytes, tile: tuple[int, int], whole: bool) -> Opened:
    """Header and payload of one file, all checked that can be before decoding."""
    frame = parse(data)
    payload = verify_file(data, frame) if whole else payload_prefix(data, frame)
    header = frame.header
    if header.model_id != model_id:
        raise WrongModelError(
            f"the file is of model {header.model_id.hex()}, not of {model_id.hex()}"
        )
    if header.quality is not None:
        raise CorruptError("damaged .hvae file: it states a quality that its model does not have")
    if (header.height, header.width) == tile:
        raise CorruptError("damaged .hvae file: it states the size that it should leave out")
    tiles = tiles_of(header, tile)
    if tiles > MAX_TILES or (tiles > 1 and frame.payload_bytes is None):
        raise CorruptError(f"damaged .hvae file: {tiles} tiles cannot lie in a file of this form")
    return Opened(sized(header, tile), frame, payload)


def _verify_first_layers(
    files: Sequence[bytes], opened: Sequence[Opened], tiles: Sequence[int], top: Int32Array
) -> None:
    """Checks every file's share of the top layer's symbols."""
    covered = first_layer_bytes(top)
    tile_bytes = 2 * top.shape[1]
    at = 0
    for number, (data, file, n) in enumerate(zip(files, opened, tiles, strict=True)):
        end = at + n * tile_bytes
        try:
            verify_first_layer(data, file.frame, covered[at:end])
        except BitstreamError as error:
            raise_about(error, number, len(files))
        at = end


def raise_about(error: BitstreamError, number: int, of: int) -> NoReturn:
    """Raise the error, saying which of several files it is about."""
    if of == 1:
        raise error
    raise type(error)(f"file {number} of {of}: {error}") from error


def written_header(header: SizedHeader, own_size: tuple[int, int]) -> Header:
    """The header to write; the size is left out where it is the model's own (height, width).

    Raises ImageTooLargeError beyond the limits, ValueError for a count that is out of range.
    """
    width, height, count = header.width, header.height, header.count
    if not (1 <= width <= MAX_SIDE_PIXELS and 1 <= height <= MAX_SIDE_PIXELS):
        raise ImageTooLargeError(
            f"a picture has sides of 1 to {MAX_SIDE_PIXELS} pixels, not {width} x {height}"
        )
    if width * height > MAX_PICTURE_PIXELS:
        raise ImageTooLargeError(
            f"{width} x {height} pixels are over the limit of {MAX_PICTURE_PIXELS}"
        )
    if not 1 <= count <= (MAX_COUNT if header.block else 1):
        raise ValueError(f"a block holds 1 to {MAX_COUNT} pictures, any other file 1, not {count}")
    own = (height, width) == own_size
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
