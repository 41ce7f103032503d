"""Files of fully convolutional models: symbols [C, N, h, w] per layer, and a quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from hvae_codec.codec.bitstream.container import (
    MAX_FILE_PIXELS,
    ConvForm,
    OpenedFile,
    first_layer_bytes,
    open_file,
    open_files,
    raise_about,
    written_header,
)
from hvae_codec.codec.bitstream.files import block_of, refuse_block
from hvae_codec.codec.bitstream.header import SizedHeader, write_file
from hvae_codec.codec.bitstream.symbols import SymbolBatch, as_rows, order_of
from hvae_codec.codec.entropy.context_coder import ContextCoder, Shape
from hvae_codec.codec.entropy.context_tables import ContextTables
from hvae_codec.codec.entropy.tables import FloatArray, Int32Array
from hvae_codec.errors import BitstreamError, CorruptError
from hvae_codec.utils.arguments import layer_count


class ConvFileCoder:
    """File coder of a fully convolutional model that trained on `own_size` (height, width).

    coarsest: the stride of its top layer.
    """

    def __init__(
        self, tables: ContextTables, model_id: bytes, own_size: tuple[int, int], coarsest: int
    ) -> None:
        self.tables = tables
        self.form = ConvForm(model_id, own_size, coarsest)

    @property
    def model_id(self) -> bytes:
        """As `FileCoder.model_id`."""
        return self.form.model_id

    @cached_property
    def coder(self) -> ContextCoder:
        """The coder with its tables prepared."""
        return ContextCoder(self.tables)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "coder"}

    @property
    def most_block_tiles(self) -> int:
        """As `FileCoder.most_block_tiles`."""
        height, width = self.form.own_size
        return MAX_FILE_PIXELS // (2 * height * width)

    def write(self, batch: SymbolBatch) -> list[bytes]:
        """As `FileCoder.write`."""
        header, each = batch.header, 1
        if batch.block:
            each = len(batch)
            header = replace(header, count=each, block=True)
        written, long = written_header(header, self.form), self.form.is_long(header)
        payloads = self.coder.encode(batch.symbols, _quality(header), each, batch.contexts)
        tops = batch.symbols[0].transpose(1, 0, 2, 3)
        files = []
        for number, payload in enumerate(payloads):
            first = first_layer_bytes(tops[number * each : (number + 1) * each])
            files.append(write_file(written, several=long, first_layer=first, payload=payload))
        return files

    def read(self, files: Sequence[bytes], layers: int | None = None) -> list[SymbolBatch]:
        """As `FileCoder.read`; files that share size, quality and greyness make one batch."""
        wanted = layer_count(layers, len(self.tables.layers))
        opened = open_files(files, self.form, whole=layers != 1)
        groups: dict[SizedHeader, list[int]] = {}
        for number, file in enumerate(opened):
            try:
                refuse_block(file.header)
            except BitstreamError as error:
                raise_about(error, number, len(files))
            groups.setdefault(file.header, []).append(number)
        batches = []
        for header, numbers in groups.items():
            same = [opened[number] for number in numbers]
            symbols = self._symbols_of(same, wanted, numbers=numbers, of=len(files))
            batches.append(SymbolBatch(numbers, [header] * len(numbers), symbols))
        return batches

    def read_block(self, file: bytes, layers: int | None = None) -> SymbolBatch:
        """As `FileCoder.read_block`."""
        wanted = layer_count(layers, len(self.tables.layers))
        opened = open_file(file, self.form, whole=layers != 1)
        return block_of(opened.header, self._symbols_of([opened], wanted, numbers=[0], of=1))

    def symbols(self, files: Sequence[bytes]) -> list[Int32Array]:
        """As `FileCoder.symbols`: int32 [N, C * h * w] per layer, of files of one size."""
        if not files:
            shapes = self.shapes(1, *self.form.own_size)
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
        quality = _quality(batch.header)
        bits: FloatArray = self.coder.information_bits(batch.symbols, quality).sum(axis=0)
        return bits

    def shapes(self, count: int, height: int, width: int) -> list[Shape]:
        """(N, h, w) of each layer, top first, of N = count images of one size."""
        rows, columns = self.form.padded(height, width)
        strides = [layer.context.stride for layer in self.tables.layers]
        return [(count, rows // stride, columns // stride) for stride in strides]

    def _symbols_of(
        self, files: Sequence[OpenedFile], layers: int, *, numbers: Sequence[int], of: int
    ) -> list[Int32Array]:
        """Symbols [C, N, h, w] of the first layers of files of one header, file after file.

        numbers, of: which of how many files these are, for messages about them. Raises
        CorruptError.
        """
        header = files[0].header
        shapes = self.shapes(header.count, header.height, header.width)[:layers]
        try:
            symbols = self.coder.decode([file.payload for file in files], _quality(header), shapes)
        except CorruptError as error:
            if len(files) == 1:
                raise_about(error, numbers[0], of)
            for file, number in zip(files, numbers, strict=True):  # to say which of them it was
                self._symbols_of([file], layers, numbers=[number], of=of)
            raise
        tops = symbols[0].transpose(1, 0, 2, 3)
        for position, file in enumerate(files):
            try:
                file.verify_first(tops[position * header.count : (position + 1) * header.count])
            except BitstreamError as error:
                raise_about(error, numbers[position], of)
        return symbols


def _quality(header: SizedHeader) -> int:
    assert header.quality is not None
    return header.quality
