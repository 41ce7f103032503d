"""How close does the codec come to the speed of its networks alone, its limit?

    python -m benchmarks.codec_speed [--json benchmarks/results/codec_speed.json]

Images per second of encode and decode in batches of 256, as blocks and as single records, against
the same networks on the same images in the same run, measured in turns; the median of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hvae_codec
from benchmarks.common import environment, write_json

BATCH = 256
SECONDS = 0.25


def images_per_second(work: Callable[[], Any]) -> float:
    """Rate of `work`, which handles BATCH images, over SECONDS."""
    start = time.perf_counter()
    calls = 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        work()
        calls += 1
    return calls * BATCH / elapsed


def photographs_crops() -> NDArray[np.uint8]:
    """BATCH crops of 32x32 pixels of scikit-learn's photographs: real images, always at hand."""
    from sklearn.datasets import load_sample_images

    crops = [
        photo[y : y + 32, x : x + 32]
        for photo in load_sample_images().images
        for y in range(0, 384, 32)
        for x in range(0, 352, 32)
    ]
    return np.ascontiguousarray(np.stack(crops[:BATCH]))


def measure(quality: int, rounds: int) -> dict[str, Any]:
    """Rates in images per second and the codec's ratio to the networks, for one rung."""
    codec = hvae_codec.load("cifar10", quality=quality)
    networks = codec.networks
    images = photographs_crops()
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
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            rates[name].append(images_per_second(function))
    median = {name: float(np.median(values)) for name, values in rates.items()}
    ratios = {
        name: float(
            np.median(np.array(rates[name]) / np.array(rates[f"networks {name.split()[1]}"]))
        )
        for name in work
        if not name.startswith("networks")
    }
    return {"quality": quality, "images_per_second": median, "ratio_to_networks": ratios}


def main() -> None:
    """Measure every rung, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    rungs = [model.quality for model in hvae_codec.models() if model.name == "cifar10"]
    results = [measure(quality, arguments.rounds) for quality in rungs]
    print(f"images per second, batch {BATCH}, {torch.get_num_threads()} threads; ratio to networks")
    for result in results:
        print(f"rung {result['quality']}")
        for name, rate in result["images_per_second"].items():
            ratio = result["ratio_to_networks"].get(name)
            print(f"  {name:<16} {rate:>9.0f}" + ("" if ratio is None else f"  {ratio:>6.1%}"))
    if arguments.json is not None:
        settings = {"batch": BATCH, "threads": torch.get_num_threads(), "rounds": arguments.rounds}
        write_json(
            arguments.json,
            {**settings, "rungs": results, "environment": environment("scikit-learn")},
        )


if __name__ == "__main__":
    main()
