"""One block of an archive: when it is full, and its bytes, wherever it will lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.archive_format import Directory, Group
from hvae_codec.codec.archive_names import MAX_BLOCK_NAME_BYTES
from hvae_codec.codec.arguments import whole
from hvae_codec.codec.codec import Block, Codec
from hvae_codec.codec.tiling import tile_grid
from hvae_codec.errors import HvaeCodecError

Pixels = NDArray[np.uint8]

BLOCK_TILES = 256
"""Tiles from which on a block takes no more pictures."""

MAX_BLOCK_TILES = 1 << 16


class BlockRoom:
    """How full a block is. It needs the pictures' sizes and names alone, so whoever knows these can
    say which pictures share a block before any is coded.

    Args:
        codec: of the archive.
        block_tiles: as `ArchiveWriter`.

    Raises:
        HvaeCodecError: block_tiles is no whole number, or out of range.
    """

    def __init__(self, codec: Codec, block_tiles: int = BLOCK_TILES) -> None:
        block_tiles = whole("block_tiles", block_tiles)
        if not 1 <= block_tiles <= MAX_BLOCK_TILES:
            raise HvaeCodecError(f"block_tiles must lie in 1..{MAX_BLOCK_TILES}, not {block_tiles}")
        _, height, width = codec.info.image_shape
        self._tile = (height, width)
        self._most_tiles = min(block_tiles, codec.most_block_tiles)
        self.empty()

    @property
    def full(self) -> bool:
        """Whether the block takes no more pictures."""
        return self._tiles >= self._most_tiles

    def takes_name(self, name_bytes: int) -> bool:
        """Whether one more name of so many bytes fits in."""
        return self._name_bytes + name_bytes <= MAX_BLOCK_NAME_BYTES

    def add(self, height: int, width: int, name_bytes: int) -> None:
        """Count a picture."""
        rows, columns = tile_grid(height, width, self._tile)
        self._tiles += rows * columns
        self._name_bytes += name_bytes

    def empty(self) -> None:
        """Begin the next block."""
        self._tiles = self._name_bytes = 0


@dataclass(frozen=True)
class CodedBlock:
    """A block's directory, and the `.hvae` file of each of its sizes."""

    directory: Directory
    files: list[bytes]

    def __len__(self) -> int:
        """Pictures in the block."""
        return len(self.directory.names)


@dataclass(frozen=True)
class UncodedBlock:
    """Pictures between the networks and the bytes: for each size its block, and each one's size."""

    blocks: list[Block]
    sizes: list[tuple[int, ...]]
    group_of: NDArray[np.intp]
    names: tuple[str | None, ...]

    def code(self, codec: Codec) -> CodedBlock:
        """Entropy coding, without the networks."""
        files = [codec.write_block(block) for block in self.blocks]
        groups = tuple(
            Group(height, width, channels, len(file))
            for (height, width, channels), file in zip(self.sizes, files, strict=True)
        )
        return CodedBlock(Directory(groups, self.group_of, self.names), files)


def uncoded_block(
    codec: Codec, pictures: Sequence[Pixels], names: Sequence[str | None]
) -> UncodedBlock:
    """Run the networks on the pictures of a block, uint8 [H, W, C] each, one name for each.

    Raises:
        ImageError: the codec cannot take a picture.
    """
    groups: dict[tuple[int, ...], list[Pixels]] = {}
    for picture in pictures:
        groups.setdefault(picture.shape, []).append(picture)
    numbers = {shape: number for number, shape in enumerate(groups)}
    group_of = np.array([numbers[picture.shape] for picture in pictures], np.intp)
    blocks = [codec.block(group) for group in groups.values()]
    return UncodedBlock(blocks, list(groups), group_of, tuple(names))


def code_block(codec: Codec, pictures: Sequence[Pixels], names: Sequence[str | None]) -> CodedBlock:
    """Both halves: what `ArchiveWriter` would write for these pictures as one block.

    Raises:
        ImageError: as `uncoded_block`.
    """
    return uncoded_block(codec, pictures, names).code(codec)
