"""The half of a codec that needs no network: symbols to files, and files to symbols.

Nothing here imports torch, so that processes which do this alone start fast and stay small, and
everything can be sent between processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from hvae_codec.codec.bitstream.container import (
    Opened,
    pack,
    pack_many,
    raise_about,
    tiles_of,
    unpack_many,
)
from hvae_codec.codec.bitstream.container_v2 import open_maps, pack_maps, unpack_maps
from hvae_codec.codec.bitstream.header import Header
from hvae_codec.codec.entropy.context_coder import MapCoder, Shape
from hvae_codec.codec.entropy.context_tables import MapTables
from hvae_codec.codec.entropy.contexts import Levels
from hvae_codec.codec.entropy.range_coder import SymbolCoder
from hvae_codec.codec.entropy.tables import FloatArray, SymbolTables
from hvae_codec.errors import BitstreamError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Part:
    """Some pictures of a call between the networks and the bytes.

    numbers: the place of each picture in the call.
    headers: of each picture, its size filled in.
    symbols: integers of the first layers, top first: [T, D_l], the tiles of one picture after those
        of another; of a model of maps [C, N, h, w], all headers being equal.
    levels: those of the symbols of maps, where they are known.
    """

    numbers: Sequence[int]
    headers: Sequence[Header]
    symbols: Sequence[npt.NDArray[np.integer]]
    levels: Sequence[Levels] | None = None

    def narrowed(self) -> Part:
        """The same with symbols in the smallest type that holds them, to be sent elsewhere."""
        return replace(self, symbols=[_narrow(layer) for layer in self.symbols])


class EntropyCoding(Protocol):
    """What both kinds of codec have as `entropy`."""

    model_id: bytes

    def write(self, part: Part) -> list[bytes]:
        """A `.hvae` file for each picture of the part."""

    def read(self, files: Sequence[bytes], layers: int | None = None) -> list[Part]:
        """The symbols of files of one picture each, of their first `layers` layers (None: all).

        Raises BitstreamError; with more than one file, the message says which.
        """

    def information_bits(self, part: Part) -> FloatArray:
        """Information content of all pictures of the part under the tables, bits a layer [L]."""


class TileEntropy:
    """Entropy coding for a model whose pictures are tiles of its own size (height, width)."""

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

    def write(self, part: Part) -> list[bytes]:
        """As `EntropyCoding.write`."""
        counts = [tiles_of(header, self.tile) for header in part.headers]
        shapes = {(header.height, header.width, header.grey) for header in part.headers}
        if len(shapes) == 1 and counts[0] == 1:
            ((height, width, grey),) = shapes
            assert height is not None
            assert width is not None
            return pack_many(
                self.coder,
                self.model_id,
                part.symbols,
                tile=self.tile,
                width=width,
                height=height,
                grey=grey,
            )
        files, end = [], 0
        for header, count in zip(part.headers, counts, strict=True):
            start, end = end, end + count
            assert header.height is not None
            assert header.width is not None
            file = pack(
                self.coder,
                self.model_id,
                [layer[start:end] for layer in part.symbols],
                tile=self.tile,
                width=header.width,
                height=header.height,
                grey=header.grey,
            )
            files.append(file)
        return files

    def read(self, files: Sequence[bytes], layers: int | None = None) -> list[Part]:
        """As `EntropyCoding.read`; all files make one part."""
        if not files:
            return []
        headers, symbols = unpack_many(
            self.coder, self.model_id, files, tile=self.tile, layers=layers
        )
        for header in headers:
            refuse_block(header)
        return [Part(range(len(files)), headers, symbols)]

    def information_bits(self, part: Part) -> FloatArray:
        """As `EntropyCoding.information_bits`."""
        bits: FloatArray = self.tables.information_bits(list(part.symbols)).sum(axis=0)
        return bits


class MapEntropy:
    """Entropy coding for a model of maps that trained on pictures of `own_size` (height, width).

    coarsest: the stride of its top layer.
    """

    def __init__(
        self, tables: MapTables, model_id: bytes, own_size: tuple[int, int], coarsest: int
    ) -> None:
        self.tables = tables
        self.model_id = model_id
        self.own_size = own_size
        self.coarsest = coarsest

    @cached_property
    def coder(self) -> MapCoder:
        """The coder with its tables prepared."""
        return MapCoder(self.tables)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "coder"}

    def write(self, part: Part) -> list[bytes]:
        """As `EntropyCoding.write`."""
        return pack_maps(
            self.coder,
            part.headers[0],
            part.symbols,
            own_size=self.own_size,
            coarsest=self.coarsest,
            levels=part.levels,
        )

    def read(self, files: Sequence[bytes], layers: int | None = None) -> list[Part]:
        """As `EntropyCoding.read`; files that share size, quality and greyness make one part."""
        wanted = len(self.tables.layers) if layers is None else layers
        opened = []
        for number, blob in enumerate(files):
            try:
                opened.append(self.open(blob, wanted))
                refuse_block(opened[-1].header)
            except BitstreamError as error:
                raise_about(error, number, len(files))
        groups: dict[Header, list[int]] = {}
        for number, file in enumerate(opened):
            groups.setdefault(file.header, []).append(number)
        parts = []
        for header, numbers in groups.items():
            symbols = unpack_maps(
                self.coder,
                [(files[number], opened[number]) for number in numbers],
                self.shapes,
                wanted,
                numbers=numbers,
                of=len(files),
            )
            parts.append(Part(numbers, [header] * len(numbers), symbols))
        return parts

    def information_bits(self, part: Part) -> FloatArray:
        """As `EntropyCoding.information_bits`."""
        quality = part.headers[0].quality
        assert quality is not None
        bits: FloatArray = self.coder.information_bits(part.symbols, quality).sum(axis=0)
        return bits

    def open(self, blob: bytes, layers: int) -> Opened:
        """Header and payload of a file whose first layers are wanted."""
        return open_maps(
            blob,
            self.model_id,
            own_size=self.own_size,
            coarsest=self.coarsest,
            whole=layers != 1,
        )

    def shapes(self, count: int, height: int, width: int) -> list[Shape]:
        """(N, h, w) of each layer, top first, of so many pictures of a size."""
        rows, columns = (-(-side // self.coarsest) * self.coarsest for side in (height, width))
        strides = [layer.context.stride for layer in self.tables.layers]
        return [(count, rows // stride, columns // stride) for stride in strides]


def in_order(parts: Iterable[tuple[Sequence[int], Iterable[Result]]]) -> list[Result]:
    """The results of parts of a call, each with the numbers of its pictures, in their order."""
    found = {n: one for numbers, some in parts for n, one in zip(numbers, some, strict=True)}
    return [found[number] for number in sorted(found)]


def refuse_block(header: Header) -> None:
    """Raise BitstreamError where one picture is wanted and the file is a block."""
    if header.block:
        raise BitstreamError(f"the file is a block of {header.count} pictures; use decode_block")


def read_each(
    entropy: EntropyCoding, files: Sequence[bytes], layers: int | None = None
) -> Iterator[list[Part] | BitstreamError]:
    """Every file by itself: its parts, or the error that it alone makes."""
    for file in files:
        try:
            yield entropy.read([file], layers)
        except BitstreamError as error:
            yield error


Read = tuple[list[Part], dict[int, BitstreamError]]
"""Parts of the files that could be read, and the errors of the others, by number."""


def read_good(entropy: EntropyCoding, files: Sequence[bytes], layers: int | None = None) -> Read:
    """`EntropyCoding.read`, in which a file that cannot be read does not keep the others back. The
    parts number the files that could be read.
    """
    try:
        return entropy.read(files, layers), {}
    except BitstreamError:
        errors = {
            number: found
            for number, found in enumerate(read_each(entropy, files, layers))
            if isinstance(found, BitstreamError)
        }
    good = [file for number, file in enumerate(files) if number not in errors]
    return entropy.read(good, layers), errors


def _narrow(symbols: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    if symbols.size == 0:
        return symbols
    low, high = int(symbols.min()), int(symbols.max())
    for kind in (np.int8, np.int16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return symbols.astype(kind)
    return symbols
