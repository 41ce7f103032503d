"""Images out of an archive: one by number or name, many at once, or all in order."""

from __future__ import annotations

import errno
import os
import stat
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, overload

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.archive.format import Directory, Entry
from hvae_codec.codec.archive.index import (
    RecoveredWarning,
    errors_about,
    mismatch,
    read_directory,
    read_file,
    read_index,
    unique_numbers,
    verify_block,
)
from hvae_codec.codec.archive.info import ArchiveInfo, ArchiveSource, Damage, PictureInfo
from hvae_codec.codec.archive.labels import Label
from hvae_codec.codec.archive.names import is_unicode
from hvae_codec.codec.bitstream.container import tiles_of
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.features import Features, joined
from hvae_codec.errors import ArchiveError, BitstreamError, WrongModelError
from hvae_codec.utils.arguments import is_whole, layer_count, path_of, shown
from hvae_codec.utils.executors.prefetch import ahead

if TYPE_CHECKING:  # a listing needs no codec, and so does not import torch
    from hvae_codec.codec.codec import Codec

Pixels = NDArray[np.uint8]

_BATCH_TILES = 256  # through the networks at once
_KEPT_TILES = 4096  # a larger file of a block is decoded anew each time


class Archive:
    """Reads a `.hvaa` archive.

        with Archive("images.hvaa") as archive:
            archive[7], archive["cat.png"]     # uint8 [H, W, C], C = 1 for grey images
            archive.decode(range(100, 200))    # a list; faster than one by one
            for image in archive: ...        # block by block, in order

    Several threads may read one archive. Images added by a writer after the archive was opened
    are not seen. A copy, or what arrives in another process, opens the file at its path anew; it
    must be the same archive, which may have grown.

    Args:
        path: of the archive.
        codec: what decodes the images; by default the model available that the archive is of, which
            is loaded when it is first needed.

    Raises:
        NotAnHvaeFileError, UnsupportedVersionError, CorruptError: it is no archive, of a later
            version, or its header and its index are both damaged.
        WrongModelError: `codec` is of another model. HvaeCodecError: it is no codec.
        OSError: the file cannot be opened, or is a directory. ArchiveError: it is a pipe or device.

    Warns:
        RecoveredWarning: the archive was not closed by its writer, or its header or index is
            damaged. All sound blocks are found nevertheless.
    """

    def __init__(self, path: str | os.PathLike[str], codec: Codec | None = None) -> None:
        if codec is not None:
            from hvae_codec.codec.codec import checked_codec

            codec = checked_codec(codec)
        self._path = path_of("path", path)
        self._absolute = self._path.absolute()
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        try:
            mode = os.fstat(self._descriptor).st_mode
            if stat.S_ISDIR(mode):
                number = errno.EISDIR  # of which the first read would not say where
                raise IsADirectoryError(number, os.strerror(number), str(path))
            if not stat.S_ISREG(mode):
                raise ArchiveError(f"{self._path} is a pipe or device: an archive is a file")
            with errors_about(self._path):
                self._index = read_index(self._fd)
                self._sample = self._index.sample(self._fd)  # of `source`, also once it is closed
        except BaseException:
            self.close()
            raise
        model_id = self._index.header.model_id
        self._given = codec is not None
        if codec is not None:
            if codec.info.model_id != model_id.hex():
                self.close()
                raise WrongModelError(
                    f"{self._path} is of model {model_id.hex()}, not of {codec.info.model_id}"
                )
            self.codec = codec
        if self._index.problem is not None:
            message = f"{self._path}: {self._index.problem}; found {len(self)} images"
            lost = f", of which {self._index.lost} are lost" if self._index.lost else ""
            warnings.warn(message + lost, RecoveredWarning, stacklevel=2)
        self._kept: tuple[tuple[int, int], SymbolBatch] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
        self._close()

    def __reduce__(self) -> tuple[Callable[..., Archive], tuple[object, ...]]:
        given = self.codec if self._given else None
        return Archive.reopen, (self.source, given)

    @property
    def _fd(self) -> int:
        """The open file. Raises ArchiveError after `close`."""
        if not self._close.alive:
            raise ArchiveError(f"the archive {self._path} is closed; open it again")
        return self._descriptor

    @cached_property
    def codec(self) -> Codec:
        """What decodes the images. Raises UnknownModelError if the model is not available."""
        from hvae_codec.codec.registry import codec_of

        return codec_of(self._index.header.model_id)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    @cached_property
    def source(self) -> ArchiveSource:
        """What opens this archive again, whatever the working directory is by then."""
        digest = self._index.digest(self._sample)
        return ArchiveSource(self._absolute, len(self._index.entries), digest)

    @classmethod
    def reopen(cls, source: ArchiveSource, codec: Codec | None = None) -> Self:
        """The archive of `source` anew; it may have grown.

        Raises:
            ArchiveError: another archive lies at the path. And as `Archive`.
        """
        archive = cls(source.path, codec)
        sample = archive._index.sample(archive._fd, source.blocks)
        if archive._index.digest(sample, source.blocks) != source.digest:
            archive.close()
            raise ArchiveError(
                f"{source.path} is no longer the archive that was opened, pickled or copied"
            )
        return archive

    @property
    def info(self) -> ArchiveInfo:
        """What the archive says of itself; no model is needed."""
        header, entries = self._index.header, self._index.entries
        return ArchiveInfo(
            model_id=header.model_id.hex(),
            tile=(header.tile_height, header.tile_width),
            channels=header.channels,
            pictures=len(self),
            blocks=len(entries),
            named=any(entry.named for entry in entries),
            labels=header.has_labels,
            file_bytes=os.fstat(self._fd).st_size,
            block_file_bytes=sum(entry.data_bytes for entry in entries),
            problem=self._index.problem,
        )

    @property
    def names(self) -> list[str | None]:
        """The name of every image, None for those without. Raises CorruptError."""
        return [picture.name for picture in self.listing()]

    @property
    def labels(self) -> list[Label | None]:
        """The label of every image, None for those without. Raises CorruptError."""
        return [picture.label for picture in self.listing()]

    @property
    def blocks(self) -> list[range]:
        """The numbers of the images of each block, which is read on its own."""
        return [range(entry.first, entry.stop) for entry in self._index.entries]

    def listing(self, pictures: range | None = None) -> Iterator[PictureInfo]:
        """Number, name, size and label of every image, in order, or of a range of rising numbers.

        No model is needed.

        Raises:
            IndexError: the range goes beyond the archive.
            CorruptError: at a block whose directory is damaged, or that is lost.
        """
        wanted: Iterator[tuple[Entry, NDArray[np.intp]]]
        if pictures is None:
            wanted = map(_all_of, self._index.in_order(self._path))
        else:
            numbers, _ = unique_numbers(self._path, len(self), pictures)
            wanted = self._index.by_entry(self._path, numbers)
        for entry, positions in wanted:
            directory = self._directory(entry)
            for position in positions.tolist():
                group = directory.groups[int(directory.group_of[position])]
                size = (group.height, group.width, group.channels)
                name, label = directory.names[position], directory.labels[position]
                yield PictureInfo(entry.first + position, name, *size, label)

    def number(self, name: str) -> int:
        """The number of the image of this name.

        Raises:
            KeyError: there is none. ArchiveError: the name is no text. CorruptError: the block is
                damaged.
        """
        if not isinstance(name, str):
            raise ArchiveError(f"a name must be text, not {type(name).__name__} {shown(name)}")
        found = self._find(name)
        if found is None:
            raise KeyError(f"{self._path} has no image named {name!r}")
        return found

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: object) -> bool:
        """Whether there is an image of this name, or number."""
        if isinstance(key, str):
            return self._find(key) is not None
        return is_whole(key) and bool(-len(self) <= key < len(self))  # type: ignore[operator]

    @overload
    def __getitem__(self, key: int | str) -> Pixels: ...
    @overload
    def __getitem__(self, key: slice) -> list[Pixels]: ...
    def __getitem__(self, key: int | str | slice) -> Pixels | list[Pixels]:
        """An image uint8 [H, W, C] by number (from the end, if negative) or name; a list of
        images for a slice.

        Raises:
            IndexError, KeyError: there is none. ArchiveError: the key is of another type.
            CorruptError: it lies in a damaged block.
        """
        if isinstance(key, slice):
            try:
                return self.decode(range(len(self))[key])
            except TypeError as error:
                raise ArchiveError(
                    f"a slice of whole numbers is taken, not {shown(key)}"
                ) from error
        return self.decode([self.number(key) if isinstance(key, str) else key])[0]

    def __iter__(self) -> Iterator[Pixels]:
        """Every image in order. Memory is that of a few blocks, whatever the archive's size.

        Raises:
            CorruptError: at a damaged block, or where one is lost.
        """
        for batches in ahead(self._batches(map(_all_of, self._index.in_order(self._path)), None)):
            yield from self.codec.images_of(batches)

    def decode(self, indices: Iterable[int]) -> list[Pixels]:
        """The images of these numbers, in this order; each block is read once.

        Raises:
            IndexError, CorruptError: as `archive[i]`.
        """
        numbers, places = unique_numbers(self._path, len(self), indices)
        decoded: list[Pixels] = []
        for batches in ahead(self._batches(self._index.by_entry(self._path, numbers), None)):
            decoded += self.codec.images_of(batches)
        once = np.bincount(places, minlength=len(numbers)) == 1
        return [decoded[place] if once[place] else decoded[place].copy() for place in places]

    def features(self, indices: Iterable[int] | None = None) -> Features:
        """z2 as it was coded of the images of these numbers (None: of all), float32 [N, D].

        Only z2 is decoded, and verified by its own check sum alone.

        Raises:
            IndexError, CorruptError: as `archive[i]`.
        """
        return self.layer_features(indices, 1)[0]

    def layer_features(
        self, indices: Iterable[int] | None = None, layers: int | None = None
    ) -> list[Features]:
        """`features` of the first `layers` layers (None: all), top first. No image is decoded.

        Raises:
            IndexError, CorruptError: as `archive[i]`.
            UnknownQualityError: there are not so many layers.
        """
        layers = None if layers is None else layer_count(layers, len(self.codec.info.z_dims))
        wanted = range(len(self)) if indices is None else indices
        numbers, places = unique_numbers(self._path, len(self), wanted)
        if len(numbers) == 0:
            return self.codec.layer_features([], layers)
        found = [
            self.codec.features_of(batches)
            for batches in self._batches(self._index.by_entry(self._path, numbers), layers)
        ]
        return joined(found, places)

    def verify(self) -> list[Damage]:
        """Check every byte of every block; what is damaged or lost, nothing if all is well.

        No model is needed. A damaged index or header is not here but in `info.problem`.
        """
        damages = []
        expected = 0
        for entry in self._index.entries:
            if entry.first != expected:
                damages.append(Damage(expected, entry.first - expected, "the block is lost"))
            expected = entry.stop
            try:
                verify_block(self._fd, self._index.header, entry)
            except BitstreamError as error:
                damages.append(Damage(entry.first, entry.count, str(error)))
        return damages

    def _find(self, name: str) -> int | None:
        if not is_unicode(name):
            return None
        with errors_about(self._path):
            return self._index.find(self._fd, name)

    def _directory(self, entry: Entry) -> Directory:
        with errors_about(self._path, entry):
            return read_directory(self._fd, self._index.header, entry)

    def _batches(
        self, wanted: Iterable[tuple[Entry, NDArray[np.intp]]], layers: int | None
    ) -> Iterator[list[SymbolBatch]]:
        """The symbols of images, numbered as in the archive, whole blocks after whole blocks."""
        batches: list[SymbolBatch] = []
        for entry, positions in wanted:
            directory = self._directory(entry)
            with errors_about(self._path, entry):
                is_wanted = np.zeros(entry.count, bool)
                is_wanted[positions] = True
                for group in np.unique(directory.group_of[positions]):
                    members = directory.members(int(group))
                    block = self._block(entry, directory, int(group), layers)
                    rows = np.flatnonzero(is_wanted[members])
                    numbers = entry.first + members[rows]
                    batches.append(replace(block.select(rows), numbers=numbers))
            if sum(map(self._tiles, batches)) >= _BATCH_TILES:
                yield batches
                batches = []
        if batches:
            yield batches

    def _block(
        self, entry: Entry, directory: Directory, group: int, layers: int | None
    ) -> SymbolBatch:
        """The symbols of one file of a block; that of the last call is kept."""
        key = (entry.offset, group)
        kept = self._kept
        if kept is not None and kept[0] == key:
            return replace(kept[1], symbols=kept[1].symbols[:layers])
        file = read_file(self._fd, entry, directory, group)
        block = self.codec.file_coder.read_block(file, layers)
        stated = directory.groups[group]
        found = (*self.codec.stated_shape(block.header)[:3], len(block))
        count = len(directory.members(group))
        if found != (stated.height, stated.width, stated.channels, count):
            raise mismatch(stated)
        if layers is None and self._tiles(block) <= _KEPT_TILES:
            self._kept = (key, block)
        return block

    def _tiles(self, batch: SymbolBatch) -> int:
        """Tiles of the model's size in images of one size, which may be coded whole as well."""
        header = self._index.header
        tile = (header.tile_height, header.tile_width)
        return len(batch) * tiles_of(batch.header, tile)


def _all_of(entry: Entry) -> tuple[Entry, NDArray[np.intp]]:
    return entry, np.arange(entry.count)
