"""What do integer networks cost and gain? Bytes at equal PSNR and speed, beside the float model.

    python -m benchmarks.codec.integer_networks [--images FOLDER] [--model photo] [--rounds 9]
        [--json benchmarks/results/integer_networks.json]

The model is made one of integers in the run, in both arithmetics, calibrated on crops of
scikit-learn's photographs. Bytes and PSNR are means over the images of a folder (Kodak's, say), or
without one over those photographs, at six qualities; the BD-rate compares the curves. Speeds are
of whole calls on one thread, from a photograph of 768x512 pixels to its file and back, all in
turns: the ratios are medians over the rounds. The large image is one of 24 megapixels, encoded and
decoded in a process of its own: the peak of its memory.
"""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hvae_codec
from benchmarks.codec.memory import mosaic_rows, photographs
from benchmarks.codec.photographs import LARGE, Work, photograph, timed
from benchmarks.command import Argument, Benchmark
from benchmarks.common import apart, memory_bytes
from benchmarks.tables import Result, Table
from hvae_codec.codec.checkpoint import Checkpoint, make_checkpoint, save_checkpoint
from hvae_codec.codec.images.load import as_uint8
from hvae_codec.evaluation.integers import extreme_images
from hvae_codec.evaluation.metrics.psnr import psnr_db
from hvae_codec.evaluation.rate_distortion.bd_rate import bd_rate_percent
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.integer.convert import to_integers
from hvae_codec.ops import build_info
from hvae_codec.utils.progress import progress

QUALITIES = (1, 20, 40, 60, 80, 100)
KINDS = ("encode", "decode")
SPEED_QUALITY = 50
CROPS, SIDE = 24, 128

Pixels = NDArray[np.uint8]


def calibration_images() -> list[Pixels]:
    """Crops of the sample photographs."""
    generator = np.random.default_rng(0)
    pictures = photographs()
    crops = []
    for index in range(CROPS):
        picture = pictures[index % len(pictures)]
        top, left = (int(generator.integers(0, side - SIDE + 1)) for side in picture.shape[:2])
        crops.append(picture[top : top + SIDE, left : left + SIDE].copy())
    return crops


def checkpoints(model: str) -> dict[str, Checkpoint]:
    """The float model, and those of integers made of it."""
    floats = hvae_codec.load(model).checkpoint
    assert isinstance(floats.model, ConvVAE)
    card = {key: floats.card[key] for key in ("name", "quality", "measured")}
    made = {"float": floats}
    for arithmetic in ("int16", "int8"):
        extremes = extreme_images((SIDE, SIDE))
        integers = to_integers(floats.model, calibration_images(), arithmetic, extremes)
        made[arithmetic] = make_checkpoint(integers, floats.tables, card)
    return made


def curve(codec: hvae_codec.Codec, pictures: list[Pixels]) -> list[dict[str, float]]:
    """Mean bits per pixel and PSNR at each quality."""
    rows = []
    for quality in progress("qualities", QUALITIES, leave=False):
        at = codec.at_quality(quality)
        blobs = [at.encode(picture) for picture in pictures]
        errors = [psnr_db(p, at.decode(b)) for p, b in zip(pictures, blobs, strict=True)]
        bits = [
            8 * len(b) / (p.shape[0] * p.shape[1]) for p, b in zip(pictures, blobs, strict=True)
        ]
        row = {"quality": quality, "bits_per_pixel": round(float(np.mean(bits)), 5)}
        rows.append(row | {"psnr_db": round(float(np.mean(errors)), 4)})
    return rows


def speeds(codecs: dict[str, hvae_codec.Codec], rounds: int) -> dict[str, dict[str, float]]:
    """For each codec megapixels per second, and how many times the float model's they are."""
    picture = photograph()
    megapixels = picture.shape[0] * picture.shape[1] / 1e6
    calls: dict[tuple[str, str], Work] = {}
    for name, codec in codecs.items():
        at = codec.at_quality(SPEED_QUALITY)
        calls["encode", name] = partial(at.encode, picture)
        calls["decode", name] = partial(at.decode, at.encode(picture))
    seconds = timed(calls, rounds)
    found: dict[str, dict[str, float]] = {name: {} for name in codecs}
    for kind, name in calls:
        own, floats = np.array(seconds[kind, name]), np.array(seconds[kind, "float"])
        found[name][f"{kind}_megapixels_per_s"] = round(megapixels / float(np.median(own)), 3)
        found[name][f"{kind}_times"] = round(float(np.median(floats / own)), 3)
    return found


def peak_mib(path: Path, picture: Path) -> float:
    """Peak of this process's memory, library included, after a large image to bytes and back."""
    codec = hvae_codec.load_file(path)
    pixels = np.load(picture)
    blob = codec.encode(pixels)
    del pixels
    codec.decode(blob)
    return round(memory_bytes("VmHWM") / 2**20, 1)


def measure(arguments: Namespace) -> Result:
    """All rows."""
    torch.set_num_threads(1)
    made = checkpoints(arguments.model)
    codecs = {name: hvae_codec.Codec(one) for name, one in made.items()}
    folder = arguments.images
    pictures = [as_uint8(path) for path in sorted(folder.iterdir())] if folder else photographs()
    curves = {name: curve(codec, pictures) for name, codec in codecs.items()}
    fast = speeds(codecs, arguments.rounds)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        picture = Path(name) / "picture.npy"
        np.save(picture, np.concatenate(list(mosaic_rows(LARGE[1])))[: LARGE[0]])
        for arithmetic, one in made.items():
            path = Path(name) / f"{arithmetic}.safetensors"
            card = {key: one.card[key] for key in ("name", "quality", "measured")}
            save_checkpoint(path, one.model, one.tables, card)
            size = round(path.stat().st_size / 2**20, 2)
            rate = bd_rate_percent(curves["float"], curves[arithmetic], "bits_per_pixel")
            row = {"arithmetic": arithmetic, "bd_rate_percent": rate, "file_mib": size}
            row |= {"peak_mib": apart(peak_mib, path, picture)}
            rows.append(row | fast[arithmetic] | {"curve": curves[arithmetic]})
    return {
        "model_id": made["float"].model_id.hex(),
        "images": len(pictures),
        "folder": folder.name if folder else "scikit-learn's photographs",
        "rounds": arguments.rounds,
        "instructions": build_info()["integer_simd_level"],
        "seconds": round(time.process_time(), 1),
        "rows": rows,
    }


def _note(result: Result) -> str:
    return (
        f"BD-rate over {result['images']} images ({result['folder']}). Speeds of whole calls at "
        f"quality {SPEED_QUALITY} in megapixels per second, 768x512, one thread of an "
        f"{result['environment']['processor']} ({result['instructions']}), and in brackets times "
        f"the float model's, median of {result['rounds']} rounds in turns. Memory is the peak of a "
        "process that encodes and decodes 24 megapixels."
    )


TABLE = Table(
    "integer_networks",
    "rows",
    {
        "arithmetic": "{arithmetic}",
        "BD-rate, %": "{bd_rate_percent:+.2f}",
        "encode": "{encode_megapixels_per_s:.2f} ({encode_times:.2f})",
        "decode": "{decode_megapixels_per_s:.2f} ({decode_times:.2f})",
        "24 megapixels, MiB": "{peak_mib:,.0f}",
        "file, MiB": "{file_mib:.1f}",
    },
    note=_note,
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (TABLE,),
    (
        Argument("--images", type=Path, help="folder of images; default: scikit-learn's two"),
        Argument("--model", default="photo", help="fully convolutional model of floats"),
        Argument("--rounds", type=int, default=9),
    ),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
