"""How fast are photographs coded whole, beside a learned peer, and in how much memory?

    python -m benchmarks.codec.photographs [--json benchmarks/results/photographs.json]
    python -m benchmarks.codec.photographs --checkpoint FILE [--threads 1] [--json FILE]

Megapixels per second of encode and decode of a 768x512 photograph, whole calls from pixels to a
file's bytes and back, with all cores, against CompressAI's bmshj2018_hyperprior (random weights;
only its speed counts) on the same image in the same run, in turns; the median of the rounds. Then
a 24-megapixel image, made of photographs, encoded and decoded in a process of its own: seconds,
and the peak of that process's memory.

With --checkpoint another model is measured in turns with the shipped one, on whole calls alone: the
ratio of their speeds at each quality.
"""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

import hvae_codec
from benchmarks.codec.learned_peers import hyperprior
from benchmarks.codec.memory import mosaic_rows, photographs
from benchmarks.command import Argument, Benchmark
from benchmarks.common import apart, in_turns, memory_bytes
from benchmarks.tables import LEFT_OUT, TARGETS, Result, Table, target
from hvae_codec.utils.progress import progress

KINDS = ("encode", "decode")
QUALITIES = (10, 50, 90)
SIZE = (512, 768)
LARGE = (4000, 6000)
TARGET_MEGAPIXELS, TARGET_RATIO, TARGET_MIB = 2.5, 5.0, 3072.0

Pixels = NDArray[np.uint8]
Work = Callable[[], Any]
Call = TypeVar("Call", bound=Hashable)


def photograph() -> Pixels:
    """A photograph of 768x512 pixels, or of what scikit-learn's have of that."""
    picture = photographs()[0][: SIZE[0], : SIZE[1]]
    return np.ascontiguousarray(picture)


def seconds_of(work: Work) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timed(calls: Mapping[Call, Work], rounds: int) -> dict[Call, list[float]]:
    """Seconds of each call in each round, in turns, after one that is not counted."""
    for work in calls.values():
        work()
    return in_turns({name: partial(seconds_of, work) for name, work in calls.items()}, rounds)


def measure_speed(rounds: int) -> Result:
    """Medians over the rounds, all calls in turns."""
    picture = photograph()
    megapixels = picture.shape[0] * picture.shape[1] / 1e6
    calls: dict[str, Work] = {}
    for quality in QUALITIES:
        codec = hvae_codec.load("photo", quality)
        blob = codec.encode(picture)
        calls[f"encode, quality {quality}"] = partial(codec.encode, picture)
        calls[f"decode, quality {quality}"] = partial(codec.decode, blob)
    peer, left_out = hyperprior(picture[None])
    if peer is not None:
        calls[f"encode, {peer.name}"] = peer.encode
        calls[f"decode, {peer.name}"] = partial(peer.decode, peer.encode())
    rates: dict[str, float] = {
        name: round(megapixels / float(np.median(seconds)), 4)
        for name, seconds in timed(calls, rounds).items()
    }
    result: Result = {"width": picture.shape[1], "height": picture.shape[0]}
    result |= {"threads": torch.get_num_threads(), "rounds": rounds, "megapixels_per_s": rates}
    if peer is None:
        return result | {"left_out": left_out}
    slowest = {kind: min(rates[f"{kind}, quality {q}"] for q in QUALITIES) for kind in KINDS}
    ratios = {kind: round(slowest[kind] / rates[f"{kind}, {peer.name}"], 3) for kind in KINDS}
    return result | {"ratio": ratios}


def measure_against_shipped(path: Path, rounds: int) -> Result:
    """Megapixels per second of another model and of the shipped one, in turns, and their ratio."""
    picture = photograph()
    megapixels = picture.shape[0] * picture.shape[1] / 1e6
    calls: dict[tuple[str, str, int], Work] = {}
    for name in ("shipped", "checkpoint"):
        codec = hvae_codec.load("photo") if name == "shipped" else hvae_codec.load_file(path)
        assert codec.info.continuous
        for quality in QUALITIES:
            at = codec.at_quality(quality)
            calls["encode", name, quality] = partial(at.encode, picture)
            calls["decode", name, quality] = partial(at.decode, at.encode(picture))
    seconds = timed(calls, rounds)
    rows = []
    for kind in KINDS:
        for quality in QUALITIES:
            both = np.array([seconds[kind, name, quality] for name in ("shipped", "checkpoint")])
            shipped, other = megapixels / np.median(both, axis=1)
            row: Result = {"call": kind, "quality": quality}
            row |= {"shipped": round(float(shipped), 3), "checkpoint": round(float(other), 3)}
            # Of each round, so that a busy minute of the machine slows both.
            rows.append(row | {"ratio": round(float(np.median(both[0] / both[1])), 3)})
    return {"threads": torch.get_num_threads(), "rounds": rounds, "megapixels_per_s": rows}


