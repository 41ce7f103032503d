"""Images into an archive: networks in the caller's thread, entropy coding and disk in another."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvae_codec.codec.archive.blocks import (
    BLOCK_TILES,
    BlockRoom,
    CodedBlock,
    coded_block,
    quantised_block,
)
from hvae_codec.codec.archive.format import (
    HEAD_BYTES,
    HEADER_BYTES,
    LABELS_VERSION,
    VERSION,
    ArchiveHeader,
    Entry,
    directory_hashes,
    write_block,
    write_index,
)
from hvae_codec.codec.archive.index import ArchiveIndex, RecoveredWarning, read_index
from hvae_codec.codec.archive.labels import Label, decode_labels, encode_label
from hvae_codec.codec.archive.names import check_name
from hvae_codec.codec.archive.rows import rows_of
from hvae_codec.codec.archive.writer_file import WriterFile
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.images.load import Picture, as_uint8
from hvae_codec.codec.model_shape import Pictures
from hvae_codec.errors import (
    ArchiveError,
    BitstreamError,
    CorruptError,
    HvaeCodecError,
    WrongModelError,
)
from hvae_codec.utils.arguments import flag, path_of, shown

Pixels = NDArray[np.uint8]


class ArchiveWriter:
    """Writes a `.hvaa` archive, a new one or at the end of one that is there.

        with ArchiveWriter("images.hvaa", hvae_codec.load("cifar10")) as archive:
            archive.extend(images, names)

    Images may differ in size and be grey or RGB; they keep the order in which they are added.
    A label is a whole number of 32 bits, or a JSON object (a dict) of at most 64 KiB.
    They are coded and written in blocks. A block that was written outlives the process, also one
    that is killed; `flush` writes what is waiting and makes all of it outlive a power cut. `close`,
    or the end of the `with`, also after an error, writes what is waiting, and the index. An archive
    that was not closed is still read, by a search for its blocks; opening it with `append` and
    closing it gives it its index again.

    One thread may use a writer at a time, and one process may write an archive: a process that is
    forked meanwhile can only close it, which writes nothing.

    Args:
        path: of the archive.
        codec: what codes the images; when appending, of the model that the archive is of.
        append: go on with the archive at `path`, if there is one; else there must be no file.
        block_tiles: a block takes images until they have this many tiles of the model's size.
            More make an archive a little smaller, fewer make the access to one image faster.
        labels: a new archive has room for labels; earlier releases cannot read such archives.

    Raises:
        FileExistsError: there is a file and `append` is not given.
        WrongModelError: the archive is of another model.
        BitstreamError: the file to append to is no archive, or blocks in the midst of it are lost.
        ArchiveError: another process is writing it; the one to append to has no room for labels; or
            `path` is no regular file.
        HvaeCodecError: the codec or another argument is of another type.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        codec: Codec,
        *,
        append: bool = False,
        block_tiles: int = BLOCK_TILES,
        labels: bool = False,
    ) -> None:
        append = flag("append", append)
        version = LABELS_VERSION if flag("labels", labels) else VERSION
        self._room = BlockRoom(codec, block_tiles)
        self._path = path_of("path", path)
        self._process = os.getpid()
        self._codec = codec
        channels, height, width = codec.info.image_shape
        model_id = bytes.fromhex(codec.info.model_id)
        self._header = ArchiveHeader(model_id, width, height, channels, version)
        self._pictures: list[Pixels] = []
        """Those that wait until they are enough for a block."""
        self._names: list[str | None] = []
        self._labels: list[Label | None] = []
        self._new_names: set[str] = set()
        self._writing: Future[None] | None = None
        self._error: OSError | ArchiveError | None = None
        self._pool = ThreadPoolExecutor(1, "hvae-archive")
        self._file = WriterFile(self._path, append)
        try:
            self._old = self._start()
            self._file.keep_header()
        except BaseException:
            self._file.close()
            raise
        self._handed_over = len(self._old)
        # The writing thread's, except while it rests:
        self._entries = list(self._old.entries)
        self._hashes = [self._old.hashes]
        self._end = self._old.end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # else the first error is the one to hear of
                raise

    def __reduce__(self) -> str:
        raise ArchiveError(
            f"the writer of {self._path} can be neither copied nor sent to another process: an "
            "archive has one writer; `code_block` codes in others what `add_block` writes"
        )

    def __len__(self) -> int:
        """Images in the archive, those waiting to be written included."""
        return self._handed_over + len(self._pictures)

    @property
    def has_labels(self) -> bool:
        """Whether the archive has room for labels."""
        return self._header.has_labels

    def add(self, image: Picture, name: str | None = None, label: Label | None = None) -> int:
        """Add an image; the number by which the archive will give it.

        Raises:
            ImageError: the image cannot be taken; nothing was added.
            ArchiveError: the name is in the archive already, or is not one; or the label is none
                that the archive can hold. Nothing was added.
            OSError: an earlier block could not be written; it and what was added since are lost.
            ArchiveError: likewise, as another program has removed, replaced or cut the file.
        """
        self._require_open()
        picture = as_uint8(image)
        self._codec.shape.check_channels(picture.shape[2])
        label_bytes = self.check_label(label)
        name_bytes = 0 if name is None else len(check_name(name))
        if name is not None:
            self.reserve(name)
        if not self._room.takes(name_bytes, len(label_bytes)):
            self._hand_over()
        if not isinstance(image, str | os.PathLike | Image.Image):  # those were read just now
            picture = picture.copy()  # the caller may fill the array anew before a block is full
        self._pictures.append(picture)
        self._names.append(name)
        self._labels.append(None if label is None else decode_labels(label_bytes, 1)[0])
        self._room.add(picture.shape[0], picture.shape[1], name_bytes, len(label_bytes))
        number = len(self) - 1
        if self._room.full:
            self._hand_over()
        return number

    def extend(
        self,
        images: Pictures,
        names: Iterable[str | None] | None = None,
        labels: Iterable[Label | None] | None = None,
    ) -> range:
        """Add images one after another, taking each from `images` when it is needed.

        Args:
            images: uint8 array [N, H, W, C], uint8 tensor [N, C, H, W], or an iterable of images.
            names, labels: one for each image, None for an image without.

        Returns:
            Their numbers.

        Raises:
            ImageError, ArchiveError, OSError: as `add`; the images before were added.
            ArchiveError: there are more or fewer names or labels than images, or they are no list.
        """
        start = len(self)
        for row in rows_of(images, names=names, labels=labels):
            self.add(*row)
        return range(start, len(self))

    def check_label(self, label: Label | None) -> bytes:
        """The bytes of a label in the archive.

        Raises:
            ArchiveError: the archive cannot hold it.
        """
        if label is not None and not self.has_labels:
            raise ArchiveError(
                f"{self._path} has no room for labels: make a new archive with labels=True"
            )
        return encode_label(label)

    def reserve(self, name: str) -> None:
        """Keep a name for an image of a block that `add_block` will bring.

        Raises:
            ArchiveError: the name is in the archive already, or is not one.
        """
        self._require_open()
        check_name(name)
        old = self._old.find(self._file.fileno(), name) is not None
        if old or name in self._new_names:
            raise ArchiveError(f"the archive has an image named {name!r} already")
        self._new_names.add(name)

    def add_block(self, block: CodedBlock) -> range:
        """Add images that `code_block` coded with this model, in this process or another one.

        Their names must have been reserved. What waits is written first, so the numbers go on.

        Returns:
            Their numbers.

        Raises:
            OSError: as `add`. HvaeCodecError: it is no coded block.
        """
        self._require_open()
        if not isinstance(block, CodedBlock):
            raise HvaeCodecError(
                f"a block is what `code_block` returns; got {type(block).__name__} {shown(block)}"
            )
        self._hand_over()
        self._write_behind(len(block), lambda: block)
        return range(len(self) - len(block), len(self))

    def flush(self) -> None:
        """Write what is waiting, as a block of its own, and have the disk keep it.

        Raises:
            OSError: it cannot be written.
        """
        self._require_open()
        self._hand_over()
        self._finish_writing()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what is waiting, and the index. Closing again does nothing.

        Raises:
            OSError: it cannot be written; what was flushed before is safe.
        """
        if self._file.closed:
            return
        if self._process != os.getpid():  # what waits, and the index, are the other's to write
            self._file.close()
            return
        try:
            try:
                if self._error is None:
                    self.flush()
            finally:
                self._write_index()
        finally:
            self._pool.shutdown()
            self._file.close()

    def _start(self) -> ArchiveIndex:
        """Write the header of a new archive, or read the index of an old one."""
        if self._file.size == 0:
            self._file.write(self._header.to_bytes())
            return ArchiveIndex(
                self._header, [], np.zeros(0, np.uint32), HEADER_BYTES, "a new archive"
            )
        try:
            index = read_index(self._file.fileno())
        except BitstreamError as error:
            raise type(error)(f"{self._path}: {error}") from error
        self._check_old(index)
        self._header = index.header  # of its version
        return index

    def _check_old(self, index: ArchiveIndex) -> None:
        if index.header.model_id != self._header.model_id:
            raise WrongModelError(
                f"{self._path} is of model {index.header.model_id.hex()}, "
                f"not of {self._codec.info.model_id}"
            )
        if self.has_labels and not index.header.has_labels:
            raise ArchiveError(
                f"{self._path} has no room for labels, as it was made without: copy its images to "
                "a new archive, or add images without labels (--no-labels)"
            )
        ends = [HEADER_BYTES, *(entry.end for entry in index.entries)]
        if index.lost or ends[:-1] != [entry.offset for entry in index.entries]:
            raise CorruptError(
                f"{self._path} cannot be appended to: blocks in the midst of it are lost; "
                "copy the images that are left to a new archive"
            )
        if index.problem is not None:
            end = f"behind image {len(index) - 1}" if len(index) else "at the start"
            message = f"{self._path}: {index.problem}; going on {end}"
            warnings.warn(message, RecoveredWarning, stacklevel=4)

    def _require_open(self) -> None:
        if self._process != os.getpid():
            raise ArchiveError(
                f"the writer of {self._path} is of another process, from which this one was "
                "forked: open it here with append, once that one has closed it"
            )
        if self._error is not None:
            raise self._error
        if self._file.closed:
            raise ArchiveError(f"the writer of {self._path} is closed")

    def _hand_over(self) -> None:
        """Run the networks on the waiting images and leave the rest to the other thread."""
        if not self._pictures:
            return
        batches = quantised_block(self._codec, self._pictures)
        names, labels = tuple(self._names), tuple(self._labels)
        self._write_behind(len(names), lambda: coded_block(self._codec, batches, names, labels))
        self._pictures, self._names, self._labels = [], [], []
        self._room.empty()

    def _write_behind(self, count: int, code: Callable[[], CodedBlock]) -> None:
        """Have the other thread make and write a block of so many images."""
        self._finish_writing()
        self._handed_over += count
        self._writing = self._pool.submit(self._write_coded, code)

    def _finish_writing(self) -> None:
        """Wait for the other thread, and raise what went wrong there."""
        if self._writing is None:
            return
        try:
            self._writing.result()
        except (OSError, ArchiveError) as error:
            self._error = error  # the numbers of later images would no longer be true
            raise
        self._writing = None

    def _write_coded(self, code: Callable[[], CodedBlock]) -> None:
        """Code and write one block of the archive."""
        block = code()
        directory = block.directory
        first = self._entries[-1].stop if self._entries else 0
        head, data = write_block(self._header, first, directory, block.files)
        self._file.write_behind(self._end, head + data)
        lengths = (len(head) - HEAD_BYTES, len(data))
        entry = Entry(self._end, *lengths, first, len(block), any(directory.names))
        self._entries.append(entry)
        self._hashes.append(directory_hashes(directory))
        self._end = entry.end

    def _write_index(self) -> None:
        """Write the index, unless the archive has it already."""
        if len(self._entries) == len(self._old.entries) and self._old.problem is None:
            return
        hashes = np.concatenate(self._hashes)
        self._file.write_behind(self._end, write_index(self._header, self._entries, hashes))
        os.fsync(self._file.fileno())
