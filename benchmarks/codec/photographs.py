"""How fast are photographs coded whole, beside a learned peer, and in how much memory?

    python -m benchmarks.codec.photographs [--json benchmarks/results/photographs.json]
    python -m benchmarks.codec.photographs --checkpoint FILE [--threads 1] [--json FILE]

Megapixels per second of encode and decode of a 768x512 photograph, whole calls from pixels to a
file's bytes and back, with all cores, against CompressAI's bmshj2018_hyperprior (random weights;
only its speed counts) on the same image in the same run, in turns; the median of the rounds. Then
a 24-megapixel image, made of photographs, encoded and decoded in a process of its own: seconds,
and the peak of that process's memory. Last, whether files give equal symbols and images whatever
the number of threads, the height of strips, the memory layout and the batch.

With --checkpoint another model is measured in turns with the shipped one, on whole calls alone: the
ratio of their speeds at each quality.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import hvae_codec
from benchmarks.codec.learned_peers import hyperprior
from benchmarks.codec.memory import mosaic_rows, photographs
from benchmarks.common import environment, write_json
from hvae_codec.codec.fully_convolutional import networks

QUALITIES = (10, 50, 90)
SIZE = (512, 768)
LARGE = (4000, 6000)
TARGET_MEGAPIXELS, TARGET_RATIO, TARGET_MIB = 2.5, 5.0, 3072.0

Pixels = NDArray[np.uint8]
Work = Callable[[], Any]


def photograph() -> Pixels:
    """A photograph of 768x512 pixels, or of what scikit-learn's have of that."""
    picture = photographs()[0][: SIZE[0], : SIZE[1]]
    return np.ascontiguousarray(picture)


