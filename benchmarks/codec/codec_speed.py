"""How close does the codec come to the speed of its networks alone, its limit? And its peers?

    python -m benchmarks.codec.codec_speed [--json benchmarks/results/codec_speed.json]

Images per second of encode and decode, as blocks and as single records, against the same networks
on the same images in the same run, measured in turns; the median of the rounds. Every quality level
in batches of 256, the middle one in batches of 1 to 4,096 with one and two threads. Peers, on the
same images in the same run: JPEG and WebP by Pillow, one image after another, and learned codecs
with random weights where they are installed (`benchmarks.codec.learned_peers`).
"""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import hvae_codec
from benchmarks.codec.learned_peers import learned_peers
from benchmarks.command import Argument, Benchmark
from benchmarks.common import (
    images_per_second,
    in_turns,
    photographs_crops,
    tiled_networks,
)
from benchmarks.tables import LEFT_OUT, Result, Table
from hvae_codec.utils.progress import progress

BATCH = 256
BATCHES = (1, 16, 256, 4096)
SECONDS = 0.25
LEARNED = 32
"""Images a batch for peers that take one at a time."""

PILLOW: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 30, "optimize": True},
    "WebP": {"quality": 10, "method": 4},
}


def measure_quality(quality: int, rounds: int, batch: int = BATCH) -> Result:
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
    timed = {name: partial(images_per_second, call, batch, SECONDS) for name, call in work.items()}
    rates = in_turns(timed, rounds, f"quality {quality}, batches of {batch}")
    ratios = {
        name: float(np.median(np.divide(values, rates[f"networks {name.split()[1]}"])))
        for name, values in rates.items()
        if not name.startswith("networks")
    }
    return {
        "quality": quality,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "images_per_second": {name: float(np.median(values)) for name, values in rates.items()},
        "ratio_to_networks": ratios,
    }


def measure_peers(rounds: int) -> tuple[list[Result], dict[str, str]]:
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
    for name, (encode, decode, batch) in progress("peers", work.items(), leave=False):
        timed = {
            kind: partial(images_per_second, call, batch, SECONDS)
            for kind, call in (("encode", encode), ("decode", decode))
        }
        rates = in_turns(timed, rounds, name)
        medians = {kind: float(np.median(values)) for kind, values in rates.items()}
        rows.append({"peer": name, **medians})
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


def measure(arguments: Namespace) -> Result:
    """Every quality level, the batches and the peers."""
    rounds, threads = arguments.rounds, torch.get_num_threads()
    qualities = [model.quality for model in hvae_codec.models() if model.name == "cifar10"]
    rows = [measure_quality(quality, rounds) for quality in qualities]
    batches = []
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        middle = qualities[len(qualities) // 2]
        batches += [measure_quality(middle, rounds, batch) for batch in BATCHES]
    peers, left_out = measure_peers(max(1, rounds // 4))
    settings = {"batch": BATCH, "threads": threads, "rounds": rounds}
    found = {"rungs": rows, "batches": batches, "peers": peers, "left_out": left_out}
    return settings | found


def kinds_of_work(result: Result) -> Iterable[Result]:
    """Each rate of each measurement as a row of its own."""
    for row in (*result["rungs"], *result["batches"]):
        for name, rate in row["images_per_second"].items():
            ratio = row["ratio_to_networks"].get(name)
            yield row | {"work": name, "rate": rate, "mb": rate * 3072 / 1e6, "ratio": ratio}


SPEED = Table(
    "speed",
    "rungs",
    {"quality": "{quality}"}
    | {
        name: f"{{images_per_second[{name}]:,.0f}} ({{ratio_to_networks[{name}]:.0%}})"
        for name in ("block encode", "records encode", "block decode", "records decode")
    },
    note="Images per second in batches of {batch} with {threads} threads of an "
    "{environment[processor]}; in brackets the share of the networks' own rate.",
    result="codec_speed",
)
EVERY_RATE = Table(
    "every rate",
    kinds_of_work,
    {
        "work": "{work}, quality {quality}, batches of {batch}, {threads} threads",
        "images/s": "{rate:.0f}",
        "MB/s of pixels": "{mb:.1f}",
        "ratio to networks": "{ratio:.1%}",
    },
)
PEER_RATES = {"images/s": "{peer}", "encode": "{encode:.0f}", "decode": "{decode:.0f}"}
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (SPEED, EVERY_RATE, Table("peers", "peers", PEER_RATES), LEFT_OUT),
    (Argument("--rounds", type=int, default=12),),
    packages=("scikit-learn", "pillow"),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
