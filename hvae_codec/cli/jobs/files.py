"""The files a subcommand reads and writes: folders stand for the files in them."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, TypeAlias, TypeVar

from hvae_codec.errors import HvaeCodecError, NotAnHvaeFileError
from hvae_codec.utils.folders import files_of

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".ppm", ".pgm")
ENCODED_SUFFIX = ".hvae"

AnyPath = TypeVar("AnyPath", bound=PurePath)


class Job(NamedTuple):
    """A file to read, and the one to write."""

    source: Path
    target: Path


State: TypeAlias = "tuple[int, ...]"
"""What tells a file from another one, or from itself after a change."""


def state_of(source: Path) -> State | None:
    """The state of a file; None of a pipe, or where there is none."""
    try:
        found = source.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def is_encoded(source: Path) -> bool:
    """Whether a file is a `.hvae` file by its name."""
    return source.suffix.lower() == ENCODED_SUFFIX


def find(inputs: Iterable[Path], suffixes: Sequence[str]) -> list[tuple[Path, Path]]:
    """The files that `inputs` stand for, each with its path below the folder it was found in.

    A folder stands for the files in it, and in the folders in it, with one of `suffixes`, as
    `hvae_codec.utils.folders.files_of` finds them; any other path for itself.

    Raises:
        HvaeCodecError: an input is missing or is a device, or a folder holds no such file.
    """
    found: list[tuple[Path, Path]] = []
    for path in inputs:
        if path.is_dir():
            files = files_of(path, suffixes)
            if not files:
                raise HvaeCodecError(f"{path} holds no file ending in {', '.join(suffixes)}")
            found += [(file, file.relative_to(path)) for file in files]
        elif path.is_file() or path.is_fifo():
            found.append((path, Path(path.name)))
        elif path.exists():
            raise HvaeCodecError(f"{path} is neither a file nor a folder")
        else:
            raise HvaeCodecError(f"{path} does not exist")
    return list(dict.fromkeys(found))


def plan(
    inputs: Sequence[Path],
    output: Path | None,
    suffixes: Sequence[str],
    new_suffix: str,
    *,
    replace: bool,
    skip_existing: bool = False,
) -> list[Job]:
    """What to read and where each result goes.

    Results lie beside their inputs, or in the folder `output`, where those of a folder keep their
    place below it. A result's suffix takes the place of the input's; of inputs that differ in the
    suffix alone it is added, x.png.hvae. `output` names the one result itself where there is one
    input file and no folder of that name. Without `replace`, no existing file is written over
    unless `output` is given or `skip_existing` leaves it out.

    Raises:
        HvaeCodecError: as `find`; or two results would share a path, or one would replace an input
        or a file that has to be kept.
    """
    found = find(inputs, suffixes)
    if output is None:
        jobs = _named([(source, source) for source, _ in found], new_suffix)
    elif len(inputs) == 1 and not inputs[0].is_dir() and not output.is_dir():
        jobs = [Job(inputs[0], output)]
    elif output.exists() and not output.is_dir():
        raise HvaeCodecError(f"{output} is a file; --output must be a folder for several results")
    else:
        jobs = _named([(source, output / below) for source, below in found], new_suffix)
    keep_existing = output is None and not replace and not skip_existing
    _check_targets(jobs, keep_existing=keep_existing, encoded=ENCODED_SUFFIX in suffixes)
    return jobs


def without_done(jobs: Sequence[Job], *, replace: bool) -> list[Job]:
    """The jobs whose results are not there yet, or, where `replace`, are older than their inputs.

    Results appear whole or not at all, so one that is there is done.
    """
    return [job for job in jobs if not _is_done(job, replace)]


def distinct(short: Sequence[AnyPath], long: Sequence[AnyPath]) -> list[AnyPath]:
    """The short path of each file, or its long one where another needs the short one.

    Another file needs a path as its own, or as a folder above it. Long paths that are shared stay
    so.
    """
    targets = list(short)
    while True:
        count = Counter(targets)
        folders = {folder for target in targets for folder in target.parents}
        shared = [
            index
            for index, target in enumerate(targets)
            if target != long[index] and (count[target] > 1 or target in folders)
        ]
        if not shared:
            return targets
        for index in shared:
            targets[index] = long[index]


def _is_done(job: Job, replace: bool) -> bool:
    if not replace:
        return job.target.exists()
    if not (job.source.is_file() and job.target.is_file()):
        return False
    return job.target.stat().st_mtime_ns >= job.source.stat().st_mtime_ns


def _named(places: Sequence[tuple[Path, Path]], new_suffix: str) -> list[Job]:
    """Jobs of inputs and of where they would lie among the results."""
    short = [place.with_suffix(new_suffix) for _, place in places]
    long = [place.with_name(place.name + new_suffix) for _, place in places]
    targets = distinct(short, long)
    return [Job(source, target) for (source, _), target in zip(places, targets, strict=True)]


def _refuse_unencoded(source: Path) -> None:
    """Raise NotAnHvaeFileError where an image was given for a file to decode."""
    from hvae_codec.codec.bitstream.header import MAGIC

    with source.open("rb") as file:
        start = file.read(len(MAGIC))
    if start != MAGIC:
        raise NotAnHvaeFileError(f"{source} is no .hvae file: it cannot be decoded")


def _check_targets(jobs: Sequence[Job], *, keep_existing: bool, encoded: bool) -> None:
    sources = {source.resolve() for source, _ in jobs}
    writers: dict[Path, Path] = {}
    for source, target in jobs:
        if target.resolve() in sources:
            if encoded:
                _refuse_unencoded(source)
            raise HvaeCodecError(f"{target} is an input and would be replaced; name an --output")
        if target in writers:
            raise HvaeCodecError(
                f"{writers[target]} and {source} would both be written to {target}; "
                "give them an --output each"
            )
        if keep_existing and target.exists():
            raise HvaeCodecError(
                f"{target} is there already and would be replaced; name an --output"
            )
        writers[target] = source