def measure_large() -> Result:
    """Ways in and out of a large image, each in a process of its own."""
    height, width = LARGE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = np.concatenate(list(mosaic_rows(width)))[:height]
        np.save(folder / "picture.npy", picture)
        rows = {way: apart(run_way, way, folder) for way in progress("ways", WAYS, leave=False)}
        file_bytes = (folder / "picture.hvae").stat().st_size
    return {"width": width, "height": height, "file_bytes": file_bytes, "ways": rows}


def _encode(folder: Path, codec: hvae_codec.Codec) -> None:
    (folder / "picture.hvae").write_bytes(codec.encode(np.load(folder / "picture.npy")))


def _decode(folder: Path, codec: hvae_codec.Codec) -> None:
    codec.decode((folder / "picture.hvae").read_bytes())


def _decode_rows(folder: Path, codec: hvae_codec.Codec) -> None:
    for _ in codec.decode_rows((folder / "picture.hvae").read_bytes()):
        pass


WAYS = {"encode": _encode, "decode": _decode, "decode_rows": _decode_rows}


def run_way(way: str, folder: Path) -> dict[str, float]:
    """One way, in this process: seconds and the peak of all its memory, the library included."""
    codec = hvae_codec.load("photo")
    start = time.perf_counter()
    WAYS[way](folder, codec)
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 3), "peak_mib": round(memory_bytes("VmHWM") / 2**20, 1)}


def targets(speed: Result, large: Result) -> list[Result]:
    """The figures to reach, and whether this run did."""
    rates = speed["megapixels_per_s"]
    found = []
    for kind in KINDS:
        slowest = min(rates[f"{kind}, quality {q}"] for q in QUALITIES)
        what = f"{kind}, megapixels/s at the slowest quality"
        found.append(target(what, slowest, TARGET_MEGAPIXELS, at_least=True))
        if "ratio" in speed:
            ratio = speed["ratio"][kind]
            what = f"{kind}, times the learned peer"
            found.append(target(what, ratio, TARGET_RATIO, at_least=True))
    return found + [
        target(f"{way} of 24 megapixels, peak MiB", row["peak_mib"], TARGET_MIB)
        for way, row in large["ways"].items()
    ]


def measure(arguments: Namespace) -> Result:
    """The shipped model, or with --checkpoint another one beside it."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.checkpoint is not None:
        return measure_against_shipped(arguments.checkpoint, arguments.rounds)
    speed, large = measure_speed(arguments.rounds), measure_large()
    left_out = speed.pop("left_out", {})
    found = {"speed": speed, "large": large, "left_out": left_out}
    return found | {"targets": targets(speed, large)}


def by_setting(result: Result) -> list[Result]:
    """Megapixels per second of each quality and peer, encoding and decoding in a row."""
    rates = result["speed"]["megapixels_per_s"] if "speed" in result else {}
    names = [key.removeprefix("encode, ") for key in rates if key.startswith("encode")]
    return [{"setting": n} | {kind: rates[f"{kind}, {n}"] for kind in KINDS} for n in names]


def conditions(result: Result) -> str:
    """What was measured on, and what the large image took."""
    speed, large = result["speed"], result["large"]
    ways = ", ".join(
        f"`{way}` {row['seconds']:.0f} s and {row['peak_mib']:,.0f} MiB"
        for way, row in large["ways"].items()
    )
    megapixels = large["width"] * large["height"] / 1e6
    return (
        f"Megapixels per second, {speed['width']}x{speed['height']}, {speed['threads']} threads of "
        f"an {result['environment']['processor']}. Of {megapixels:.0f} megapixels, with all memory "
        f"of the process: {ways}."
    )


SPEED = Table(
    "photographs",
    by_setting,
    {"setting": "{setting}", "encode": "{encode:.2f}", "decode": "{decode:.2f}"},
    note=conditions,
)
AGAINST_SHIPPED = Table(
    "megapixels/s of the shipped model and of the checkpoint",
    "megapixels_per_s",
    {
        "call": "{call}, quality {quality}",
        "shipped": "{shipped:.2f}",
        "checkpoint": "{checkpoint:.2f}",
        "times": "{ratio:.2f}",
    },
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (SPEED, AGAINST_SHIPPED, TARGETS, LEFT_OUT),
    (
        Argument("--rounds", type=int, default=9),
        Argument("--checkpoint", type=Path, help="measure this model beside the shipped one"),
        Argument("--threads", type=int, help="default: all cores"),
    ),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
