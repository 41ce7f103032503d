"""File coders: the half of a codec that needs no network, symbols to files and files to symbols.

Nothing here imports torch, so that processes which only code start fast and stay small, and
everything can be sent between processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from hvae_codec.codec.bitstream.container import FileForm
from hvae_codec.codec.bitstream.header import Header, SizedHeader
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.entropy.tables import FloatArray, Int32Array
from hvae_codec.errors import BitstreamError


class FileCoder(Protocol):
    """The second half of an encoder and the first of a decoder."""

    @property
    def model_id(self) -> bytes:
        """The first bytes of the hash of the model whose files these are."""

    @property
    def form(self) -> FileForm:
        """What these files have in common."""

    @property
    def most_block_tiles(self) -> int:
        """Tiles of the model's own size in a block below which one more image of its size fits."""

    def write(self, batch: SymbolBatch) -> list[bytes]:
        """A `.hvae` file per image of the batch; of a block, the one file of all images.

        Raises ImageTooLargeError beyond the limits of a file.
        """

    def read(self, files: Sequence[bytes], layers: int | None = None) -> list[SymbolBatch]:
        """The symbols of files of one image each, of their first `layers` layers (None: all).

        Raises BitstreamError; with more than one file, the message says which.
        """

    def read_block(self, file: bytes, layers: int | None = None) -> SymbolBatch:
        """The symbols of the images of one file, which may be a block.

        layers 1: the top layer, verified by its own check; what follows may be cut off or damaged.
        With more, the file must be whole. Raises BitstreamError.
        """

    def symbols(self, files: Sequence[bytes]) -> list[Int32Array]:
        """The symbols of files as one array of rows per layer, top first.

        Raises BitstreamError, and ValueError where they make no one array.
        """

    def information_bits(self, batch: SymbolBatch) -> FloatArray:
        """Information content of all images of the batch under the tables, bits per layer [L]."""


def refuse_block(header: Header) -> None:
    """Raise BitstreamError where one image is wanted and the file is a block."""
    if header.block:
        raise BitstreamError(f"the file is a block of {header.count} images; use decode_block")


def block_of(header: SizedHeader, symbols: list[Int32Array]) -> SymbolBatch:
    """The images of one file."""
    each = replace(header, count=1, block=False)
    count = header.count
    return SymbolBatch(range(count), [each] * count, symbols, block=header.block)


def read_each(
    coder: FileCoder, files: Sequence[bytes], layers: int | None = None
) -> Iterator[list[SymbolBatch] | BitstreamError]:
    """Every file by itself: its batches, or the error that it alone makes."""
    for file in files:
        try:
            yield coder.read([file], layers)
        except BitstreamError as error:
            yield error


Read = tuple[list[SymbolBatch], dict[int, BitstreamError]]
"""Batches of the files that could be read, and the errors of the others, by number."""


def read_good(coder: FileCoder, files: Sequence[bytes], layers: int | None = None) -> Read:
    """`FileCoder.read`, in which a file that cannot be read does not keep the others back.

    The batches number the files that could be read.
    """
    try:
        return coder.read(files, layers), {}
    except BitstreamError:
        errors = {
            number: found
            for number, found in enumerate(read_each(coder, files, layers))
            if isinstance(found, BitstreamError)
        }
    good = [file for number, file in enumerate(files) if number not in errors]
    return coder.read(good, layers), errors
