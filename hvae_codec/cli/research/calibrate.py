"""`hvae-codec calibrate`."""

from __future__ import annotations

import argparse

from hvae_codec.cli.common import Commands, add_command, path, positive_int, print_json


def add_commands(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "calibrate",
        _calibrate,
        _calibrate_arguments,
        summary="measure bytes against PSNR of checkpoints, for qualities between them",
        example="hvae-codec calibrate runs/mine/mine-q1.safetensors --data cifar10",
    )


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoints", nargs="+", type=path, help="checkpoints (.safetensors)")
    parser.add_argument("--data", required=True, help="data set; its test images are used")
    parser.add_argument("--root", type=path, help="directory of the data")
    parser.add_argument("--images", type=positive_int, help="use so many images")


def _calibrate(arguments: argparse.Namespace) -> int:
    from hvae_codec.codec.checkpoint import load_checkpoint, update_card
    from hvae_codec.codec.codec import Codec
    from hvae_codec.data import load_dataset
    from hvae_codec.evaluation.calibrate import CALIBRATION_IMAGES, calibrate_codec

    dataset = load_dataset(arguments.data, "test", arguments.root)
    images = dataset.images[: arguments.images or CALIBRATION_IMAGES]
    rows = []
    for file in arguments.checkpoints:
        checkpoint = load_checkpoint(file)
        calibration = calibrate_codec(Codec(checkpoint), images)
        update_card(file, checkpoint, calibration=calibration)
        rows.append({"checkpoint": str(file), **calibration})
    if arguments.json:
        print_json(rows)
        return 0
    for row in rows:
        ends = [f"{row['payload_bytes'][i]:.1f} B {row['psnr_db'][i]:.2f} dB" for i in (-1, 0)]
        print(f"{row['checkpoint']}: {ends[0]} to {ends[1]} mean PSNR over {row['images']} images")
    return 0
