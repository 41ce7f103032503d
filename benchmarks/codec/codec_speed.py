"""How close does the codec come to the speed of its networks alone, its limit? And its peers?

    python -m benchmarks.codec.codec_speed [--json benchmarks/results/codec_speed.json]

Images per second of encode and decode, as blocks and as single records, against the same networks
on the same images in the same run, measured in turns; the median of the rounds. Every quality level
in batches of 256, the middle one in batches of 1 to 4,096 with one and two threads. Peers, on the
same images in the same run: JPEG and WebP by Pillow, one image after another, and learned codecs
with random weights where they are installed (`benchmarks.codec.learned_peers`).
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import hvae_codec
from benchmarks.codec.learned_peers import learned_peers
from benchmarks.common import environment, tiled_networks, write_json

BATCH = 256
BATCHES = (1, 16, 256, 4096)
SECONDS = 0.25
LEARNED = 32
"""Images a batch for peers that take one at a time."""

PILLOW: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 30, "optimize": True},
    "WebP": {"quality": 10, "method": 4},
}


def images_per_second(work: Callable[[], Any], batch: int = BATCH) -> float:
    """Rate of `work`, which handles `batch` images, over SECONDS."""
    start = time.perf_counter()
    calls = 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        work()
        calls += 1
    return calls * batch / elapsed


def photographs_crops(count: int = BATCH) -> NDArray[np.uint8]:
    """Crops of 32x32 pixels of scikit-learn's photographs: real images, always available."""
    from sklearn.datasets import load_sample_images

    crops = [
        photo[y : y + 32, x : x + 32]
        for photo in load_sample_images().images
        for y in range(0, 384, 8)
        for x in range(0, 352, 8)
    ]
    spread = np.linspace(0, len(crops) - 1, count).astype(int)
    return np.ascontiguousarray(np.stack([crops[index] for index in spread]))


def measure(quality: int, rounds: int, batch: int = BATCH) -> dict[str, Any]:
    """Rates in images per second and the codec's ratio to the networks, for one quality level."""
    codec = hvae_codec.load("cifar10", quality=quality)
    networks = tiled_networks(codec)
    images = photographs_crops(batch)
    symbols = networks.symbols(images)
    block, records = codec.encode_block(images), codec.encode_batch(images)
    work: dict[str, Callable[[], Any]] = {
        "networks encode": lambda: networks.symbols(images),
        "block encode": lambda: codec.encode_block(images),
        "records encode": lambda: codec.encode_batch(images),
        "networks decode": lambda: networks.tiles(symbols),
        "block decode": lambda: codec.decode_block(block),
        "records decode": lambda: codec.decode_batch(records),
    }
    if batch == 1:
        del work["block encode"], work["block decode"]
        work["records encode"] = lambda: codec.encode(images[0])
        work["records decode"] = lambda: codec.decode(records[0])
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            rates[name].append(images_per_second(function, batch))
    median = {name: float(np.median(values)) for name, values in rates.items()}
    ratios = {
        name: float(
            np.median(np.array(rates[name]) / np.array(rates[f"networks {name.split()[1]}"]))
        )
        for name in work
        if not name.startswith("networks")
    }
    return {
        "quality": quality,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "images_per_second": median,
        "ratio_to_networks": ratios,
    }


def measure_peers(rounds: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Images per second of each peer, and which were left out and why."""
    images = photographs_crops()
    work: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {}
    for name, options in PILLOW.items():
        save = partial(_saved, images, name, options)
        work[f"Pillow {name}"] = (save, partial(_opened, save()), BATCH)
    learned, left_out = learned_peers(images)
    few, _ = learned_peers(images[:LEARNED])
    for every, some in zip(learned, few, strict=True):
        peer, batch = (some, LEARNED) if "lossy-vae" in every.name else (every, BATCH)
        work[peer.name] = (peer.encode, partial(peer.decode, peer.encode()), batch)
    rows = []
    for name, (encode, decode, batch) in work.items():
        rates = [
            (images_per_second(encode, batch), images_per_second(decode, batch))
            for _ in range(rounds)
        ]
        encoded, decoded = np.median(np.array(rates), axis=0)
        rows.append({"peer": name, "encode": float(encoded), "decode": float(decoded)})
    return rows, left_out


def _saved(images: NDArray[np.uint8], name: str, options: dict[str, Any]) -> list[bytes]:
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, name, **options)
        files.append(buffer.getvalue())
    return files


def _opened(files: list[bytes]) -> list[NDArray[np.uint8]]:
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def print_rates(result: dict[str, Any]) -> None:
    """A heading and a line a kind of work."""
    print(
        f"rung {result['quality']}, batches of {result['batch']}, {result['threads']} threads: "
        "images/s, MB/s of pixels, ratio to networks"
    )
    for name, rate in result["images_per_second"].items():
        ratio = result["ratio_to_networks"].get(name)
        shown = "" if ratio is None else f"  {ratio:>6.1%}"
        print(f"  {name:<16} {rate:>9.0f} {rate * 3072 / 1e6:>8.1f}{shown}")


def main() -> None:
    """Measure every quality level, the batches and the peers, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    threads = torch.get_num_threads()
    numbers = [model.quality for model in hvae_codec.models() if model.name == "cifar10"]
    rungs = []
    for quality in numbers:
        rungs.append(measure(quality, arguments.rounds))
        print_rates(rungs[-1])
    batches = []
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        for batch in BATCHES:
            batches.append(measure(numbers[len(numbers) // 2], arguments.rounds, batch))
            print_rates(batches[-1])
    peers, left_out = measure_peers(max(1, arguments.rounds // 4))
    for row in peers:
        print(f"{row['peer']:<34} encode {row['encode']:>8.0f}/s decode {row['decode']:>8.0f}/s")
    for name, why in left_out.items():
        print(f"{name} left out: {why}")
    if arguments.json is not None:
        settings = {"batch": BATCH, "threads": threads, "rounds": arguments.rounds}
        found = {"rungs": rungs, "batches": batches, "peers": peers, "left_out": left_out}
        where = {"environment": environment("scikit-learn", "pillow")}
        write_json(arguments.json, {**settings, **found, **where})


if __name__ == "__main__":
    main()
