"""File coders: the half of a codec that needs no network, symbols to files and files to symbols.

Nothing here imports torch, so that processes which only code start fast and stay small, and
everything can be sent between processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np

from hvae_codec.codec.bitstream.container import (
    MAX_TILES,
    Opened,
    pack,
    pack_many,
    raise_about,
    tiles_of,
    unpack_many,
    unpack_runs,
)
from hvae_codec.codec.bitstream.container_v2 import (
    MAX_FILE_PIXELS,
    open_v2,
    pack_v2,
    unpack_v2,
)
from hvae_codec.codec.bitstream.header import Header, SizedHeader
from hvae_codec.codec.bitstream.symbols import SymbolBatch, as_rows, order_of
from hvae_codec.codec.entropy.context_coder import ContextCoder, Shape
from hvae_codec.codec.entropy.context_tables import ContextTables
from hvae_codec.codec.entropy.tables import FloatArray, Int32Array, SymbolTables
from hvae_codec.codec.entropy.tile_coder import SymbolCoder
from hvae_codec.errors import BitstreamError


class FileCoder(Protocol):
    """The second half of an encoder and the first of a decoder."""

    model_id: bytes

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


class TiledFileCoder:
    """File coder of a model that codes tiles of its own size (height, width)."""

    def __init__(self, tables: SymbolTables, model_id: bytes, tile: tuple[int, int]) -> None:
        self.tables = tables
        self.model_id = model_id
        self.tile = tile

    @cached_property
    def coder(self) -> SymbolCoder:
        """The coder with its tables prepared."""
        return SymbolCoder(self.tables)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "coder"}

    @property
    def most_block_tiles(self) -> int:
        """As `FileCoder.most_block_tiles`."""
        return MAX_TILES // 2

    def write(self, batch: SymbolBatch) -> list[bytes]:
        """As `FileCoder.write`."""
        if batch.block:
            header = replace(batch.header, count=len(batch), block=True)
            return [pack(self.coder, header, batch.symbols, tile=self.tile)]
        counts = [tiles_of(header, self.tile) for header in batch.headers]
        if len(set(batch.headers)) == 1 and counts[0] == 1:
            return pack_many(self.coder, batch.header, batch.symbols, tile=self.tile)
        files, end = [], 0
        for header, count in zip(batch.headers, counts, strict=True):
            start, end = end, end + count
            symbols = [layer[start:end] for layer in batch.symbols]
            files.append(pack(self.coder, header, symbols, tile=self.tile))
        return files

    def read(self, files: Sequence[bytes], layers: int | None = None) -> list[SymbolBatch]:
        """As `FileCoder.read`; all files make one batch."""
        if not files:
            return []
        headers, symbols = self._unpack(files, layers)
        for header in headers:
            refuse_block(header)
        return [SymbolBatch(range(len(files)), headers, symbols)]

    def read_block(self, file: bytes, layers: int | None = None) -> SymbolBatch:
        """As `FileCoder.read_block`."""
        (header,), symbols = self._unpack([file], layers)
        return _block(header, symbols)

    def read_runs(
        self, file: bytes, layers: int | None = None
    ) -> tuple[SizedHeader, Iterator[list[Int32Array]]]:
        """`read` of one file in little memory: its header, and symbols [t, D_l] run by run.

        All checks are done, and everything raised, before this returns.
        """
        header, runs = unpack_runs(self.coder, self.model_id, file, tile=self.tile, layers=layers)
        refuse_block(header)
        return header, runs

    def symbols(self, files: Sequence[bytes]) -> list[Int32Array]:
        """As `FileCoder.symbols`: int32 [T, D_l] per layer, T tiles in all."""
        if not files:
            return [np.zeros((0, layer.dims), np.int32) for layer in self.tables.layers]
        return self._unpack(files, None)[1]

    def information_bits(self, batch: SymbolBatch) -> FloatArray:
        """As `FileCoder.information_bits`."""
        bits: FloatArray = self.tables.information_bits(list(batch.symbols)).sum(axis=0)
        return bits

    def _unpack(
        self, files: Sequence[bytes], layers: int | None
    ) -> tuple[list[SizedHeader], list[Int32Array]]:
        return unpack_many(self.coder, self.model_id, files, tile=self.tile, layers=layers)


class ConvFileCoder:
    """File coder of a fully convolutional model that trained on `own_size` (height, width).

    coarsest: the stride of its top layer.
    """

    def __init__(
        self, tables: ContextTables, model_id: bytes, own_size: tuple[int, int], coarsest: int
    ) -> None:
        self.tables = tables
        self.model_id = model_id
        self.own_size = own_size
        self.coarsest = coarsest

    @cached_property
    def coder(self) -> ContextCoder:
        """The coder with its tables prepared."""
        return ContextCoder(self.tables)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "coder"}

    @property
    def most_block_tiles(self) -> int:
        """As `FileCoder.most_block_tiles`."""
        return MAX_FILE_PIXELS // (2 * self.own_size[0] * self.own_size[1])

    def write(self, batch: SymbolBatch) -> list[bytes]:
        """As `FileCoder.write`."""
        header = batch.header
        if batch.block:
            header = replace(header, count=len(batch), block=True)
        return pack_v2(
            self.coder,
            header,
            batch.symbols,
            own_size=self.own_size,
            coarsest=self.coarsest,
            levels=batch.contexts,
        )

    def read(self, files: Sequence[bytes], layers: int | None = None) -> list[SymbolBatch]:
        """As `FileCoder.read`; files that share size, quality and greyness make one batch."""
        wanted = self._layers(layers)
        opened = []
        for number, file in enumerate(files):
            try:
                opened.append(self._open(file, wanted))
                refuse_block(opened[-1].header)
            except BitstreamError as error:
                raise_about(error, number, len(files))
        groups: dict[SizedHeader, list[int]] = {}
        for number, one in enumerate(opened):
            groups.setdefault(one.header, []).append(number)
        batches = []
        for header, numbers in groups.items():
            symbols = unpack_v2(
                self.coder,
                [(files[number], opened[number]) for number in numbers],
                self.shapes,
                wanted,
                numbers=numbers,
                of=len(files),
            )
            batches.append(SymbolBatch(numbers, [header] * len(numbers), symbols))
        return batches

    def read_block(self, file: bytes, layers: int | None = None) -> SymbolBatch:
        """As `FileCoder.read_block`."""
        wanted = self._layers(layers)
        opened = self._open(file, wanted)
        symbols = unpack_v2(self.coder, [(file, opened)], self.shapes, wanted, numbers=[0], of=1)
        return _block(opened.header, symbols)

    def symbols(self, files: Sequence[bytes]) -> list[Int32Array]:
        """As `FileCoder.symbols`: int32 [N, C * h * w] per layer, of files of one size."""
        if not files:
            shapes = self.shapes(1, *self.own_size)
            channels = [layer.context.channels for layer in self.tables.layers]
            dims = [c * h * w for c, (_, h, w) in zip(channels, shapes, strict=True)]
            return [np.zeros((0, size), np.int32) for size in dims]
        found = self.read(files)
        if len({replace(batch.header, grey=False) for batch in found}) > 1:
            raise ValueError("symbols of files of several sizes or qualities are no one array")
        order = order_of(found)
        layers = zip(*(batch.symbols for batch in found), strict=True)
        return [as_rows(np.concatenate(layer, axis=1)[:, order]) for layer in layers]

    def information_bits(self, batch: SymbolBatch) -> FloatArray:
        """As `FileCoder.information_bits`."""
        quality = batch.header.quality
        assert quality is not None
        bits: FloatArray = self.coder.information_bits(batch.symbols, quality).sum(axis=0)
        return bits

    def shapes(self, count: int, height: int, width: int) -> list[Shape]:
        """(N, h, w) of each layer, top first, of N = count images of one size."""
        rows, columns = (-(-side // self.coarsest) * self.coarsest for side in (height, width))
        strides = [layer.context.stride for layer in self.tables.layers]
        return [(count, rows // stride, columns // stride) for stride in strides]

    def _layers(self, layers: int | None) -> int:
        total = len(self.tables.layers)
        if layers is not None and not 1 <= layers <= total:
            raise ValueError(f"layers must lie in 1..{total}, not {layers}")
        return total if layers is None else layers

    def _open(self, file: bytes, layers: int) -> Opened:
        """Header and payload of a file whose first layers are wanted."""
        return open_v2(
            file,
            self.model_id,
            own_size=self.own_size,
            coarsest=self.coarsest,
            whole=layers != 1,
        )


def refuse_block(header: Header) -> None:
    """Raise BitstreamError where one image is wanted and the file is a block."""
    if header.block:
        raise BitstreamError(f"the file is a block of {header.count} pictures; use decode_block")


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


def _block(header: SizedHeader, symbols: list[Int32Array]) -> SymbolBatch:
    """The images of one file."""
    each = replace(header, count=1, block=False)
    count = header.count
    return SymbolBatch(range(count), [each] * count, symbols, block=header.block)
