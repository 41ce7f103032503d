"""`hvae-codec encode` and `hvae-codec decode`."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvae_codec
from hvae_codec.cli.common import (
    Commands,
    add_command,
    add_conversion_arguments,
    add_effort_argument,
    add_model_arguments,
    continuous,
    conversions_of,
    path,
    positive_float,
    positive_int,
    print_json,
    require_folder_name,
    require_suffix,
    write_bytes,
)
from hvae_codec.cli.jobs.batches import (
    MAX_PIXELS,
    Item,
    Row,
    failures,
    run_in_batches,
    with_skipped,
)
from hvae_codec.cli.jobs.files import ENCODED_SUFFIX, PICTURE_SUFFIXES, Job, plan, without_done
from hvae_codec.cli.jobs.images import IMAGE_SUFFIXES, whole, write_image
from hvae_codec.cli.jobs.models import Choice
from hvae_codec.cli.jobs.remote_files import add_server_arguments, has_server

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.codec.images.strips import Strips

    Pixels = NDArray[np.uint8]


TARGETS = ("target_bytes", "target_psnr", "max_bytes")


def add_commands(commands: Commands) -> None:
    """Add both subcommands."""
    add_command(
        commands,
        "encode",
        _encode,
        _encode_arguments,
        summary="encode images into .hvae files",
        example="hvae-codec encode photo.png thumbnails/ --output encoded/",
    )
    add_command(
        commands,
        "decode",
        _decode,
        _decode_arguments,
        summary="decode .hvae files into PNG images",
        example="hvae-codec decode encoded/ --output decoded/",
    )


def _encode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=path, help="images, or folders of images")
    parser.add_argument(
        "-o", "--output", type=path, help="file or folder; default: beside the input"
    )
    parser.add_argument("--psnr", action="store_true", help="decode again and report the PSNR")
    _add_common_arguments(parser)
    add_conversion_arguments(parser)
    add_model_arguments(parser, auto=True)
    add_effort_argument(parser)
    _add_target_arguments(parser)
    add_server_arguments(parser)


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """--skip-existing and --verbose."""
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="resume a run: leave out inputs whose results are there, and are no older than they "
        "are where results may be written over",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="a line for each of several files"
    )


def _planned(
    arguments: argparse.Namespace, suffixes: Sequence[str], new_suffix: str, *, replace: bool
) -> tuple[list[Job], list[Job]]:
    """All jobs, as `plan` has them, and those to do, which --skip-existing may make fewer."""
    skip = arguments.skip_existing
    inputs, output = arguments.inputs, arguments.output
    jobs = plan(inputs, output, suffixes, new_suffix, replace=replace, skip_existing=skip)
    if output is not None and any(job.target != output for job in jobs):
        require_folder_name(output, "several results are")
    if not skip:
        return jobs, jobs
    return jobs, without_done(jobs, replace=replace or output is not None)


def _add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """--target-bytes, --target-psnr and --max-bytes."""
    wanted = parser.add_argument_group(
        "a size or a quality instead of --quality",
        "of each file, by whichever quality of the model does it best",
    )
    wanted.add_argument("--target-bytes", type=positive_int, help="met within 2 %% or two bytes")
    wanted.add_argument("--target-psnr", type=positive_float, help="in dB; the smallest such file")
    wanted.add_argument("--max-bytes", type=positive_int, help="never more; alone: the best within")


def _decode_arguments(parser: argparse.ArgumentParser) -> None:
    """What to decode, and where to."""
    parser.add_argument("inputs", nargs="+", type=path, help=".hvae files, or folders of them")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        help="file (PNG, or PPM or PGM if so named) or folder; default: beside the input, where no "
        "image is written over",
    )
    parser.add_argument(
        "--preview", action="store_true", help="decode the top layer (z2 of two) alone"
    )
    _add_common_arguments(parser)
    add_server_arguments(parser)


def _encode(arguments: argparse.Namespace) -> int:
    targets = _targets_of(arguments)
    by_server = has_server(arguments)
    if by_server and arguments.psnr:
        arguments.usage_error("--psnr decodes here: it does not go with --server")
    if targets and arguments.effort == 0 and not (by_server or continuous(arguments.model)):
        arguments.usage_error("a size or a PSNR is reached with --effort 1 or 2")
    every, jobs = _planned(arguments, PICTURE_SUFFIXES, ENCODED_SUFFIX, replace=True)
    for job in jobs:
        require_suffix(job.target, (ENCODED_SUFFIX,), "encoded images are", unknown=True)
    start = time.perf_counter()
    if by_server:
        from hvae_codec.cli.jobs import by_server as remote

        done = remote.encode(jobs, targets, arguments)
    else:
        done = _encode_here(jobs, targets, arguments)
    rows = with_skipped(every, jobs, done)
    return _report(rows, time.perf_counter() - start, _encode_line, arguments)


def _encode_here(
    jobs: list[Job], targets: dict[str, Any], arguments: argparse.Namespace
) -> list[Row]:
    from hvae_codec.codec.images.load import as_uint8

    conversions = conversions_of(arguments)
    choice = Choice(arguments, [job.source for job in jobs])
    if targets:
        targets["effort"] = 1 if arguments.effort is None else arguments.effort

    def read(source: Path) -> Item[Pixels]:
        picture = as_uint8(source, conversions)
        pixels = picture.shape[0] * picture.shape[1]
        model = choice.model(*picture.shape[:2])
        # One at a time: the large ones, and those whose targets may turn out to be out of reach.
        return Item((model, source if targets else pixels >= MAX_PIXELS), picture, pixels)

    def finish(job: Job, result: tuple[bytes, Row]) -> Row:
        blob, measured = result
        write_bytes(job.target, blob)
        return {"input": str(job.source), "output": str(job.target), **measured}

    def convert(group: tuple[str, Hashable], pictures: list[Pixels]) -> list[tuple[bytes, Row]]:
        codec = choice.codec(group[0])
        if targets:
            blobs = [hvae_codec.encode(one, group[0], **targets) for one in pictures]
        elif len(pictures) == 1:  # whose error need not say which image it is about
            blobs = [codec.encode(pictures[0])]
        else:
            blobs = codec.encode_batch(pictures)
        return list(zip(blobs, _rows(pictures, blobs, arguments.psnr), strict=True))

    return run_in_batches(jobs, "encoding", read=read, convert=convert, finish=finish)


def _targets_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The sizes and PSNR that are asked for, by name; wrong usage where they exclude each other."""
    targets = {name: getattr(arguments, name) for name in TARGETS}
    targets = {name: value for name, value in targets.items() if value is not None}
    if len(targets) == 2 and "max_bytes" not in targets:
        arguments.usage_error("--target-bytes and --target-psnr exclude each other")
    if targets and arguments.quality is not None:
        arguments.usage_error("--quality cannot be asked for together with a size or a PSNR")
    return targets


