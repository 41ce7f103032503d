"""Files of models that code tiles: symbols [T, D_l] per layer, image after image, row-major."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hvae_codec.codec.bitstream.container import (
    MAX_TILES,
    OpenedFile,
    TiledForm,
    first_layer_bytes,
    open_files,
    raise_about,
    tiles_of,
    written_header,
)
from hvae_codec.codec.bitstream.files import block_of, refuse_block
from hvae_codec.codec.bitstream.header import SizedHeader, write_file, write_files
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.entropy.tables import FloatArray, Int32Array, SymbolTables
from hvae_codec.codec.entropy.tile_coder import TileCoder
from hvae_codec.errors import BitstreamError
from hvae_codec.utils.arguments import layer_count

Symbols = Sequence[npt.NDArray[np.integer]]


class TiledFileCoder:
    """File coder of a model that codes tiles of its own size (height, width)."""

    def __init__(self, tables: SymbolTables, model_id: bytes, tile: tuple[int, int]) -> None:
        self.tables = tables
        self.form = TiledForm(model_id, tile)

    @property
    def model_id(self) -> bytes:
        """As `FileCoder.model_id`."""
        return self.form.model_id

    @property
    def tile(self) -> tuple[int, int]:
        """(height, width) of a tile."""
        return self.form.own_size

    @cached_property
    def coder(self) -> TileCoder:
        """The coder with its tables prepared."""
        return TileCoder(self.tables)

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
            return [self._write_one(header, batch.symbols)]
        counts = [tiles_of(header, self.tile) for header in batch.headers]
        if len(set(batch.headers)) == 1 and counts[0] == 1:
            return self._write_tiles(batch.header, batch.symbols)
        files, end = [], 0
        for header, count in zip(batch.headers, counts, strict=True):
            start, end = end, end + count
            files.append(self._write_one(header, [layer[start:end] for layer in batch.symbols]))
        return files

    def read(self, files: Sequence[bytes], layers: int | None = None) -> list[SymbolBatch]:
        """As `FileCoder.read`; all files make one batch."""
        if not files:
            return []
        headers, symbols = self.read_symbols(files, layers)
        for header in headers:
            refuse_block(header)
        return [SymbolBatch(range(len(files)), headers, symbols)]

    def read_block(self, file: bytes, layers: int | None = None) -> SymbolBatch:
        """As `FileCoder.read_block`."""
        (header,), symbols = self.read_symbols([file], layers)
        return block_of(header, symbols)

    def read_runs(
        self, file: bytes, layers: int | None = None
    ) -> tuple[SizedHeader, Iterator[list[Int32Array]]]:
        """`read` of one file in little memory: its header, and symbols [t, D_l] run by run.

        All checks are done, and everything raised, before this returns.
        """
        (opened,) = open_files([file], self.form, whole=self._whole(layers))
        tiles = tiles_of(opened.header, self.tile)
        top, runs = self.coder.decode_runs(opened.payload, tiles, layers)
        opened.verify_first(top)
        refuse_block(opened.header)
        return opened.header, runs

    def symbols(self, files: Sequence[bytes]) -> list[Int32Array]:
        """As `FileCoder.symbols`: int32 [T, D_l] per layer, T tiles in all."""
        return self.read_symbols(files)[1]

    def information_bits(self, batch: SymbolBatch) -> FloatArray:
        """As `FileCoder.information_bits`."""
        bits: FloatArray = self.tables.information_bits(list(batch.symbols)).sum(axis=0)
        return bits

    def read_symbols(
        self, files: Sequence[bytes], layers: int | None = None
    ) -> tuple[list[SizedHeader], list[Int32Array]]:
        """Headers and symbols [T, D_l] of files, blocks among them, file after file.

        Allocates in proportion to what so many bytes can hold under the tables. Raises
        BitstreamError; with more than one file, the message says which.
        """
        opened = open_files(files, self.form, whole=self._whole(layers))
        tiles = [tiles_of(file.header, self.tile) for file in opened]
        payloads = [file.payload for file in opened]
        if len(files) != 1 and all(n == 1 for n in tiles):
            symbols = self.coder.decode_records(payloads, layers)
        else:
            symbols = self._decode_each(payloads, tiles, layers)
        _verify_first(opened, tiles, symbols[0])
        return [file.header for file in opened], symbols

    def _decode_each(
        self, payloads: Sequence[bytes], tiles: Sequence[int], layers: int | None
    ) -> list[Int32Array]:
        """Symbols [T, D_l] of payloads of these numbers of tiles; errors say which file."""
        parts = []
        for number, (payload, count) in enumerate(zip(payloads, tiles, strict=True)):
            try:
                parts.append(self.coder.decode(payload, count, layers))
            except BitstreamError as error:
                raise_about(error, number, len(payloads))
        return [np.concatenate(layer) for layer in zip(*parts, strict=True)]

    def _write_one(self, header: SizedHeader, symbols: Symbols) -> bytes:
        """The file of all these tiles. Raises ValueError for symbols that do not fit."""
        written = written_header(header, self.form)
        tiles = tiles_of(header, self.tile)
        if any(len(layer) != tiles for layer in symbols):
            raise ValueError(f"need the symbols of {tiles} tiles, not {[len(s) for s in symbols]}")
        payload = self.coder.encode(symbols)
        first = first_layer_bytes(symbols[0])
        return write_file(written, several=tiles > 1, first_layer=first, payload=payload)

    def _write_tiles(self, header: SizedHeader, symbols: Symbols) -> list[bytes]:
        """A file per tile; the bytes are those of `_write_one`."""
        tops = [top.tobytes() for top in symbols[0].astype(">i2")]
        return write_files(
            written_header(header, self.form), tops, self.coder.encode_records(symbols)
        )

    def _whole(self, layers: int | None) -> bool:
        """Whether the check of the whole file vouches for these layers; of the top one its own
        does.
        """
        layer_count(layers, len(self.tables.layers))
        return layers != 1


def _verify_first(opened: Sequence[OpenedFile], tiles: Sequence[int], top: Int32Array) -> None:
    """Check every file's share of the top layer's symbols."""
    end = 0
    for number, (file, count) in enumerate(zip(opened, tiles, strict=True)):
        start, end = end, end + count
        try:
            file.verify_first(top[start:end])
        except BitstreamError as error:
            raise_about(error, number, len(opened))
