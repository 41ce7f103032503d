"""`hvae-codec info` and `hvae-codec models`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvae_codec
from hvae_codec.cli.common import Commands, add_command, path, print_json
from hvae_codec.cli.jobs.archive_files import open_archive
from hvae_codec.cli.jobs.remote_files import add_server_arguments, has_server

if TYPE_CHECKING:
    from hvae_codec.client import RemoteModel


def add_commands(commands: Commands) -> None:
    """Add both subcommands."""
    add_command(
        commands,
        "info",
        _info,
        _info_arguments,
        summary="show what a .hvae file or .hvaa archive holds, or how this installation was built",
        example="hvae-codec info photo.hvae",
    )
    add_models(commands)


def add_models(commands: Commands) -> None:
    """Add `models`."""
    add_command(
        commands,
        "models",
        _models,
        _models_arguments,
        summary="list the available models, or a server's, with measured sizes and PSNR",
        example="hvae-codec models --json",
    )


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=path, help="a .hvae file or a .hvaa archive")
    parser.add_argument(
        "--build", action="store_true", help="show versions and the compiled extension"
    )


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--card", action="store_true", help="print the whole cards, as JSON")
    add_server_arguments(parser)


def _info(arguments: argparse.Namespace) -> int:
    alone = arguments.build or arguments.file is None
    row = _build() if alone else _file(arguments.file)
    if arguments.json:
        print_json(row)
    else:
        width = max(map(len, row))
        for name, value in row.items():
            print(f"{name:<{width}}  {value}")
    return 0


def _build() -> dict[str, Any]:
    import torch

    from hvae_codec import ops

    return {"hvae_codec": hvae_codec.__version__, "torch": torch.__version__, **ops.build_info()}


def _file(file: Path) -> dict[str, Any]:
    """What a file's header says, and whether the file's check sum holds."""
    from hvae_codec.codec.archive.format import MAGIC as ARCHIVE_MAGIC
    from hvae_codec.codec.bitstream.header import parse, verify_file
    from hvae_codec.errors import BitstreamError, CorruptError

    with file.open("rb") as stream:
        start = stream.read(len(ARCHIVE_MAGIC))
        if start == ARCHIVE_MAGIC:
            return _archive(file)
        data = start + stream.read()
    try:
        frame = parse(data)
    except BitstreamError as error:
        raise type(error)(f"{file}: {error}") from error
    header = frame.header
    row: dict[str, Any] = {
        "file": str(file),
        "intact": True,
        "file_bytes": len(data),
        "header_bytes": frame.payload_at,
        "payload_bytes": len(data) - frame.payload_at,
        "format_version": header.version,
        "model_id": header.model_id.hex(),
        "block": header.block,
        "pictures": header.count,
    }
    try:
        verify_file(data, frame)
    except CorruptError as error:
        row |= {"intact": False, "damage": str(error)}
    model = _model_of(header.model_id.hex())
    if model is None:
        row["model"] = "not available"
        return row
    channels, height, width = model.image_shape
    height, width = header.height or height, header.width or width
    row["model"] = f"{model.name} quality {model.quality_of(header):g}"
    row |= {"width": width, "height": height, "channels": 1 if header.grey else channels}
    row["bits_per_pixel"] = round(8 * len(data) / (width * height * header.count), 4)
    return row


def _archive(file: Path) -> dict[str, Any]:
    """What an archive's index says, and whether every byte is sound."""
    with open_archive(file) as archive:
        info, damages = archive.info, archive.verify()
    problems = [] if info.problem is None else [info.problem]
    problems += [f"from image {d.first}, {d.count} of them: {d.reason}" for d in damages]
    row: dict[str, Any] = {"file": str(file), "intact": not problems}
    if problems:
        row["damage"] = "; ".join(problems)
    model = _model_of(info.model_id)
    row |= {
        "file_bytes": info.file_bytes,
        "block_file_bytes": info.block_file_bytes,
        "blocks": info.blocks,
        "pictures": info.pictures,
        "named": info.named,
        "labels": info.labels,
        "model_id": info.model_id,
        "model": "not available" if model is None else _stated(model),
        "tile_width": info.tile[1],
        "tile_height": info.tile[0],
        "channels": info.channels,
    }
    if info.pictures:
        row["bytes_per_picture"] = round(info.file_bytes / info.pictures, 3)
    return row


def _stated(model: hvae_codec.ModelInfo) -> str:
    """The model of an archive, whose images may have any of its qualities where it has many."""
    return model.name if model.continuous else f"{model.name} quality {model.quality}"


def _model_of(model_id: str) -> hvae_codec.ModelInfo | None:
    found = (model for model in hvae_codec.models() if model.model_id == model_id)
    return next(found, None)


def _models(arguments: argparse.Namespace) -> int:
    if has_server(arguments):
        from hvae_codec.cli.jobs import by_server

        if arguments.card:
            arguments.usage_error("--card does not go with --server: servers send no cards")
        served = by_server.models(arguments)
        if arguments.json:
            print_json([model._asdict() for model in served])
        else:
            _print_models(served)
        return 0
    models = hvae_codec.models()
    if arguments.json or arguments.card:
        rows = [dataclasses.asdict(model) for model in models]
        if not arguments.card:
            for row in rows:
                del row["card"]
        print_json(rows)
        return 0
    _print_models(models)
    return 0


def _print_models(models: Iterable[hvae_codec.ModelInfo | RemoteModel]) -> None:
    """A table of models, here or of a server."""
    head = f"{'model':<13} quality  id        pixels    payload bytes  mean PSNR dB"
    print(f"{head}  rates nats (top first)")
    for model in models:
        channels, height, width = model.image_shape
        pixels = f"{width}x{height}x{channels}"
        rates = ", ".join(f"{rate:.1f}" for rate in model.rates_nats)
        quality = "1-100" if model.continuous else model.quality
        start = f"{model.name:<13} {quality:>7}  {model.model_id}  {pixels:<8}"
        print(f"{start}  {model.payload_bytes:>13.1f}  {model.psnr_db:>12.2f}  {rates}")