def _rows(pictures: list[Pixels], blobs: list[bytes], with_psnr: bool) -> list[Row]:
    """What is reported of each image and its file."""
    from hvae_codec.codec.bitstream.header import read_header
    from hvae_codec.codec.registry import info_of

    rows: list[Row] = []
    for picture, blob in zip(pictures, blobs, strict=True):
        height, width = picture.shape[:2]
        header = read_header(blob)
        info = info_of(header.model_id)
        made_by = {"model": info.name, "quality": info.quality_of(header)}
        bits = round(8 * len(blob) / (width * height), 4)
        size = {"width": width, "height": height, "file_bytes": len(blob)}
        rows.append({**made_by, **size, "bits_per_pixel": bits})
    if not with_psnr:
        return rows
    codec = hvae_codec.codec_for(blobs[0])
    if len(blobs) == 1:
        _add_psnr(rows[0], codec, pictures[0], codec.decode_rows(blobs[0]))
        return rows
    for row, picture, decoded in zip(rows, pictures, codec.decode_batch(blobs), strict=True):
        _add_psnr(row, codec, picture, [decoded])
    return rows


def _add_psnr(row: Row, codec: hvae_codec.Codec, picture: Pixels, strips: Iterable[Pixels]) -> None:
    """Note the PSNR of an image decoded in strips."""
    from hvae_codec.evaluation.metrics.psnr import psnr_of_strips

    def pairs() -> Iterator[tuple[Pixels, Pixels]]:
        top = 0
        for strip in strips:
            yield codec.reference(picture[top : top + len(strip)]), strip
            top += len(strip)

    decibels = psnr_of_strips(pairs())
    # JSON has no infinity; an image that comes back unchanged has no PSNR.
    row["psnr_db"] = round(decibels, 3) if math.isfinite(decibels) else None


