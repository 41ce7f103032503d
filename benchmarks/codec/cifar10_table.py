"""What does an image cost, and how good is it? The shipped model family against WebP on CIFAR-10.

    python -m benchmarks.codec.cifar10_table [--images N] [--json benchmarks/results/ladder.json]

Per quality level: payload, whole file, PSNR (mean over images of the 8-bit image), real bytes
against the information content of the same symbols, for records of one image and blocks of 256.
WebP (method 6) on the same images in the same run, with and without its container.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from tqdm import tqdm

import hvae_codec
from benchmarks.common import environment, write_json
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.data import load_dataset
from hvae_codec.evaluation import mean_psnr_db, measure_codec
from hvae_codec.evaluation.metrics.psnr import squared_error_each

BLOCK = 256
WEBP_QUALITIES = (0, 1, 2, 3, 5, 8, 12, 18, 26, 36)
_RIFF_HEADER_BYTES = 12
_CHUNK_HEADER_BYTES = 8

Pixels = NDArray[np.uint8]


def measure_rung(codec: hvae_codec.Codec, images: Pixels) -> dict[str, Any]:
    """The card's measurements, made now, and overheads of records and blocks in bytes per image."""
    row = {
        "quality": codec.info.quality,
        "model_id": codec.info.model_id,
        **measure_codec(codec, images),
    }
    row["record_overhead_bytes"] = row["payload_bytes"] - row["information_bytes"]
    whole = images[: len(images) // BLOCK * BLOCK]
    blocks = [codec.encode_block(whole[i : i + BLOCK]) for i in range(0, len(whole), BLOCK)]
    information = codec.information_bits(whole).sum() / 8.0
    payload = sum(len(block) - parse(block).payload_at for block in blocks)
    row["block_file_bytes"] = sum(map(len, blocks)) / len(whole)
    row["block_overhead_bytes"] = (payload - information) / len(whole)
    return row


def measure_webp(images: Pixels, quality: int) -> dict[str, Any]:
    """Mean bytes a file, mean bytes without RIFF and chunk headers, mean PSNR."""
    sizes, decoded = [], []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=6)
        sizes.append(len(buffer.getvalue()))
        decoded.append(np.asarray(Image.open(buffer).convert("RGB")))
    mean = float(np.mean(sizes))
    return {
        "quality": quality,
        "file_bytes": mean,
        "payload_bytes": mean - _RIFF_HEADER_BYTES - _CHUNK_HEADER_BYTES,
        "psnr_db": mean_psnr_db(squared_error_each(images, np.stack(decoded)), images[0].size),
    }


def plot(result: dict[str, Any], path: Path) -> None:
    """PSNR against bytes, ours and WebP's, payloads and whole files."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for name, rows, colour in (
        ("hvae_codec", result["ladder"], "C0"),
        ("WebP", result["webp"], "C1"),
    ):
        for key, style in (("payload_bytes", "-o"), ("file_bytes", "--o")):
            points = [(row[key], row["psnr_db"]) for row in rows]
            label = f"{name}, {'without header' if key == 'payload_bytes' else 'whole file'}"
            axes.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=4)
    axes.set(xlabel="bytes per image", ylabel="mean PSNR (dB)", title=result["data"], xlim=(0, 250))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, and write JSON and plot if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, help="use only the first N test images")
    parser.add_argument("--json", type=Path, help="write the result here, and a plot beside it")
    arguments = parser.parse_args()
    dataset = load_dataset("cifar10", "test")
    images = dataset.images[: arguments.images]
    rungs = [model.quality for model in hvae_codec.models() if model.name == "cifar10"]
    ladder = [
        measure_rung(hvae_codec.load("cifar10", quality=quality), images)
        for quality in tqdm(rungs, desc="rungs", disable=None)
    ]
    webp = [measure_webp(images, q) for q in tqdm(WEBP_QUALITIES, desc="WebP", disable=None)]
    print(f"{dataset.name} {dataset.split}, {len(images)} images")
    print("rung   payload B   file B  block B   PSNR dB  over information: record B  block B/image")
    for row in ladder:
        print(
            f"{row['quality']:>4} {row['payload_bytes']:>11.2f} {row['file_bytes']:>8.2f}"
            f" {row['block_file_bytes']:>8.2f} {row['psnr_db']:>9.2f}"
            f" {row['record_overhead_bytes']:>28.3f} {row['block_overhead_bytes']:>14.4f}"
        )
    print("WebP   payload B   file B            PSNR dB")
    for row in webp:
        print(
            f"{row['quality']:>4} {row['payload_bytes']:>11.2f} {row['file_bytes']:>8.2f}"
            f" {row['psnr_db']:>18.2f}"
        )
    result = {
        "data": f"{dataset.name} {dataset.split}",
        "images": len(images),
        "ladder": ladder,
        "webp": webp,
        "environment": {**environment("pillow"), "libwebp": features.version("webp")},
    }
    if arguments.json is not None:
        write_json(arguments.json, result)
        plot(result, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
