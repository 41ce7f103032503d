"""`hvae-codec pack --engine ray`: images coded on a Ray cluster, an archive written here.

Where a block ends depends on the sizes of its images and on which of them can be packed at all.
So the cluster first opens every image of a file (arrays need it not); what the sizes and names
then make of blocks is reckoned here as `ArchiveWriter` would, and the cluster codes them. Blocks
come back in order and are written as they come: the archive has the bytes of one that was packed in
this process, as long as the networks compute the same floats there: on processors of one kind, with
one thread. Where a worker or its machine dies, Ray runs what it had elsewhere.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hvae_codec
from hvae_codec.cli.jobs.archive_files import ArrayPicture, FilePicture, Source
from hvae_codec.cli.jobs.pack_progress import Bar, Failure
from hvae_codec.errors import ArchiveError, HvaeCodecError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.codec.images.stored_arrays import StoredRows

OPENED_TOGETHER = 64
"""Images of files that a task opens."""

BLOCKS_TOGETHER = 16
"""Most blocks that a task codes."""

TASKS_PER_CPU = 8
"""Least tasks for each processor, while a task still has a block: the last ones end together."""

Wanted = tuple[str, float | None, int | None]
"""Model, quality and effort, as `hvae_codec.load` takes them."""


class Place(NamedTuple):
    """Where a worker finds an image: the file of one, or an array's number and the row in it."""

    file: str | None
    array: int = 0
    row: int = 0


class Opened(NamedTuple):
    """What opening an image showed: its shape [H, W, C], or why there is none."""

    shape: tuple[int, int, int] | None
    error: str = ""


class Planned(NamedTuple):
    """An image that goes into a block."""

    place: Place
    name: str | None
    shape: tuple[int, int, int]


@contextmanager
def cluster() -> Iterator[None]:
    """Within, Ray is joined to the cluster that RAY_ADDRESS names, or, without it, to one that is
    started here and ended afterwards.

    Raises:
        MissingDependencyError: Ray, or what Ray Data needs, is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            "--engine ray needs Ray Data: pip install 'hvae-codec[ray]'"
        ) from error
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # it tells of plans and of bars it lacks
            handler.setLevel(logging.ERROR)
    started = not ray.is_initialized()
    if started:
        # Workers of Ray give way to all other programs, and beside busy ones never get on; the
        # local engine does not. (Ray's name has small letters.)
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(log_to_driver=False, include_dashboard=None, logging_level=logging.WARNING)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def pack_on_ray(
    writer: hvae_codec.ArchiveWriter,
    sources: Sequence[Source],
    codec: hvae_codec.Codec,
    wanted: Wanted,
    progress: Callable[[int], object] = lambda pictures: None,
) -> list[Failure]:
    """Add all images to an archive, within `cluster`; what could not be packed, and why.

    Args:
        writer: of the archive, of this codec's model.
        sources: the images, in order.
        codec: of `wanted`, for sizes alone.
        wanted: what workers load.
        progress: told how many images every block had that was written.

    Raises:
        HvaeCodecError: an image is a pipe or changed meanwhile, or Ray gave up.
    """
    import ray

    arrays = _Arrays()
    places = [arrays.place(source) for source in sources]
    try:
        with Bar(len(sources)) as bar:
            shapes = _shapes(sources, places)
            blocks = _blocks(writer, sources, places, shapes, codec, bar)
            code = partial(_code, wanted=wanted, arrays=arrays.known)
            for coded in _mapped(code, blocks, _together(len(blocks))):
                added = writer.add_block(pickle.loads(coded))
                bar.update(len(added))
                progress(len(added))
        return bar.failed
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, HvaeCodecError | OSError):
            raise cause from error
        reason = str(error).strip().splitlines()[-1]
        raise HvaeCodecError(f"Ray gave up: {reason}") from error


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
            return Place(str(picture.path.absolute()))
        key = id(picture.images)
        if key not in self._numbers:
            self._numbers[key] = len(self.known)
            self.known.append(self._shared(picture))
        return Place(None, self._numbers[key], picture.row)

    @staticmethod
    def _shared(picture: ArrayPicture) -> Any:
        import ray

        return ray.put(picture.images) if picture.file is None else str(picture.file.absolute())


def _shapes(sources: Sequence[Source], places: Sequence[Place]) -> list[Opened]:
    """What opening each image shows."""
    files = [place for place in places if place.file is not None]
    groups = [files[at : at + OPENED_TOGETHER] for at in range(0, len(files), OPENED_TOGETHER)]
    opened: list[Opened] = []
    if groups:
        with Bar(len(files), "opening") as bar:
            for pickled in _mapped(_open, groups, 1):
                found = pickle.loads(pickled)
                opened += found
                bar.update(len(found))
    of_files = iter(opened)
    shapes = []
    for source in sources:
        array = isinstance(source.picture, ArrayPicture)
        shapes.append(_opened(source.picture) if array else next(of_files))
    return shapes


def _blocks(
    writer: hvae_codec.ArchiveWriter,
    sources: Sequence[Source],
    places: Sequence[Place],
    shapes: Sequence[Opened],
    codec: hvae_codec.Codec,
    bar: Bar,
) -> list[list[Planned]]:
    """The images of each block: what `writer.add` would do with them one after another."""
    from hvae_codec.codec.archive.blocks import BlockRoom

    room = BlockRoom(codec)
    blocks: list[list[Planned]] = [[]]
    for source, place, opened in zip(sources, places, shapes, strict=True):
        if opened.shape is None:
            bar.fail(
                Failure.of_message(
                    source.label, opened.error.replace(place.file or source.label, source.label)
                )
            )
            bar.update()
            continue
        try:
            name_bytes = _check(writer, codec, source, opened.shape)
        except HvaeCodecError as error:
            bar.fail(Failure.of(source.label, error))
            bar.update()
            continue
        if room.full or not room.takes_name(name_bytes):
            blocks.append([])
            room.empty()
        blocks[-1].append(Planned(place, source.name, opened.shape))
        room.add(opened.shape[0], opened.shape[1], name_bytes)
    return [block for block in blocks if block]


def _check(
    writer: hvae_codec.ArchiveWriter,
    codec: hvae_codec.Codec,
    source: Source,
    shape: tuple[int, int, int],
) -> int:
    """Bytes of an image's name, which is reserved. Raises ImageError, ArchiveError."""
    codec.shape.check_channels(shape[2])
    if source.name is None:
        return 0
    writer.reserve(source.name)
    return len(source.name.encode())


