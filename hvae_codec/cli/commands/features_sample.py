"""`hvae-codec features` and `hvae-codec sample`."""

from __future__ import annotations

import argparse
import functools
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvae_codec
from hvae_codec.cli.common import (
    Commands,
    add_command,
    add_conversion_arguments,
    add_model_arguments,
    conversions_of,
    load,
    path,
    positive_int,
    print_json,
    require_file_path,
    require_suffix,
    seed,
    write_bytes,
)
from hvae_codec.cli.jobs.batches import Item, Row, failures, run_in_batches
from hvae_codec.cli.jobs.files import ENCODED_SUFFIX, PICTURE_SUFFIXES, Job, find, is_encoded
from hvae_codec.cli.jobs.images import IMAGE_SUFFIXES, check_sheet, sheet, whole, write_image
from hvae_codec.cli.jobs.models import one_model, size_of
from hvae_codec.cli.jobs.remote_files import add_server_arguments, has_server
from hvae_codec.errors import HvaeCodecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def add_commands(commands: Commands) -> None:
    """Add both subcommands."""
    add_command(
        commands,
        "features",
        _features,
        _features_arguments,
        summary="extract the top layer's latents of images, or of .hvae files from their first "
        "bytes",
        example="hvae-codec features thumbnails/ --output z2.npz",
    )
    add_command(
        commands,
        "sample",
        _sample,
        _sample_arguments,
        summary="draw images from a model's prior into one PNG sheet",
        example="hvae-codec sample --count 16 --seed 7 --output samples.png",
    )


def _features_arguments(parser: argparse.ArgumentParser) -> None:
    """Of what to extract features, and where to."""
    parser.add_argument("inputs", nargs="+", type=path, help="images, .hvae files, or folders")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        help="a .npz with arrays files, models (their ids), mean and std; default: print the means",
    )
    add_conversion_arguments(parser)
    add_model_arguments(parser, auto=True)
    add_server_arguments(parser)


def _sample_arguments(parser: argparse.ArgumentParser) -> None:
    """What to draw, and where to."""
    parser.add_argument("-n", "--count", type=positive_int, default=16, help="images to draw")
    parser.add_argument("--seed", type=seed, default=0, help="equal seeds draw equal images")
    parser.add_argument(
        "--temperature", type=_temperature, default=1.0, help="scales the prior's deviations"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        default=Path("samples.png"),
        help="PNG, or PPM or PGM if so named; default: %(default)s",
    )
    add_model_arguments(parser)
    add_server_arguments(parser)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number of at least 0")
    return value


def _features(arguments: argparse.Namespace) -> int:
    if arguments.output is not None:
        require_file_path(arguments.output)
        require_suffix(arguments.output, (".npz",), "features are")
    suffixes = (*PICTURE_SUFFIXES, ENCODED_SUFFIX)
    jobs = [Job(source, source) for source, _ in find(arguments.inputs, suffixes)]
    if has_server(arguments):
        from hvae_codec.cli.jobs import by_server

        return _report_features(by_server.features(jobs, arguments), arguments)
    return _report_features(_feature_rows(jobs, arguments), arguments)


def _report_features(rows: list[Row], arguments: argparse.Namespace) -> int:
    """Write, or print, features: rows of input, model_id, mean and std, or error; the exit code.

    Raises:
        HvaeCodecError: the features are of different sizes.
    """
    done = [row for row in rows if "error" not in row]
    if len({len(row["mean"]) for row in done}) > 1:
        raise HvaeCodecError(
            "the files are of models whose top layers differ in size; take them apart"
        )
    if arguments.output is not None and done:
        write_bytes(arguments.output, _npz(done))
    if arguments.json:
        print_json(rows)
    elif arguments.output is None:
        for row in done:
            print(row["input"], " ".join(f"{value:.3f}" for value in row["mean"]))
    elif done:
        print(f"{len(done)} x {len(done[0]['mean'])} features in {arguments.output}")
    return 1 if failures(rows) else 0


def _feature_rows(jobs: list[Job], arguments: argparse.Namespace) -> list[Row]:
    from hvae_codec.codec.images.load import as_uint8

    conversions = conversions_of(arguments)

    @functools.cache
    def asked_for() -> hvae_codec.Codec:
        images = (job.source for job in jobs if not is_encoded(job.source))
        return load(arguments, one_model(arguments, map(size_of, images)))

    def read(source: Path) -> Item[Any]:
        if is_encoded(source):
            blob = source.read_bytes()
            return Item((hvae_codec.codec_for(blob), True), blob, 0)
        picture = as_uint8(source, conversions)
        return Item((asked_for(), False), picture, picture.shape[0] * picture.shape[1])

    def convert(group: tuple[hvae_codec.Codec, bool], values: list[Any]) -> list[Row]:
        codec, encoded = group
        found = codec.features_from_bytes(values) if encoded else codec.features(values)
        pairs = zip(found.mean.tolist(), found.std.tolist(), strict=True)
        return [{"model_id": codec.info.model_id, "mean": mean, "std": std} for mean, std in pairs]

    def finish(job: Job, row: Row) -> Row:
        return {"input": str(job.source), **row}

    return run_in_batches(jobs, "features", read=read, convert=convert, finish=finish)


def _npz(rows: list[Row]) -> bytes:
    """A NumPy archive: files and models as text [N], mean and std float32 [N, D]."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(
        buffer,
        files=np.array([row["input"] for row in rows]),
        models=np.array([row["model_id"] for row in rows]),
        mean=np.array([row["mean"] for row in rows], dtype=np.float32),
        std=np.array([row["std"] for row in rows], dtype=np.float32),
    )
    return buffer.getvalue()


def _sample(arguments: argparse.Namespace) -> int:
    require_file_path(arguments.output)
    require_suffix(arguments.output, IMAGE_SUFFIXES, "images are")
    if has_server(arguments):
        from hvae_codec.cli.jobs import by_server

        return _report_samples(*by_server.sample(arguments), arguments)
    codec = load(arguments)
    check_sheet(arguments.count, codec.info.image_shape)
    pictures = codec.sample(arguments.count, seed=arguments.seed, temperature=arguments.temperature)
    return _report_samples(pictures, codec.info.model_id, arguments)


def _report_samples(
    pictures: NDArray[np.uint8], model_id: str, arguments: argparse.Namespace
) -> int:
    """Write samples [N, h, w, C] as a sheet and say so; the exit code."""
    write_image(arguments.output, whole(sheet(pictures)))
    if arguments.json:
        named = ("count", "seed", "temperature")
        row = {name: getattr(arguments, name) for name in named}
        print_json({"output": str(arguments.output), "model_id": model_id, **row})
    else:
        print(f"{arguments.count} samples in {arguments.output}")
    return 0
