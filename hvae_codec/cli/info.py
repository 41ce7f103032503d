"""`hvae-codec info` and `hvae-codec models`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import hvae_codec
from hvae_codec import ops
from hvae_codec.cli.common import Commands, add_command, print_json
from hvae_codec.codec.format import parse
from hvae_codec.errors import UnknownModelError


def add_commands(commands: Commands) -> None:
    """Add both subcommands."""
    info = add_command(
        commands,
        "info",
        _info,
        summary="show what a .hvae file holds, or how this installation was built",
        example="hvae-codec info photo.hvae",
    )
    info.add_argument("file", nargs="?", type=Path, help="a .hvae file")
    info.add_argument(
        "--build", action="store_true", help="show versions and the compiled extension"
    )
    models = add_command(
        commands,
        "models",
        _models,
        summary="list the shipped models with their measured sizes and PSNR",
        example="hvae-codec models --json",
    )
    models.add_argument("--card", action="store_true", help="with --json, include the whole cards")


def _info(arguments: argparse.Namespace) -> int:
    if arguments.build or arguments.file is None:
        return _show(_build(), arguments.json)
    data = arguments.file.read_bytes()
    frame = parse(data)
    row: dict[str, Any] = {
        "file": str(arguments.file),
        "file_bytes": len(data),
        "header_bytes": frame.payload_at,
        "payload_bytes": len(data) - frame.payload_at,
        "format_version": frame.header.version,
        "model_id": frame.header.model_id.hex(),
    }
    try:
        codec = hvae_codec.codec_for(data)
    except UnknownModelError:
        row["model"] = "unknown to this installation"
        return _show(row, arguments.json)
    height, width, channels, count = codec.picture_shape(data)
    row["model"] = f"{codec.info.name} quality {codec.info.quality}"
    row |= {"pictures": count, "width": width, "height": height, "channels": channels}
    row["bits_per_pixel"] = round(8 * len(data) / (width * height * count), 4)
    return _show(row, arguments.json)


def _build() -> dict[str, Any]:
    return {"hvae_codec": hvae_codec.__version__, "torch": torch.__version__, **ops.build_info()}


def _show(row: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print_json(row)
    else:
        width = max(map(len, row))
        for name, value in row.items():
            print(f"{name:<{width}}  {value}")
    return 0


def _models(arguments: argparse.Namespace) -> int:
    models = hvae_codec.models()
    if arguments.json:
        print_json([_model_row(model, arguments.card) for model in models])
        return 0
    print("model      quality  id        pixels    payload bytes  PSNR dB  rates nats (top first)")
    for model in models:
        channels, height, width = model.image_shape
        pixels = f"{width}x{height}x{channels}"
        rates = ", ".join(f"{rate:.1f}" for rate in model.rates_nats)
        start = f"{model.name:<10} {model.quality:>7}  {model.model_id}  {pixels:<8}"
        print(f"{start}  {model.payload_bytes:>13.1f}  {model.psnr_db:>7.2f}  {rates}")
    return 0


def _model_row(model: hvae_codec.ModelInfo, with_card: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": model.name,
        "quality": model.quality,
        "model_id": model.model_id,
        "spec": model.spec_name,
        "image_shape": model.image_shape,
        "z_dims": model.z_dims,
        "payload_bytes": model.payload_bytes,
        "psnr_db": model.psnr_db,
        "rates_nats": model.rates_nats,
    }
    return {**row, "card": model.card} if with_card else row
