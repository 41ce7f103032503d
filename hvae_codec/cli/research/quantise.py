"""`hvae-codec quantise`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hvae_codec.cli.common import Commands, add_command, path, positive_int, print_json

CALIBRATION_IMAGES = 48


def add_commands(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "quantise",
        _quantise,
        _arguments,
        summary="make a model of integers, whose files and pixels are the same on every machine",
        example="hvae-codec quantise runs/photo/photo-q50.safetensors --data 'photos:photos/*.jpg' "
        "--output runs/photo-integer",
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=path, help="a fully convolutional model (.safetensors)")
    parser.add_argument(
        "--data",
        required=True,
        help="data set; training images calibrate the integers, test images measure the model",
    )
    parser.add_argument("--root", type=path, help="directory of the data")
    parser.add_argument(
        "--images",
        type=positive_int,
        default=CALIBRATION_IMAGES,
        help=f"calibrate with so many images (default {CALIBRATION_IMAGES})",
    )
    parser.add_argument(
        "--arithmetic",
        choices=("int8", "int16"),
        default="int8",
        help="int16: 16 bits everywhere, nearer to the float model and slower (default int8)",
    )
    parser.add_argument("--name", help="name of the model in its card (default: as before)")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="overwrite a checkpoint of another model; files coded with that one need it",
    )
    parser.add_argument(
        "-o", "--output", dest="out", required=True, type=path, help="folder of the checkpoint"
    )


def _quantise(arguments: argparse.Namespace) -> int:
    from hvae_codec.codec.checkpoint import load_checkpoint
    from hvae_codec.data import load_dataset
    from hvae_codec.evaluation.integers import quantised

    checkpoint = load_checkpoint(arguments.checkpoint)
    size = checkpoint.model.spec.image_shape[1:]
    calibration, test = (
        load_dataset(arguments.data, split, arguments.root, crop=size)
        for split in ("train", "test")
    )
    result = quantised(
        checkpoint,
        calibration,
        test,
        count=arguments.images,
        arithmetic=arguments.arithmetic,
        name=arguments.name,
        path=_target(
            arguments.out, arguments.name, arguments.checkpoint, checkpoint.card["quality"]
        ),
        replace=arguments.replace,
    )
    measured = result.card["measured"]
    if arguments.json:
        print_json({"model_id": result.model_id.hex(), **measured})
        return 0
    print(
        f"model {result.model_id.hex()}, {measured['payload_bytes']:.1f} payload bytes, "
        f"{measured['psnr_db']:.2f} dB on {test.name} {test.split}"
    )
    return 0


def _target(folder: Path, name: str | None, source: Path, quality: int) -> Path:
    """The checkpoint's file: that of the source, or of the new name where there is one."""
    return folder / (source.name if name is None else f"{name}-q{quality}.safetensors")
