"""One block of an archive: when it is full, and its bytes, wherever it will lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.archive.format import Directory, Group
from hvae_codec.codec.archive.labels import MAX_BLOCK_LABEL_BYTES, Label
from hvae_codec.codec.archive.names import MAX_BLOCK_NAME_BYTES
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.codec import Codec, checked_codec
from hvae_codec.codec.tiled.tiling import tile_grid
from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.arguments import whole

Pixels = NDArray[np.uint8]

BLOCK_TILES = 256
"""Tiles from which on a block takes no more images."""

MAX_BLOCK_TILES = 1 << 16


class BlockRoom:
    """How full a block is. It needs the images' sizes, names and labels alone, so whoever knows
    these can say which images share a block before any is coded.

    Args:
        codec: of the archive.
        block_tiles: as `ArchiveWriter`.

    Raises:
        HvaeCodecError: block_tiles is no whole number, or out of range; or no codec is given.
    """

    def __init__(self, codec: Codec, block_tiles: int = BLOCK_TILES) -> None:
        codec = checked_codec(codec)
        block_tiles = whole("block_tiles", block_tiles)
        if not 1 <= block_tiles <= MAX_BLOCK_TILES:
            raise HvaeCodecError(f"block_tiles must lie in 1..{MAX_BLOCK_TILES}, not {block_tiles}")
        _, height, width = codec.info.image_shape
        self._tile = (height, width)
        self._most_tiles = min(block_tiles, codec.file_coder.most_block_tiles)
        self.empty()

    @property
    def full(self) -> bool:
        """Whether the block takes no more images."""
        return self._tiles >= self._most_tiles

    def takes(self, name_bytes: int, label_bytes: int) -> bool:
        """Whether one more name and label of so many bytes fit in."""
        return (
            self._name_bytes + name_bytes <= MAX_BLOCK_NAME_BYTES
            and self._label_bytes + label_bytes <= MAX_BLOCK_LABEL_BYTES
        )

    def add(self, height: int, width: int, name_bytes: int, label_bytes: int) -> None:
        """Count an image."""
        rows, columns = tile_grid(height, width, self._tile)
        self._tiles += rows * columns
        self._name_bytes += name_bytes
        self._label_bytes += label_bytes

    def empty(self) -> None:
        """Begin the next block."""
        self._tiles = self._name_bytes = self._label_bytes = 0


@dataclass(frozen=True)
class CodedBlock:
    """A block's directory, and the `.hvae` file of each of its sizes."""

    directory: Directory
    files: list[bytes]

    def __len__(self) -> int:
        """Images in the block."""
        return len(self.directory.names)


def quantised_block(codec: Codec, pictures: Sequence[Pixels]) -> list[SymbolBatch]:
    """Run the networks on the images of a block, uint8 [H, W, C]: a batch per shape, numbered by
    position in the block.

    Raises:
        ImageError: the codec cannot take an image.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, picture in enumerate(pictures):
        groups.setdefault(picture.shape, []).append(number)
    return [
        replace(codec.quantise_block([pictures[number] for number in numbers]), numbers=numbers)
        for numbers in groups.values()
    ]


def coded_block(
    codec: Codec,
    batches: Sequence[SymbolBatch],
    names: Sequence[str | None],
    labels: Sequence[Label | None] | None = None,
) -> CodedBlock:
    """The bytes of a block, one name and label per image; no network takes part."""
    files = [codec.file_coder.write(batch)[0] for batch in batches]
    group_of = np.empty(len(names), np.intp)
    groups = []
    for number, (batch, file) in enumerate(zip(batches, files, strict=True)):
        group_of[list(batch.numbers)] = number
        height, width, channels, _ = codec.stated_shape(batch.header)
        groups.append(Group(height, width, channels, len(file)))
    labels = (None,) * len(names) if labels is None else tuple(labels)
    return CodedBlock(Directory(tuple(groups), group_of, tuple(names), labels), files)


def code_block(
    codec: Codec,
    pictures: Sequence[Pixels],
    names: Sequence[str | None],
    labels: Sequence[Label | None] | None = None,
) -> CodedBlock:
    """Both halves: what `ArchiveWriter` would write for these images as one block.

    Raises:
        ImageError: as `quantised_block`.
    """
    return coded_block(codec, quantised_block(codec, pictures), names, labels)
