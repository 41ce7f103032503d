"""Does an integer model give the same bytes and pixels in any batch, thread and instruction set?

    python -m benchmarks.codec.integer_exactness [--json benchmarks/results/integer_exactness.json]

Crops of 32x32 pixels of scikit-learn's photographs are encoded and decoded in batches of 1 to 1024,
with 1 and 2 threads, by each instruction set (HVAE_SIMD), each part in a process of its own. Their
bytes and samples are counted that differ from those of one image after another with one thread and
the best instruction set. Parts that the JSON file has of the same model are not measured again, and
it is written after each. A float model is made one of integers first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hvae_codec
from benchmarks.command import Argument, Benchmark
from benchmarks.common import apart, photographs_crops
from benchmarks.tables import Result, Table
from hvae_codec import ops
from hvae_codec.codec.checkpoint import load_checkpoint, save_checkpoint
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.integer.convert import to_integers
from hvae_codec.utils.atomic_files import write_atomically
from hvae_codec.utils.progress import progress

LEVELS = ("best", "avx512", "avx2", "baseline")
BATCHES = (1, 2, 3, 5, 8, 17, 64, 256, 1024)
THREADS = (1, 2)
QUALITY = 50.0
PHOTO = Path(hvae_codec.__file__).parent / "checkpoints" / "photo.safetensors"


def integer_checkpoint(path: Path, folder: Path) -> Path:
    """The checkpoint at `path`, or in `folder` the integers that are made of it."""
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint.model, ConvVAE):
        return path
    crops = photographs_crops(64).reshape(4, 4, 4, 32, 32, 3).swapaxes(2, 3)
    model = to_integers(checkpoint.model, list(crops.reshape(4, 128, 128, 3)), "int8")
    names = ("name", "quality", "measured")
    card = {name: checkpoint.card[name] for name in names}
    made = folder / "integers.safetensors"
    save_checkpoint(made, model, checkpoint.tables, card)
    return made


def coded(
    path: Path, threads: int, batch: int, images: int
) -> tuple[str, list[bytes], NDArray[np.uint8]]:
    """The instruction set, files and pixels of all images, some at a time."""
    torch.set_num_threads(threads)
    codec = hvae_codec.load_file(path).at_quality(QUALITY)
    crops = photographs_crops(images)
    files: list[bytes] = []
    pixels = []
    for start in range(0, images, batch):
        blobs = codec.encode_batch(crops[start : start + batch])
        files += blobs
        pixels.append(np.asarray(codec.decode_batch(blobs)))
    return ops.build_info()["integer_simd_level"], files, np.concatenate(pixels)


def differing_bytes(a: bytes, b: bytes) -> int:
    """At how many places two files differ."""
    return sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))


def coded_by(
    level: str, path: Path, threads: int, batch: int, images: int
) -> tuple[str, list[bytes], NDArray[np.uint8]]:
    """`coded` in a process whose instruction sets go up to a level."""
    before = os.environ.pop("HVAE_SIMD", None)
    if level != "best":
        os.environ["HVAE_SIMD"] = level
    try:
        return apart(coded, path, threads, batch, images)
    finally:
        os.environ.pop("HVAE_SIMD", None)
        if before is not None:
            os.environ["HVAE_SIMD"] = before


def rows_before(path: Path | None, model_id: str, images: int) -> list[dict[str, Any]]:
    """Those that were measured of the same model and images."""
    if path is None or not path.exists():
        return []
    found = json.loads(path.read_text())
    same = found["model_id"] == model_id and found["images"] == images
    return list(found["rows"]) if same else []


def measure(given: argparse.Namespace) -> Result:
    """All parts, or those that fit into the time."""
    with tempfile.TemporaryDirectory() as name:
        path = integer_checkpoint(given.checkpoint, Path(name))
        model_id = hvae_codec.load_file(path).info.model_id
        rows = rows_before(given.json, model_id, given.images)
        result: Result = {"model_id": model_id, "images": given.images, "rows": rows}
        done = {(row["level"], row["threads"], row["batch"]) for row in rows}
        # A run that ends early has had all instruction sets.
        order = [(level, t, batch) for batch, t, level in product(BATCHES, THREADS, LEVELS)]
        parts = [part for part in order if part not in done]
        if not parts:
            return result
        _, files, pixels = coded_by("best", path, 1, 1, given.images)
        begun = time.perf_counter()
        for level, threads, batch in progress("parts", parts, leave=False):
            if time.perf_counter() - begun > given.seconds:
                break
            ran, ours, shown = coded_by(level, path, threads, batch, given.images)
            row = {"level": level, "threads": threads, "batch": batch, "ran": ran}
            row |= {"images": len(ours), "bytes": sum(map(len, ours)), "samples": shown.size}
            row |= {"differing_bytes": sum(map(differing_bytes, ours, files))}
            rows.append(row | {"differing_samples": int((shown != pixels).sum())})
            if given.json is not None:
                write_atomically(given.json, (json.dumps(result, indent=2) + "\n").encode())
    return result


def by_setting(result: Result) -> list[Result]:
    """Sums over the batches."""
    found = []
    for level, threads in product(LEVELS, THREADS):
        rows = [r for r in result["rows"] if (r["level"], r["threads"]) == (level, threads)]
        if rows:
            sums = {
                key: sum(row[key] for row in rows)
                for key in ("images", "differing_bytes", "differing_samples")
            }
            batches = ", ".join(str(row["batch"]) for row in rows)
            found.append({"level": level, "threads": threads, "batches": batches, **sums})
    return found


TABLE = Table(
    "integer_exactness",
    by_setting,
    {
        "instruction set": "{level}",
        "threads": "{threads}",
        "batches": "{batches}",
        "images coded": "{images}",
        "differing bytes": "{differing_bytes}",
        "differing samples": "{differing_samples}",
    },
    note="{images} crops of 32x32 in each batch size, against one after another with one thread.",
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (TABLE,),
    (
        Argument("--checkpoint", type=Path, default=PHOTO, help="a fully convolutional model"),
        Argument("--images", type=int, default=1024, help="of each part, at most 4224"),
        Argument("--seconds", type=float, default=float("inf"), help="begin no part after them"),
    ),
    failed=lambda result: any(
        row["differing_bytes"] or row["differing_samples"] for row in result["rows"]
    ),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
