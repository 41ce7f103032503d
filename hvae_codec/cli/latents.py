"""`hvae-codec features` and `hvae-codec sample`."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np

import hvae_codec
from hvae_codec.cli.common import (
    ENCODED_SUFFIX,
    PICTURE_SUFFIXES,
    Commands,
    add_command,
    add_model_arguments,
    load,
    pairs,
    positive_int,
    print_json,
    progress,
    write_bytes,
)
from hvae_codec.codec.images import encode_png

_COLUMNS = 8


def add_commands(commands: Commands) -> None:
    """Add both subcommands."""
    features = add_command(
        commands,
        "features",
        _features,
        summary="extract z2 of pictures, or of .hvae files from their first bytes",
        example="hvae-codec features thumbnails/ --output z2.npz",
    )
    features.add_argument("inputs", nargs="+", type=Path, help="pictures, .hvae files, or folders")
    features.add_argument(
        "-o", "--output", type=Path, help="a .npz with arrays files, mean and std; default: print"
    )
    add_model_arguments(features)
    sample = add_command(
        commands,
        "sample",
        _sample,
        summary="draw pictures from a model's prior into one PNG sheet",
        example="hvae-codec sample --count 16 --seed 7 --output samples.png",
    )
    sample.add_argument("-n", "--count", type=positive_int, default=16, help="pictures to draw")
    sample.add_argument("--seed", type=int, default=0, help="equal seeds draw equal pictures")
    sample.add_argument(
        "--temperature", type=float, default=1.0, help="scales the prior's deviations"
    )
    sample.add_argument("-o", "--output", type=Path, default=Path("samples.png"))
    add_model_arguments(sample)


def _features(arguments: argparse.Namespace) -> int:
    work = pairs(arguments.inputs, None, (*PICTURE_SUFFIXES, ENCODED_SUFFIX), ".npz")
    codec = load(arguments)
    files, means, deviations = [], [], []
    for source, _ in progress(work, "features"):
        if source.suffix.lower() == ENCODED_SUFFIX:
            blob = source.read_bytes()
            found = hvae_codec.codec_for(blob).features_from_bytes(blob)
        else:
            found = codec.features([source])
        files.append(str(source))
        means.append(found.mean[0])
        deviations.append(found.std[0])
    if arguments.output is not None:
        buffer = io.BytesIO()
        np.savez(buffer, files=np.array(files), mean=np.stack(means), std=np.stack(deviations))
        write_bytes(arguments.output, buffer.getvalue())
    rows: list[dict[str, Any]] = [
        {"file": file, "mean": mean.tolist(), "std": deviation.tolist()}
        for file, mean, deviation in zip(files, means, deviations, strict=True)
    ]
    if arguments.json:
        print_json(rows)
    elif arguments.output is not None:
        print(f"{len(files)} x {len(means[0])} features in {arguments.output}")
    else:
        for row in rows:
            print(row["file"], " ".join(f"{value:.3f}" for value in row["mean"]))
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    codec = load(arguments)
    pictures = codec.sample(arguments.count, seed=arguments.seed, temperature=arguments.temperature)
    write_bytes(arguments.output, encode_png(_sheet(pictures)))
    row = {"output": str(arguments.output), "count": arguments.count, "seed": arguments.seed}
    if arguments.json:
        print_json(row)
    else:
        print(f"{arguments.count} samples in {arguments.output}")
    return 0


def _sheet(pictures: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pictures [N, h, w, C] side by side, _COLUMNS to a row, unused places white."""
    count, height, width, channels = pictures.shape
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    sheet = np.full((rows * columns, height, width, channels), 255, dtype=np.uint8)
    sheet[:count] = pictures
    grid = sheet.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)
