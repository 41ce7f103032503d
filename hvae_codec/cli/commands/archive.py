"""`hvae-codec unpack`, `ls` and `cat`: `.hvaa` archives of many images."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvae_codec
from hvae_codec.cli.commands.pack import add_pack
from hvae_codec.cli.common import (
    Commands,
    add_command,
    path,
    print_error,
    print_json,
    require_file_path,
    require_suffix,
    write_bytes,
)
from hvae_codec.cli.jobs.archive_files import (
    open_archive,
    picture_number,
    unpacked_paths,
    write_array,
    write_labels,
)
from hvae_codec.cli.jobs.images import IMAGE_SUFFIXES, whole, write_image
from hvae_codec.errors import CorruptError, HvaeCodecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.codec.archive.info import Damage, PictureInfo


_OF_A_NAME = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ}
_OF_A_NAME |= {errno.EINVAL, errno.ELOOP}


def add_commands(commands: Commands) -> None:
    """Add `pack`, which `packing` holds, and these three."""
    add_pack(commands)
    add_command(
        commands,
        "unpack",
        _unpack,
        _unpack_arguments,
        summary="unpack a .hvaa archive into PNG images or one .npy array",
        example="hvae-codec unpack pictures.hvaa --output images/",
    )
    add_command(
        commands,
        "ls",
        _ls,
        _ls_arguments,
        summary="list the images of a .hvaa archive",
        example="hvae-codec ls pictures.hvaa",
    )
    add_command(
        commands,
        "cat",
        _cat,
        _cat_arguments,
        summary="write one image of a .hvaa archive as a PNG",
        example="hvae-codec cat pictures.hvaa 0 --output first.png",
        json_output=False,
    )


def _unpack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=path, help="a .hvaa archive")
    parser.add_argument("keys", nargs="*", help="names or numbers of images; default: all")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        required=True,
        help="a folder, or a .npy file if all images have one size; labels come as JSON beside",
    )


def _ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=path, help="a .hvaa archive")
    parser.add_argument("--summary", action="store_true", help="say how many, not which")
    parser.add_argument("--verify", action="store_true", help="check every byte")


def _cat_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=path, help="a .hvaa archive")
    parser.add_argument("key", help="name or number of an image, from 0; -1 is the last")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        help="the PNG, or PPM or PGM if so named, to write; default: standard output",
    )


def _unpack(arguments: argparse.Namespace) -> int:
    from hvae_codec.utils.progress import progress

    output: Path = arguments.output
    other = ", others into a folder"
    require_suffix(output, (".npy",), "images of one size are", unknown=True, otherwise=other)
    with open_archive(arguments.archive) as archive:
        # An image that was named twice is one image.
        chosen = list(dict.fromkeys(picture_number(archive, key) for key in arguments.keys))
        parts = _parts(archive, chosen)
        total = len(chosen) or len(archive)
        with progress("unpacking", total=total, unit="images") as bar:
            if output.suffix.lower() == ".npy":
                wanted = chosen or range(len(archive))
                write_array(archive, wanted, output, bar.update)
                failed: list[str] = []
            else:
                failed = _write_pictures(archive, parts, output, bar)
    done = total - len(failed)
    if arguments.json:
        print_json({"output": str(output), "pictures": done, "failed": failed})
    else:
        print(f"{output}: {done} images, {len(failed)} failed")
    return 1 if failed else 0


def _parts(archive: hvae_codec.Archive, chosen: list[int]) -> list[range]:
    """Ranges of images to read together: whole blocks, or each that was chosen alone."""
    if chosen:
        return [range(number, number + 1) for number in chosen]
    return archive.blocks


def _write_pictures(
    archive: hvae_codec.Archive, parts: list[range], folder: Path, bar: Any
) -> list[str]:
    """PNGs of the images; what failed, one line each. A damaged block does not stop others."""
    from hvae_codec.codec.images.load import encode_png

    failed: list[str] = []
    done: list[int] = []
    paths = unpacked_paths(archive, parts, folder)
    for part in parts:
        for number, picture in zip(part, _decoded(archive, part), strict=True):
            if isinstance(picture, CorruptError):
                failed.append(f"image {number}: {picture}")
                with bar.external_write_mode(file=sys.stderr):
                    print_error(failed[-1])
            elif (said := _unwritten(paths[number], encode_png(picture))) is not None:
                failed.append(f"image {number}: {said}")
                with bar.external_write_mode(file=sys.stderr):
                    print_error(failed[-1])
            else:
                done.append(number)
            bar.update()
    write_labels(archive, done, paths, folder)
    expected = 0
    for part in parts if parts == archive.blocks else []:
        failed += [f"image {number}: its block is lost" for number in range(expected, part.start)]
        expected = part.stop
    return failed


def _unwritten(path: Path, data: bytes) -> str | None:
    """Write a file; why it cannot be, where its own name is the reason: too long, or in use.

    Raises:
        HvaeCodecError: it cannot be written, as no other could.
    """
    try:
        write_bytes(path, data)
    except HvaeCodecError as error:
        reason = error.__cause__
        if isinstance(reason, OSError) and reason.errno in _OF_A_NAME:
            return str(error)
        raise
    return None


def _decoded(
    archive: hvae_codec.Archive, part: range
) -> Iterator[NDArray[np.uint8] | CorruptError]:
    """The images of a range; in the place of one that cannot be read its error."""
    try:
        yield from archive.decode(part)
        return
    except CorruptError as error:
        if len(part) == 1:
            yield error
            return
    for number in part:
        yield from _decoded(archive, range(number, number + 1))


def _ls(arguments: argparse.Namespace) -> int:
    with open_archive(arguments.archive) as archive:
        info = archive.info
        pictures, damages = _listed(archive, arguments)
    if arguments.json:
        row = {"archive": str(arguments.archive), **dataclasses.asdict(info)}
        row["damages"] = [dataclasses.asdict(damage) for damage in damages]
        if not arguments.summary:
            row["listing"] = [dataclasses.asdict(picture) for picture in pictures]
        print_json(row)
    else:
        for picture in pictures:
            print(_line(picture))
        if arguments.summary or arguments.verify:
            state = ", all sound" if arguments.verify and not damages else ""
            print(f"{info.pictures} images in {info.blocks} blocks, {info.file_bytes} bytes{state}")
    for damage in damages:
        last = damage.first + damage.count - 1
        print_error(f"images {damage.first} to {last}: {damage.reason}")
    return 1 if damages else 0


def _listed(
    archive: hvae_codec.Archive, arguments: argparse.Namespace
) -> tuple[list[PictureInfo], list[Damage]]:
    """The images to show, and what is damaged; without --verify only what they ran into."""
    from hvae_codec.codec.archive.info import Damage

    pictures: list[PictureInfo] = []
    met: list[Damage] = []
    for block in [] if arguments.summary else archive.blocks:
        try:
            pictures += archive.listing(block)
        except CorruptError as error:
            met.append(Damage(block.start, len(block), str(error)))
    return pictures, archive.verify() if arguments.verify else met


def _line(picture: PictureInfo) -> str:
    kind = "grey" if picture.channels == 1 else "rgb"
    size = f"{picture.width}x{picture.height}"
    label = "" if picture.label is None else f"  {json.dumps(picture.label, ensure_ascii=False)}"
    name = picture.name or ""
    if not name.isprintable():  # one line per image, and nothing that a terminal would obey
        name = json.dumps(name)
    return f"{picture.number:>8}  {size:<11}  {kind:<4}  {name}{label}".rstrip()


def _cat(arguments: argparse.Namespace) -> int:
    from hvae_codec.codec.images.load import encode_png

    if arguments.output is None and sys.stdout.isatty():
        raise HvaeCodecError("a PNG is not for a terminal; redirect the output or give --output")
    if arguments.output is not None:
        require_file_path(arguments.output)
        require_suffix(arguments.output, IMAGE_SUFFIXES, "images are")
    with open_archive(arguments.archive) as archive:
        pixels = archive[picture_number(archive, arguments.key)]
    if arguments.output is None:
        sys.stdout.buffer.write(encode_png(pixels))
    else:
        write_image(arguments.output, whole(pixels))
    return 0
