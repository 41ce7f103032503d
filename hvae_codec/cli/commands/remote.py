"""`hvae-codec remote`: encode, decode, features, sample and models, by a server."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hvae_codec.cli.commands.encode_decode import (
    add_skip_argument,
    add_target_arguments,
    decode_arguments,
    decode_line,
    encode_line,
    planned,
    report,
    targets_of,
    whole,
    write_picture,
)
from hvae_codec.cli.commands.features_sample import (
    check_sheet,
    features_arguments,
    is_encoded,
    report_features,
    report_samples,
    sample_arguments,
)
from hvae_codec.cli.commands.info import print_models
from hvae_codec.cli.common import (
    CommandParser,
    Commands,
    add_command,
    add_effort_argument,
    add_model_arguments,
    path,
    print_json,
    require_file_path,
    write_bytes,
)
from hvae_codec.cli.jobs.batches import Row, with_skipped
from hvae_codec.cli.jobs.files import ENCODED_SUFFIX, PICTURE_SUFFIXES, Job, find
from hvae_codec.cli.jobs.models import one_model, size_of
from hvae_codec.cli.jobs.remote_files import add_server_arguments, connected, run_streamed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.client import RemoteModel
    from hvae_codec.codec.features import Features

_SERVER = "--server 127.0.0.1:50051"


def add_commands(commands: Commands) -> None:
    """Add the subcommand, which has subcommands of its own."""
    add_command(
        commands,
        "remote",
        _nothing,
        _remote_arguments,
        summary="encode, decode, features and samples by a server",
        example=f"hvae-codec remote encode thumbnails/ {_SERVER} --output encoded/",
        json_output=False,
    )


def _nothing(arguments: argparse.Namespace) -> int:
    raise AssertionError("a subcommand is required")


def _remote_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    add_command(
        commands,
        "encode",
        _encode,
        _encode_arguments,
        summary="encode pictures into .hvae files by a server",
        example=f"hvae-codec remote encode photo.png thumbnails/ {_SERVER} --output encoded/",
    )
    add_command(
        commands,
        "decode",
        _decode,
        _decode_arguments,
        summary="decode .hvae files into PNG pictures by a server",
        example=f"hvae-codec remote decode encoded/ {_SERVER} --output decoded/",
    )
    add_command(
        commands,
        "features",
        _features,
        _features_arguments,
        summary="extract the top layer's latents of pictures or .hvae files by a server",
        example=f"hvae-codec remote features thumbnails/ {_SERVER} --output z2.npz",
    )
    add_command(
        commands,
        "sample",
        _sample,
        _sample_arguments,
        summary="draw pictures from a server's model into one PNG sheet",
        example=f"hvae-codec remote sample {_SERVER} --count 16 --seed 7 --output samples.png",
    )
    add_command(
        commands,
        "models",
        _models,
        add_server_arguments,
        summary="list the models of a server with their measured sizes and PSNR",
        example=f"hvae-codec remote models {_SERVER}",
    )


def _encode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=path, help="pictures, or folders of pictures")
    parser.add_argument(
        "-o", "--output", type=path, help="file or folder; default: beside the input"
    )
    add_skip_argument(parser)
    add_model_arguments(parser, auto=True)
    add_effort_argument(parser)
    add_target_arguments(parser)
    add_server_arguments(parser)


def _decode_arguments(parser: argparse.ArgumentParser) -> None:
    decode_arguments(parser)
    add_server_arguments(parser)


def _features_arguments(parser: argparse.ArgumentParser) -> None:
    features_arguments(parser)
    add_server_arguments(parser)


def _sample_arguments(parser: argparse.ArgumentParser) -> None:
    sample_arguments(parser)
    add_server_arguments(parser)


def _encode(arguments: argparse.Namespace) -> int:
    targets = targets_of(arguments)
    every, jobs = planned(arguments, PICTURE_SUFFIXES, ENCODED_SUFFIX, replace=True)
    named = ("model", "quality", "effort")
    options = {**{name: getattr(arguments, name) for name in named}, **targets}
    start = time.perf_counter()
    with connected(arguments) as client:
        models = {model.model_id: model for model in client.models()}

        def finish(job: Job, blob: bytes) -> Row:
            write_bytes(job.target, blob)
            return {"input": str(job.source), "output": str(job.target), **_measured(blob, models)}

        rows = run_streamed(
            jobs,
            "encoding",
            read=lambda source: source,
            answers=lambda paths: client.encode_stream(paths, on_error="return", **options),
            finish=finish,
        )
    rows = with_skipped(every, jobs, rows)
    return report(rows, time.perf_counter() - start, encode_line, arguments.json)


def _measured(blob: bytes, models: dict[str, RemoteModel]) -> Row:
    """What is reported of an encoded image, from its header."""
    from hvae_codec.codec.bitstream.header import read_header
    from hvae_codec.codec.quality_scale import stated_quality

    header = read_header(blob)
    model = models[header.model_id.hex()]
    _, height, width = model.image_shape
    height, width = header.height or height, header.width or width
    return {
        "model": model.name,
        "quality": model.quality if header.quality is None else stated_quality(header.quality),
        "width": width,
        "height": height,
        "file_bytes": len(blob),
        "bits_per_pixel": round(8 * len(blob) / (width * height), 4),
    }


def _decode(arguments: argparse.Namespace) -> int:
    every, jobs = planned(arguments, (ENCODED_SUFFIX,), ".png", replace=False)

    def finish(job: Job, picture: NDArray[np.uint8]) -> Row:
        write_picture(job.target, whole(picture))
        height, width, _ = picture.shape
        return {
            "input": str(job.source),
            "output": str(job.target),
            "width": width,
            "height": height,
        }

    start = time.perf_counter()
    with connected(arguments) as client:
        stream = client.preview_stream if arguments.preview else client.decode_stream
        rows = run_streamed(
            jobs,
            "decoding",
            read=Path.read_bytes,
            answers=lambda blobs: stream(blobs, on_error="return"),
            finish=finish,
        )
    rows = with_skipped(every, jobs, rows)
    return report(rows, time.perf_counter() - start, decode_line, arguments.json)


def _features(arguments: argparse.Namespace) -> int:
    from hvae_codec.codec.bitstream.header import read_header
    from hvae_codec.codec.model_choice import AUTO

    if arguments.output is not None:
        require_file_path(arguments.output)
    suffixes = (*PICTURE_SUFFIXES, ENCODED_SUFFIX)
    jobs = [Job(source, source) for source, _ in find(arguments.inputs, suffixes)]
    encoded = [job for job in jobs if is_encoded(job.source)]
    pictures = [job for job in jobs if not is_encoded(job.source)]
    model_ids: dict[Path, str] = {}

    def read(source: Path) -> bytes:
        blob = source.read_bytes()
        model_ids[source] = read_header(blob).model_id.hex()
        return blob

    def finish(job: Job, found: Features) -> Row:
        moments = {"mean": found.mean.tolist(), "std": found.std.tolist()}
        return {"input": str(job.source), "model_id": model_ids[job.source], **moments}

    rows: list[Row] = []
    with connected(arguments) as client:
        if pictures:
            by_size = arguments.model == AUTO
            available = {model.name for model in client.models()} if by_size else ()
            name = one_model(arguments, (size_of(job.source) for job in pictures), available)
            chosen = {"model": name, "quality": arguments.quality}
            model = client.model(name, arguments.quality)
            model_ids.update((job.source, model.model_id) for job in pictures)
            rows += run_streamed(
                pictures,
                "features",
                read=lambda source: source,
                answers=lambda paths: client.features_stream(paths, on_error="return", **chosen),
                finish=finish,
            )
        if encoded:
            rows += run_streamed(
                encoded,
                "features of files",
                read=read,
                answers=lambda files: client.features_stream(files, model=None, on_error="return"),
                finish=finish,
            )
    order = {str(job.source): place for place, job in enumerate(jobs)}
    return report_features(sorted(rows, key=lambda row: order[row["input"]]), arguments)


def _sample(arguments: argparse.Namespace) -> int:
    require_file_path(arguments.output)
    with connected(arguments) as client:
        model = client.model(arguments.model, arguments.quality)
        check_sheet(arguments.count, model.image_shape)
        pictures = client.sample(
            arguments.count,
            model=arguments.model,
            quality=arguments.quality,
            seed=arguments.seed,
            temperature=arguments.temperature,
        )
    return report_samples(pictures, model.model_id, arguments)


def _models(arguments: argparse.Namespace) -> int:
    with connected(arguments) as client:
        models = client.models()
    if arguments.json:
        print_json([model._asdict() for model in models])
    else:
        print_models(models)
    return 0