def _encode_line(row: Row) -> str:
    """What is printed of one encoded image."""
    line = f"{row['input']} -> {row['output']}: {row['width']}x{row['height']}, "
    line += f"{row['file_bytes']} bytes, {row['bits_per_pixel']:.3f} bits/pixel, "
    line += f"{row['model']} quality {row['quality']:g}"
    if "psnr_db" not in row:
        return line
    return line + (", unchanged" if row["psnr_db"] is None else f", {row['psnr_db']:.2f} dB")


def _decode(arguments: argparse.Namespace) -> int:
    every, jobs = _planned(arguments, (ENCODED_SUFFIX,), ".png", replace=False)
    for job in jobs:
        require_suffix(job.target, IMAGE_SUFFIXES, "images are")
    start = time.perf_counter()
    if has_server(arguments):
        from hvae_codec.cli.jobs import by_server

        done = by_server.decode(jobs, arguments)
    else:
        done = _decode_here(jobs, arguments)
    rows = with_skipped(every, jobs, done)
    return _report(rows, time.perf_counter() - start, _decode_line, arguments)


def _decode_here(jobs: list[Job], arguments: argparse.Namespace) -> list[Row]:
    def read(source: Path) -> Item[bytes]:
        blob = source.read_bytes()
        codec = hvae_codec.codec_for(blob)  # the same for all files of a model
        height, width, _, count = codec.picture_shape(blob)
        pixels = height * width * count
        return Item((codec, pixels >= MAX_PIXELS), blob, pixels)

    def convert(group: tuple[hvae_codec.Codec, bool], blobs: list[bytes]) -> Iterable[Strips]:
        codec, large = group
        if large or arguments.preview:
            return [_strips(codec, blob, arguments.preview) for blob in blobs]
        return map(whole, codec.decode_batch(blobs))

    def finish(job: Job, picture: Strips) -> Row:
        write_image(job.target, picture)
        return {
            "input": str(job.source),
            "output": str(job.target),
            "width": picture.width,
            "height": picture.height,
        }

    return run_in_batches(jobs, "decoding", read=read, convert=convert, finish=finish)


def _strips(codec: hvae_codec.Codec, blob: bytes, preview: bool) -> Strips:
    from hvae_codec.codec.images.strips import Strips

    height, width, channels, _ = codec.picture_shape(blob)
    return Strips(height, width, channels, codec.decode_rows(blob, preview=preview))


def _decode_line(row: Row) -> str:
    """What is printed of one decoded image."""
    return f"{row['input']} -> {row['output']}: {row['width']}x{row['height']}"


def _report(
    rows: list[Row],
    seconds: float,
    line: Callable[[dict[str, Any]], str],
    arguments: argparse.Namespace,
) -> int:
    """Say what was done; the exit code."""
    failed = failures(rows)
    done = [row for row in rows if "error" not in row and "skipped" not in row]
    if arguments.json:
        print_json(rows)
        return 1 if failed else 0
    if len(rows) == 1 or arguments.verbose:
        for row in rows:
            if "skipped" in row:
                print(f"{row['input']} -> {row['output']}: skipped, it is there")
            elif "error" not in row:
                print(line(row))
    if len(rows) > 1:
        skipped = len(rows) - len(done) - failed
        more = f", {skipped} skipped" if skipped else ""
        sizes = _sizes(done)
        print(f"{len(done)} files{sizes} in {seconds:.1f} s, {failed} failed{more}")
    return 1 if failed else 0


def _sizes(rows: list[Row]) -> str:
    """Bytes of encoded images, and their share of those of the files they are of."""
    total = sum(row.get("file_bytes", 0) for row in rows)
    if not total:
        return ""
    given = 0
    for row in rows:
        with suppress(OSError):  # it may be gone by now
            given += Path(row["input"]).stat().st_size
    share = f", {total / given:.2%} of the originals' {given}" if given else ""
    return f", {total} bytes{share},"
