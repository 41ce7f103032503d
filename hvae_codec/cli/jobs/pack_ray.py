"""`hvae-codec pack --engine ray`: images coded on a Ray cluster, an archive written here.

Where a block ends depends on the sizes of its images and on which of them can be packed at all.
So workers open every image of a file before it is coded (arrays need it not). What the sizes and
names make of blocks is found here as `ArchiveWriter` would, and workers code the blocks. These come
back in order and are written as they come: the archive has the bytes of one that was packed in this
process, as long as the networks compute the same floats there: on processors of one kind, with one
thread. Where a worker or its machine dies, Ray runs what it had elsewhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hvae_codec
from hvae_codec.cli.jobs.pack_progress import Bar, Failure
from hvae_codec.cli.jobs.pack_sources import ArrayPicture, FilePicture, Source
from hvae_codec.errors import ArchiveError, HvaeCodecError, InputWarning
from hvae_codec.utils.executors.ray import RayExecutor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.codec.archive.blocks import CodedBlock
    from hvae_codec.codec.images.conversions import Conversions
    from hvae_codec.codec.images.stored_arrays import StoredRows

OPENED_TOGETHER = 64
"""Images of files that a task opens."""

Wanted = tuple[str, float | None, int | None]
"""Model, quality and effort, as `hvae_codec.load` takes them."""


class Place(NamedTuple):
    """Where a worker finds an image: the file of one and the conversions done to it, or an array's
    number and the row in it.
    """

    file: tuple[str, Conversions] | None
    array: int = 0
    row: int = 0

    def image(self) -> FilePicture:
        """That of a file."""
        assert self.file is not None
        path, conversions = self.file
        return FilePicture(Path(path), conversions)


class Opened(NamedTuple):
    """What opening an image showed: its shape [H, W, C], or why there is none, and warnings."""

    shape: tuple[int, int, int] | None
    error: str = ""
    warned: tuple[Warning, ...] = ()


class Planned(NamedTuple):
    """An image that goes into a block."""

    place: Place
    name: str | None
    label: int | None
    shape: tuple[int, int, int]


def pack_on_ray(
    writer: hvae_codec.ArchiveWriter,
    sources: Sequence[Source],
    codec: hvae_codec.Codec,
    wanted: Wanted,
    executor: RayExecutor,
    progress: Callable[[int], object] = lambda pictures: None,
) -> list[Failure]:
    """Add all images to an archive; what could not be packed, and why.

    Args:
        writer: of the archive, of this codec's model.
        sources: the images, in order.
        codec: of `wanted`, for sizes alone.
        wanted: what workers load.
        executor: in its `with` statement.
        progress: told how many images every block had that was written.

    Raises:
        HvaeCodecError: an image is a pipe or changed meanwhile, or Ray gave up.
    """
    arrays = _Arrays()
    places = [arrays.place(source) for source in sources]
    with Bar(len(sources)) as bar:
        opened = _opened_on(executor, sources, places)
        blocks = _blocks(writer, sources, places, opened, codec, bar)
        code = partial(_code, wanted=wanted, arrays=arrays.known)
        for coded in executor.map_ordered(code, blocks):
            added = writer.add_block(coded)
            bar.update(len(added))
            progress(len(added))
    return bar.failed


class _Arrays:
    """The arrays that images are rows of: workers open those of files, and share the others."""

    def __init__(self) -> None:
        self.known: list[Any] = []
        """Paths, or references to arrays in Ray's store."""
        self._numbers: dict[int, int] = {}

    def place(self, source: Source) -> Place:
        """Where workers find an image. Raises HvaeCodecError for a pipe."""
        picture = source.picture
        if isinstance(picture, FilePicture):
            if picture.path.is_fifo():
                raise HvaeCodecError(f"{picture.path} is a pipe; --engine ray reads files twice")
            return Place((str(picture.path.absolute()), picture.conversions))
        key = id(picture.images)
        if key not in self._numbers:
            self._numbers[key] = len(self.known)
            self.known.append(self._shared(picture))
        return Place(None, self._numbers[key], picture.row)

    @staticmethod
    def _shared(picture: ArrayPicture) -> Any:
        import ray

        return ray.put(picture.images) if picture.file is None else str(picture.file.absolute())


