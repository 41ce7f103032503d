"""What does longer training buy? BD-rates of checkpoints of one run of the model for photographs.

    python -m benchmarks.training.learning_curve STEPS=CHECKPOINT ... [--json FILE]

Each checkpoint codes Kodak's photographs at some qualities; its BD-rates are against the curves of
the other codecs in benchmarks/results/rate_distortion_kodak.json (the same pictures). A line
through log bytes over log steps of the checkpoints whose learning rate had not yet fallen says what
twice the steps save; the released one, whose learning rate fell to zero, is named last.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from tqdm import tqdm

import hvae_codec
from benchmarks.common import RESULTS, environment, write_json
from benchmarks.rate_distortion.__main__ import load_material
from benchmarks.rate_distortion.bd_rate import bd_rate_percent
from benchmarks.rate_distortion.points import code_ours, point
from benchmarks.rate_distortion.targets import PHOTOGRAPH_BITS

QUALITIES = (5, 20, 35, 50, 70, 90)
PEERS = ("JPEG", "WebP", "AVIF")


def measure(path: Path, peers: dict[str, Any], images: int | None) -> dict[str, Any]:
    """BD-rates of a checkpoint, in percent, and its curve."""
    codec = hvae_codec.load_file(path)
    pictures = load_material("kodak", images).pictures
    rows = []
    for quality in tqdm(QUALITIES, desc=path.name, disable=None, leave=False):
        at = codec.at_quality(quality)
        row = point(pictures, code_ours(at, pictures, 0))
        rows.append({"quality": quality, **{k: row[k] for k in ("file_bytes", "psnr_db")}})
        rows[-1]["bits_per_pixel"] = row["bits_per_pixel"]
    lowest, highest = PHOTOGRAPH_BITS
    within = [row for row in rows if lowest <= row["bits_per_pixel"] <= highest]
    rates = {name: bd_rate_percent(peers[name], within, "file_bytes") for name in PEERS}
    return {"bd_rate_percent": rates, "rows": rows}


def saved_by_doubling(runs: list[dict[str, Any]], peer: str) -> float:
    """Percent of bytes that twice the steps save, by the line through all runs but the last."""
    held = runs[:-1]
    steps = np.log2([run["steps"] for run in held])
    sizes = np.log([1.0 + run["bd_rate_percent"][peer] / 100.0 for run in held])
    return float(100.0 * (1.0 - np.exp(np.polyfit(steps, sizes, 1)[0])))


def plot(result: dict[str, Any], path: Path) -> None:
    """BD-rates over steps."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for colour, peer in zip(("C0", "C1", "C2"), PEERS, strict=True):
        points = [(run["steps"], run["bd_rate_percent"][peer]) for run in result["runs"]]
        axis.plot(*zip(*points[:-1], strict=True), "o-", color=colour, label=f"against {peer}")
        axis.plot(*points[-1], "*", color=colour, ms=14)
    axis.axhline(0.0, color="black", lw=0.8)
    axis.set(xlabel="training steps of 8 crops", ylabel="BD-rate (%)", xscale="log")
    axis.set_title("Kodak; stars: the released model, its learning rate at zero")
    ticks = [run["steps"] for run in result["runs"]]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Measure, print, and write JSON and a plot if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoints", nargs="+", metavar="STEPS=CHECKPOINT")
    parser.add_argument("--images", type=int, help="only the first N pictures")
    parser.add_argument("--json", type=Path, help="write the result here, a plot beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peers = json.loads((RESULTS / "rate_distortion_kodak.json").read_text())["peers"]
    runs = []
    for given in arguments.checkpoints:
        steps, _, path = given.partition("=")
        runs.append({"steps": int(steps), **measure(Path(path), peers, arguments.images)})
        rates = ", ".join(f"{n} {r:+.1f} %" for n, r in runs[-1]["bd_rate_percent"].items())
        print(f"{int(steps):>7,} steps: {rates}", flush=True)
    result = {"runs": runs, "environment": environment("bjontegaard")}
    if len(runs) > 2:
        result["saved_by_doubling_percent"] = {p: saved_by_doubling(runs, p) for p in PEERS}
        print(f"twice the steps save {result['saved_by_doubling_percent']} percent")
    if arguments.json is not None:
        write_json(arguments.json, result)
        plot(result, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
