"""What does a model's twin without modules around its operations save, by pictures at a time?

    python -m benchmarks.codec.fast_inference [--json benchmarks/results/shorter_networks.json]

Microseconds of one thread for a batch, with the model itself (its peer) and its twin
(`hvae_codec.models.fast_inference`), in turns: from pictures to symbols and from symbols to
pictures, of the middle rung of the ladder for CIFAR-10. Medians of the rounds; the ratio is that of
each round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import hvae_codec
from benchmarks.common import environment, tiled_networks, write_json
from hvae_codec.models.fast_inference import direct
from hvae_codec.models.hvae import HierarchicalVAE

BATCHES = (1, 6, 32, 128)
SECONDS = 0.1


def encode(model: HierarchicalVAE, pictures: torch.Tensor) -> Any:
    """Pictures to symbols."""
    return model.quantise(pictures)


def decode(model: HierarchicalVAE, symbols: list[torch.Tensor]) -> Any:
    """Symbols to pictures."""
    return model.decode(model.dequantise(symbols))


@torch.inference_mode()
def measure(batch: int, rounds: int) -> dict[str, Any]:
    """Microseconds of a batch each way, and the twin's share of the model's."""
    model = tiled_networks(hvae_codec.load("cifar10", quality=3)).model
    pictures = torch.rand(batch, *model.spec.image_shape, generator=torch.manual_seed(0))
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    symbols = encode(model, pictures)
    row: dict[str, Any] = {"batch": batch}
    models = (model, direct(model))
    ways: dict[str, list[Callable[[], Any]]] = {
        "encode": [partial(encode, each, pictures) for each in models],
        "decode": [partial(decode, each, symbols) for each in models],
    }
    for way, work in ways.items():
        times = np.array([[_microseconds(one) for one in work] for _ in range(rounds)])
        modules, twin = np.median(times, axis=0)
        share = float(np.median(times[:, 1] / times[:, 0]))
        row[way] = {"modules_us": modules, "twin_us": twin, "ratio": share}
    return row


def _microseconds(function: Callable[[], Any]) -> float:
    """Of one call, of as many as fit into SECONDS."""
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        function()
        calls += 1
    return 1e6 * (time.perf_counter() - start) / calls


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(batch, arguments.rounds) for batch in tqdm(BATCHES, leave=False, disable=None)]
    print("pictures   encode: modules us, twin us, ratio   decode: modules us, twin us, ratio")
    for row in rows:
        cells = [
            f"{way['modules_us']:>14.0f} {way['twin_us']:>9.0f} {way['ratio']:>7.2f}"
            for way in (row["encode"], row["decode"])
        ]
        print(f"{row['batch']:>8}   {'     '.join(cells)}")
    if arguments.json is not None:
        result = {"threads": 1, "rounds": arguments.rounds, "rows": rows}
        write_json(arguments.json, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
