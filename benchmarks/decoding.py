"""Does a file decode to the same picture however it is decoded?

    python -m benchmarks.decoding [--json benchmarks/results/decoding.json]

Decodes the same files one by one, in batches of 7 and 256, with 1 and 2 threads, and compares
symbols (must be equal) and pictures (at most 1 grey level apart, in at most 1 of 10,000 samples).
Single tiles and, apart, tiled photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

import hvae_codec
from benchmarks.codec_speed import photographs_crops
from benchmarks.common import environment, write_json

BATCHES = (1, 7, 256)
THREADS = (1, 2)


def decode_in_batches(
    codec: hvae_codec.Codec, files: list[bytes], size: int
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.uint8]]]:
    """Symbols per layer and pictures of `files`, decoded `size` at a time."""
    symbols: list[list[NDArray[np.int32]]] = []
    pictures: list[NDArray[np.uint8]] = []
    for start in range(0, len(files), size):
        part = files[start : start + size]
        symbols.append(codec.symbols(part))
        pictures += list(codec.decode_batch(part))
    return [np.concatenate(layer) for layer in zip(*symbols, strict=True)], pictures


def compare(codec: hvae_codec.Codec, files: list[bytes], sizes: tuple[int, ...]) -> dict[str, Any]:
    """Largest difference of any decoding from the first one."""
    reference: tuple[list[NDArray[np.int32]], list[NDArray[np.uint8]]] | None = None
    unequal_symbols = differing = largest = samples = 0
    for threads in THREADS:
        torch.set_num_threads(threads)
        for size in sizes:
            symbols, pictures = decode_in_batches(codec, files, size)
            if reference is None:
                reference = symbols, pictures
            pairs = zip(reference[0], symbols, strict=True)
            unequal_symbols += sum(int((a != b).sum()) for a, b in pairs)
            for a, b in zip(reference[1], pictures, strict=True):
                difference = np.abs(a.astype(np.int16) - b.astype(np.int16))
                differing += int((difference > 0).sum())
                largest = max(largest, int(difference.max()))
                samples += difference.size
    return {
        "decodings": len(THREADS) * len(sizes),
        "unequal_symbols": unequal_symbols,
        "largest_difference_grey_levels": largest,
        "differing_samples_per_10000": 1e4 * differing / samples,
        "samples": samples,
    }


def main() -> None:
    """Compare for every shipped model, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    rows = []
    for info in hvae_codec.models():
        codec = hvae_codec.load(info.name, quality=info.quality)
        channels, height, width = info.image_shape
        crops = photographs_crops()[:, :height, :width, :channels]
        photographs = [image[:, :, :channels] for image in load_sample_images().images]
        row: dict[str, Any] = {"model": info.name, "quality": info.quality}
        row["tiles"] = compare(codec, codec.encode_batch(np.ascontiguousarray(crops)), BATCHES)
        row["photographs"] = compare(codec, codec.encode_batch(photographs), (1, 2))
        rows.append(row)
        for kind in ("tiles", "photographs"):
            found = row[kind]
            print(
                f"{info.name} {info.quality} {kind:<11} {found['decodings']} decodings: "
                f"{found['unequal_symbols']} symbols differ, samples differ by at most "
                f"{found['largest_difference_grey_levels']} grey level(s), "
                f"{found['differing_samples_per_10000']:.4f} of 10,000"
            )
    if arguments.json is not None:
        write_json(
            arguments.json,
            {"batches": BATCHES, "threads": THREADS, "models": rows, "environment": environment()},
        )


if __name__ == "__main__":
    main()
