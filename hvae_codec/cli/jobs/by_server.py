"""What commands with --server do: encode, decode, features, sample and models, by a server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvae_codec.cli.common import conversions_of, write_bytes
from hvae_codec.cli.jobs.batches import Row
from hvae_codec.cli.jobs.files import Job, is_encoded
from hvae_codec.cli.jobs.images import check_sheet, whole, write_image
from hvae_codec.cli.jobs.models import one_model, size_of
from hvae_codec.cli.jobs.remote_files import connected, run_streamed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvae_codec.client import RemoteModel
    from hvae_codec.codec.features import Features
    from hvae_codec.codec.images.conversions import Conversions
    from hvae_codec.codec.images.load import Picture


def encode(jobs: list[Job], targets: dict[str, Any], arguments: argparse.Namespace) -> list[Row]:
    """`hvae-codec encode --server`: a row an image."""
    named = ("model", "quality", "effort")
    options = {**{name: getattr(arguments, name) for name in named}, **targets}
    with connected(arguments) as client:
        models = {model.model_id: model for model in client.models()}

        def finish(job: Job, blob: bytes) -> Row:
            write_bytes(job.target, blob)
            return {"input": str(job.source), "output": str(job.target), **_measured(blob, models)}

        return run_streamed(
            jobs,
            "encoding",
            read=_reader(conversions_of(arguments)),
            answers=lambda paths: client.encode_stream(paths, on_error="return", **options),
            finish=finish,
        )


def _reader(conversions: Conversions) -> Callable[[Path], Picture]:
    """What makes of a file what a client sends: the file itself, or its image with what is done to
    it here.
    """
    from hvae_codec.codec.images.conversions import NONE
    from hvae_codec.codec.images.load import as_uint8

    if conversions == NONE:
        return lambda source: source
    return lambda source: as_uint8(source, conversions)


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


def decode(jobs: list[Job], arguments: argparse.Namespace) -> list[Row]:
    """`hvae-codec decode --server`: a row a file."""

    def finish(job: Job, picture: NDArray[np.uint8]) -> Row:
        write_image(job.target, whole(picture))
        height, width, _ = picture.shape
        return {
            "input": str(job.source),
            "output": str(job.target),
            "width": width,
            "height": height,
        }

    with connected(arguments) as client:
        stream = client.preview_stream if arguments.preview else client.decode_stream
        return run_streamed(
            jobs,
            "decoding",
            read=Path.read_bytes,
            answers=lambda blobs: stream(blobs, on_error="return"),
            finish=finish,
        )


def features(jobs: list[Job], arguments: argparse.Namespace) -> list[Row]:
    """`hvae-codec features --server`: a row of input, model_id, mean and std, or error, a file."""
    from hvae_codec.codec.bitstream.header import read_header
    from hvae_codec.codec.model_choice import AUTO

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
                read=_reader(conversions_of(arguments)),
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
    return sorted(rows, key=lambda row: order[row["input"]])


def sample(arguments: argparse.Namespace) -> tuple[NDArray[np.uint8], str]:
    """`hvae-codec sample --server`: images uint8 [N, H, W, C] and their model's id."""
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
    return pictures, model.model_id


def models(arguments: argparse.Namespace) -> list[RemoteModel]:
    """`hvae-codec models --server`: what it serves."""
    with connected(arguments) as client:
        return client.models()