def _together(blocks: int) -> int:
    """Blocks that a task codes."""
    import ray

    cpus: float = ray.cluster_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call]
    return min(BLOCKS_TOGETHER, max(1, int(blocks / max(1.0, TASKS_PER_CPU * cpus))))


def _mapped(
    function: Callable[[Any], bytes], items: Iterable[Any], together: int
) -> Iterator[bytes]:
    """`function` of each item, in order, from tasks of so many items each."""
    import ray

    rows = [{"item": pickle.dumps(item)} for item in items]
    if not rows:
        return
    tasks = math.ceil(len(rows) / together)
    data = ray.data.from_items(rows, override_num_blocks=tasks)
    data.context.execution_options.preserve_order = True
    data.context.enable_progress_bars = False
    # A task whose worker dies is run again, as often as it takes: Ray Data's own rule.
    results = data.map(partial(_row, function=function), num_cpus=1)
    for row in results.iter_rows():
        yield row["result"]


# What follows runs on workers.


def _row(row: dict[str, bytes], function: Callable[[Any], bytes]) -> dict[str, bytes]:
    return {"result": function(pickle.loads(row["item"]))}


def _open(places: Sequence[Place]) -> bytes:
    """Pickled: what opening each image shows."""
    return pickle.dumps([_opened(FilePicture(Path(place.file or ""))) for place in places])


def _opened(picture: FilePicture | ArrayPicture) -> Opened:
    from hvae_codec.cli.common import describe
    from hvae_codec.codec.images.load import as_uint8, check_array

    try:
        if isinstance(picture, ArrayPicture):  # no row of it need be read
            height, width, channels = picture.images.shape[1:]
            check_array(picture.images.dtype, (height, width, channels))
        else:
            height, width, channels = as_uint8(picture()).shape
    except HvaeCodecError as error:
        return Opened(None, describe(error))
    return Opened((height, width, channels))


def _code(block: Sequence[Planned], wanted: Wanted, arrays: Sequence[Any]) -> bytes:
    """Pickled: the images of a block, coded."""
    from hvae_codec.codec.archive.blocks import code_block

    model, quality, effort = wanted
    codec = hvae_codec.load(model, quality, effort=effort)
    pictures = [_picture(planned, arrays) for planned in block]
    return pickle.dumps(code_block(codec, pictures, [planned.name for planned in block]))


def _picture(planned: Planned, arrays: Sequence[Any]) -> NDArray[np.uint8]:
    import ray

    place = planned.place
    if place.file is not None:
        picture = FilePicture(Path(place.file))()
        if picture.shape != planned.shape:
            raise ArchiveError(f"{place.file} was changed while it was being packed")
        return picture
    array = arrays[place.array]
    images = _stored_array(array) if isinstance(array, str) else ray.get(array)
    row: NDArray[np.uint8] = images[place.row]
    return row


@lru_cache(maxsize=8)
def _stored_array(file: str) -> StoredRows:
    from hvae_codec.codec.images.stored_arrays import StoredRows

    return StoredRows(Path(file))
