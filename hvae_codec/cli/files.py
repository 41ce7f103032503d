"""The files a subcommand reads and writes: folders stand for the files in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hvae_codec.errors import HvaeCodecError, NotAnHvaeFileError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".ppm", ".pgm")
ENCODED_SUFFIX = ".hvae"


class Job(NamedTuple):
    """A file to read, and the one to write."""

    source: Path
    target: Path


def find(inputs: Iterable[Path], suffixes: Sequence[str]) -> list[tuple[Path, Path]]:
    """The files that `inputs` stand for, each with its path below the folder it was found in.

    A folder stands for the files in it, and in the folders in it, with one of `suffixes`, sorted;
    any other path for itself.

    Raises:
        HvaeCodecError: an input is missing or is a device, or a folder holds no such file.
    """
    found: list[tuple[Path, Path]] = []
    for path in inputs:
        if path.is_dir():
            below = (f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
            files = sorted(below)
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
) -> list[Job]:
    """What to read and where each result goes.

    Results lie beside their inputs, or in the folder `output`, where those of a folder keep their
    place below it. `output` names the one result itself where there is one input file and no folder
    of that name. Without `replace`, no existing file is written over unless `output` is given.

    Raises:
        HvaeCodecError: as `find`; or two results would share a path, or one would replace an input
        or a file that has to be kept.
    """
    found = find(inputs, suffixes)
    if output is None:
        jobs = [Job(source, source.with_suffix(new_suffix)) for source, _ in found]
    elif len(inputs) == 1 and not inputs[0].is_dir() and not output.is_dir():
        jobs = [Job(inputs[0], output)]
    elif output.exists() and not output.is_dir():
        raise HvaeCodecError(f"{output} is a file; --output must be a folder for several results")
    else:
        jobs = [Job(source, (output / below).with_suffix(new_suffix)) for source, below in found]
    encoded = ENCODED_SUFFIX in suffixes
    _check_targets(jobs, keep_existing=output is None and not replace, encoded=encoded)
    return jobs


def _refuse_unencoded(source: Path) -> None:
    """Raise NotAnHvaeFileError where an image was given for a file to decode."""
    from hvae_codec.codec.format import MAGIC

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