def seconds_of(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_speed(rounds: int) -> dict[str, Any]:
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
    for work in calls.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in tqdm(range(rounds), desc="rounds", disable=None, leave=False):
        for name, work in calls.items():
            seconds[name].append(seconds_of(work))
    rates: dict[str, float] = {
        name: round(megapixels / float(np.median(s)), 4) for name, s in seconds.items()
    }
    result: dict[str, Any] = {"width": picture.shape[1], "height": picture.shape[0]}
    result |= {"threads": torch.get_num_threads(), "rounds": rounds, "megapixels_per_s": rates}
    if left_out is not None:
        result["left_out"] = left_out
        return result
    assert peer is not None
    result["ratio"] = {
        kind: round(
            min(rates[f"{kind}, quality {q}"] for q in QUALITIES) / rates[f"{kind}, {peer.name}"], 3
        )
        for kind in ("encode", "decode")
    }
    return result


def measure_against_shipped(path: Path, rounds: int) -> dict[str, Any]:
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
    for work in calls.values():
        work()
    seconds: dict[tuple[str, str, int], list[float]] = {key: [] for key in calls}
    for _ in tqdm(range(rounds), desc="rounds", disable=None, leave=False):
        for key, work in calls.items():
            seconds[key].append(seconds_of(work))
    rows = []
    for kind in ("encode", "decode"):
        for quality in QUALITIES:
            both = np.array([seconds[kind, name, quality] for name in ("shipped", "checkpoint")])
            shipped, other = megapixels / np.median(both, axis=1)
            row: dict[str, Any] = {"call": kind, "quality": quality}
            row |= {"shipped": round(float(shipped), 3), "checkpoint": round(float(other), 3)}
            # Of each round, so that a busy minute of the machine slows both.
            rows.append(row | {"ratio": round(float(np.median(both[0] / both[1])), 3)})
    return {"threads": torch.get_num_threads(), "rounds": rounds, "megapixels_per_s": rows}


def measure_large() -> dict[str, Any]:
    """Ways in and out of a large image, each in a process of its own."""
    height, width = LARGE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = np.concatenate(list(mosaic_rows(width)))[:height]
        np.save(folder / "picture.npy", picture)
        rows = {}
        for way in tqdm(WAYS, desc="ways", disable=None, leave=False):
            words = [
                sys.executable,
                "-m",
                "benchmarks.codec.photographs",
                "--way",
                way,
                "--in",
                name,
            ]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            rows[way] = json.loads(done.stdout.splitlines()[-1])
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
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return {"seconds": round(seconds, 3), "peak_mib": round(int(found[1]) / 1024, 1)}


def measure_equality() -> list[dict[str, Any]]:
    """A file decoded in several ways, against the usual one."""
    codec = hvae_codec.load("photo")
    assert codec.info.continuous
    picture = photograph()
    blob, other = codec.encode(picture), codec.encode(picture[::-1])
    symbols, usual = codec.symbols([blob]), codec.decode(blob)
    threads, strip = torch.get_num_threads(), networks.STRIP_PIXELS
    rows = []
    for way in ("one thread", "strips of 64 rows", "contiguous weights", "in a batch"):
        if way == "one thread":
            torch.set_num_threads(1)
        elif way == "strips of 64 rows":
            networks.STRIP_PIXELS = 64 * picture.shape[1]
        elif way == "contiguous weights":
            codec.model.to(memory_format=torch.contiguous_format)
        batch = [other, blob, other] if way == "in a batch" else [blob]
        found = codec.symbols(batch)
        position = 1 if way == "in a batch" else 0
        decoded = codec.decode_batch(batch)[position]
        difference = np.abs(decoded.astype(int) - usual)
        equal = all((a[0] == b[position]).all() for a, b in zip(symbols, found, strict=True))
        rows.append(
            {
                "way": way,
                "symbols_equal": bool(equal),
                "same_bytes": bool(codec.encode(picture) == blob),
                "largest_difference": int(difference.max()),
                "differing_samples": round(float((difference > 0).mean()), 8),
            }
        )
        torch.set_num_threads(threads)
        networks.STRIP_PIXELS = strip
        codec.model.to(memory_format=torch.channels_last)
    return rows


def targets(speed: dict[str, Any], large: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures to reach, and whether this run did."""
    rates = speed["megapixels_per_s"]
    found = []
    for kind in ("encode", "decode"):
        slowest = min(rates[f"{kind}, quality {q}"] for q in QUALITIES)
        found.append((f"{kind}, megapixels/s at the slowest quality", slowest, TARGET_MEGAPIXELS))
        if "ratio" in speed:
            found.append((f"{kind}, times the learned peer", speed["ratio"][kind], TARGET_RATIO))
    rows = [
        {"what": what, "limit": limit, "measured": value, "met": value >= limit}
        for what, value, limit in found
    ]
    for way, row in large["ways"].items():
        peak = row["peak_mib"]
        what = f"{way} of 24 megapixels, peak MiB"
        rows.append({"what": what, "limit": TARGET_MIB, "measured": peak, "met": peak < TARGET_MIB})
    return rows


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help="measure this model beside the shipped one")
    parser.add_argument("--threads", type=int, help="default: all cores")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.checkpoint is not None:
        against = measure_against_shipped(arguments.checkpoint, arguments.rounds)
        for row in against["megapixels_per_s"]:
            print(
                f"{row['call']} at quality {row['quality']:>2}: {row['shipped']:.2f} and "
                f"{row['checkpoint']:.2f} megapixels/s, {row['ratio']:.2f} times"
            )
        if arguments.json is not None:
            write_json(arguments.json, {**against, "environment": environment()})
        return
    if arguments.way is not None:
        print(json.dumps(run_way(arguments.way, arguments.folder)))
        return
    speed, large = measure_speed(arguments.rounds), measure_large()
    print(f"{speed['width']}x{speed['height']}, {speed['threads']} threads, megapixels/s")
    for name, rate in speed["megapixels_per_s"].items():
        print(f"  {name:<40} {rate:>8.2f}")
    for name, reason in speed.get("left_out", {}).items():
        print(f"left out: {name}: {reason}")
    for name, row in large["ways"].items():
        print(f"24 megapixels, {name:<12} {row['seconds']:>8.1f} s {row['peak_mib']:>8.0f} MiB")
    equality = measure_equality()
    for row in equality:
        print(
            f"{row['way']:<20} symbols equal: {row['symbols_equal']}, bytes equal when encoding: "
            f"{row['same_bytes']}, largest difference {row['largest_difference']} in "
            f"{row['differing_samples']:.2e} of the samples"
        )
    met = targets(speed, large)
    for target in met:
        state = "met" if target["met"] else "not met"
        print(f"target: {target['what']}: {target['measured']} (limit {target['limit']}): {state}")
    if arguments.json is not None:
        result = {"speed": speed, "large": large, "equality": equality, "targets": met}
        write_json(arguments.json, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
