"""What does the encoder's search save? Bytes at equal PSNR of efforts 1 and 2 against rounding.

    python -m benchmarks.codec.encoder_effort [--images N] [--efforts 1 2]
                                        [--json benchmarks/results/encoder_effort.json]

Per quality level of the model family: payload and PSNR of rounding, and of each effort over a range
of trades. Two figures compare them. Within a quality level: the bytes that an effort needs, on its
own curve over the trades, for the PSNR that rounding reaches. Over the model family: the mean, over
the PSNR range that both cover, of the ratio of bytes of the two curves through all quality levels
(trade 1), log bytes interpolated by PCHIP, as BD-rate does; the bytes of quality levels far apart
lie on a curve that a straight line misses. Speed is that of one thread, encoding in batches of 256,
entropy coding included.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from tqdm import tqdm

import hvae_codec
from benchmarks.common import environment, write_json
from hvae_codec.data import load_dataset
from hvae_codec.evaluation.calibrate import measure_trade

TRADES = (0.5, 0.7071, 1.0, 1.4142, 2.0, 2.8284, 4.0, 5.6569, 8.0)
BATCH = 256

Row = dict[str, Any]


def measure_rung(
    codec: hvae_codec.Codec, images: NDArray[np.uint8], efforts: list[int]
) -> list[Row]:
    """Payload bytes and PSNR of one quality level: rounding, then each effort at each trade."""
    points = [(0, 1.0), *((effort, trade) for effort in efforts for trade in TRADES)]
    rows = []
    for effort, trade in tqdm(points, desc=f"rung {codec.info.quality}", leave=False, disable=None):
        size, psnr = measure_trade(codec, images, effort, trade)
        row = {"quality": codec.info.quality, "effort": effort, "trade": trade}
        rows.append({**row, "payload_bytes": size, "psnr_db": psnr})
    return rows


def images_per_second(codec: hvae_codec.Codec, images: NDArray[np.uint8], effort: int) -> float:
    """The best of three rounds, in processor time of one thread: neighbours do not count."""
    batch = images[:BATCH]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        codec.encode_batch(batch, effort=effort)
        seconds.append(time.process_time() - start)
    return len(batch) / min(seconds)


def saving_in_rung(rows: list[Row], effort: int) -> float | None:
    """Share of bytes saved at the PSNR of rounding; None if the trades do not reach it."""
    plain = next(row for row in rows if row["effort"] == 0)
    curve = sorted(
        (row["psnr_db"], row["payload_bytes"]) for row in rows if row["effort"] == effort
    )
    psnr, sizes = np.array(curve).T
    if not psnr[0] <= plain["psnr_db"] <= psnr[-1]:
        return None
    return 1.0 - float(np.interp(plain["psnr_db"], psnr, sizes)) / float(plain["payload_bytes"])


def saving_over_ladder(rows: list[Row], effort: int) -> float | None:
    """Mean share of bytes saved between the curves through all quality levels; None with fewer than
    two.
    """
    plain = sorted((row["psnr_db"], row["payload_bytes"]) for row in rows if row["effort"] == 0)
    other = sorted(
        (row["psnr_db"], row["payload_bytes"])
        for row in rows
        if row["effort"] == effort and row["trade"] == 1.0
    )
    if len(plain) < 2:
        return None
    low, high = max(plain[0][0], other[0][0]), min(plain[-1][0], other[-1][0])
    at = np.linspace(low, high, 1001)
    logs = [
        PchipInterpolator(psnr, np.log(sizes))(at)
        for psnr, sizes in (np.array(curve).T for curve in (plain, other))
    ]
    return 1.0 - float(np.exp(np.mean(logs[1] - logs[0])))


def plot(result: Row, path: Path) -> None:
    """PSNR against payload: rounding's quality levels as points, the efforts' curves over the
    trades.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    rows = result["points"]
    for effort in sorted({row["effort"] for row in rows}):
        label: str | None = "rounding (effort 0)" if effort == 0 else f"effort {effort}"
        for quality in sorted({row["quality"] for row in rows}):
            points = [
                (row["payload_bytes"], row["psnr_db"])
                for row in rows
                if (row["effort"], row["quality"]) == (effort, quality)
            ]
            style = "o" if effort == 0 else "-"
            axes.plot(*zip(*points, strict=True), style, color=f"C{effort}", label=label)
            label = None
    axes.set(xlabel="payload bytes per image", ylabel="PSNR (dB)", title=result["data"])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, and write JSON and plot if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=1024, help="the first N test images")
    parser.add_argument("--efforts", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--qualities", type=int, nargs="+", help="rungs; default: all")
    parser.add_argument("--json", type=Path, help="write the result here, and a plot beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load_dataset("cifar10", "test")
    images = dataset.images[: arguments.images]
    at_hand = [model.quality for model in hvae_codec.models() if model.name == "cifar10"]
    rungs = arguments.qualities or at_hand
    points, savings, speeds = [], [], []
    for quality in rungs:
        codec = hvae_codec.load("cifar10", quality)
        rows = measure_rung(codec, images, arguments.efforts)
        points += rows
        savings.append({str(e): saving_in_rung(rows, e) for e in arguments.efforts})
        speeds.append([images_per_second(codec, images, e) for e in (0, *arguments.efforts)])
    over_ladder = {str(e): saving_over_ladder(points, e) for e in arguments.efforts}
    print(f"{dataset.name} {dataset.split}, {len(images)} images; payload bytes, PSNR dB")
    for row in points:
        print(
            f"rung {row['quality']}  effort {row['effort']}  trade {row['trade']:<7g}"
            f"{row['payload_bytes']:>9.2f} B {row['psnr_db']:>7.3f} dB"
        )
    print("bytes saved at equal PSNR, and images/s of one thread")
    for quality, saving, speed in zip(rungs, savings, speeds, strict=True):
        shown = [f"effort {e}: {_percent(value)}" for e, value in saving.items()]
        print(f"rung {quality}  {'  '.join(shown)}  {'  '.join(f'{s:.0f}/s' for s in speed)}")
    print("ladder  " + "  ".join(f"effort {e}: {_percent(v)}" for e, v in over_ladder.items()))
    result = {
        "data": f"{dataset.name} {dataset.split}",
        "images": len(images),
        "points": points,
        "saving_in_rung": dict(zip(map(str, rungs), savings, strict=True)),
        "saving_over_ladder": over_ladder,
        "images_per_second": {
            str(quality): dict(zip(["0", *map(str, arguments.efforts)], speed, strict=True))
            for quality, speed in zip(rungs, speeds, strict=True)
        },
        "environment": environment("scipy"),
    }
    if arguments.json is not None:
        write_json(arguments.json, result)
        plot(result, arguments.json.with_suffix(".png"))


def _percent(value: float | None) -> str:
    return "not reached" if value is None else f"{100.0 * value:.1f} %"


if __name__ == "__main__":
    main()