def _opened_on(
    executor: RayExecutor, sources: Sequence[Source], places: Sequence[Place]
) -> Iterator[Opened]:
    """What opening each image shows; workers open those of files, some way ahead."""
    files = [place for place in places if place.file is not None]
    groups = [files[at : at + OPENED_TOGETHER] for at in range(0, len(files), OPENED_TOGETHER)]
    of_files = chain.from_iterable(executor.map_ordered(_open, groups))
    for source in sources:
        array = isinstance(source.picture, ArrayPicture)
        yield _opened(source.picture) if array else next(of_files)


def _blocks(
    writer: hvae_codec.ArchiveWriter,
    sources: Sequence[Source],
    places: Sequence[Place],
    opened: Iterable[Opened],
    codec: hvae_codec.Codec,
    bar: Bar,
) -> Iterator[list[Planned]]:
    """The images of each block: what `writer.add` would do with them one after another."""
    from hvae_codec.codec.archive.blocks import BlockRoom

    room = BlockRoom(codec)
    block: list[Planned] = []
    for source, place, found in zip(sources, places, opened, strict=True):
        for warning in found.warned:
            warnings.warn(warning, stacklevel=2)
        try:
            if found.shape is None:
                shown = place.file[0] if place.file else source.shown
                raise HvaeCodecError(found.error.replace(shown, source.shown))
            sizes = _check(writer, codec, source, found.shape)
        except HvaeCodecError as error:
            bar.fail(Failure.of(source.shown, error))
            bar.update()
            continue
        if block and (room.full or not room.takes(*sizes)):
            yield block
            block = []
            room.empty()
        block.append(Planned(place, source.name, source.label, found.shape))
        room.add(found.shape[0], found.shape[1], *sizes)
    if block:
        yield block


def _check(
    writer: hvae_codec.ArchiveWriter,
    codec: hvae_codec.Codec,
    source: Source,
    shape: tuple[int, int, int],
) -> tuple[int, int]:
    """Bytes of an image's name, which is reserved, and label. Raises ImageError, ArchiveError."""
    codec.shape.check_channels(shape[2])
    label_bytes = len(writer.check_label(source.label))
    if source.name is None:
        return 0, label_bytes
    writer.reserve(source.name)
    return len(source.name.encode()), label_bytes


# What follows runs on workers.


def _open(places: Sequence[Place]) -> list[Opened]:
    """What opening each image shows."""
    return [_opened(place.image()) for place in places]


def _opened(picture: FilePicture | ArrayPicture) -> Opened:
    from hvae_codec.cli.common import describe
    from hvae_codec.codec.images.arrays import check_array
    from hvae_codec.codec.images.load import as_uint8

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        try:
            if isinstance(picture, ArrayPicture):  # no row of it need be read
                height, width, channels = picture.images.shape[1:]
                check_array(picture.images.dtype, (height, width, channels))
            else:
                height, width, channels = as_uint8(picture()).shape
        except HvaeCodecError as error:
            return Opened(None, describe(error))
    warned = [each.message for each in caught if issubclass(each.category, InputWarning)]
    return Opened((height, width, channels), warned=tuple(warned))  # type: ignore[arg-type]


def _code(block: Sequence[Planned], wanted: Wanted, arrays: Sequence[Any]) -> CodedBlock:
    """The images of a block, coded."""
    from hvae_codec.codec.archive.blocks import code_block

    model, quality, effort = wanted
    codec = hvae_codec.load(model, quality, effort=effort)
    pictures = [_picture(planned, arrays) for planned in block]
    names, labels = [each.name for each in block], [each.label for each in block]
    return code_block(codec, pictures, names, labels)


def _picture(planned: Planned, arrays: Sequence[Any]) -> NDArray[np.uint8]:
    import ray

    place = planned.place
    if place.file is not None:
        with warnings.catch_warnings():  # it was told when the image was opened
            warnings.simplefilter("ignore", InputWarning)
            picture = place.image()()
        if picture.shape != planned.shape:
            raise ArchiveError(f"{place.file[0]} was changed while it was being packed")
        return picture
    array = arrays[place.array]
    images = _stored_array(array) if isinstance(array, str) else ray.get(array)
    row: NDArray[np.uint8] = images[place.row]
    return row


@lru_cache(maxsize=8)
def _stored_array(file: str) -> StoredRows:
    from hvae_codec.codec.images.stored_arrays import StoredRows

    return StoredRows(Path(file))
