"""Puts the measured tables into docs/BENCHMARKS.md and README.md, between their markers.

python -m benchmarks.docs.readme_tables            rewrite both from benchmarks/results/
python -m benchmarks.docs.readme_tables --check    exit 1 if that would change one of them
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, filled
from benchmarks.rate_distortion.bd_rate import bytes_at
from hvae_codec.utils.atomic_files import write_atomically

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BENCHMARKS = ROOT / "docs" / "BENCHMARKS.md"


def _load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def summary_table() -> str:
    """Bytes per image of three qualities each of small images and photographs, and of other codecs
    at the same PSNR.
    """
    peers = ("WebP", "JPEG", "JPEG 2000", "JPEG XL", "AVIF")
    lines = [
        f"| images | quality | PSNR dB | hvae_codec | {' | '.join(peers)} |",
        "|---" * (4 + len(peers)) + "|",
    ]
    for name, label, qualities in (
        ("cifar10", "CIFAR-10, 32x32", (1, 3, 5)),
        ("kodak", "Kodak, 768x512", (10, 40, 70)),
    ):
        result = _load(f"rate_distortion_{name}")
        for row in result["ours"]["0"]:
            if row["quality"] not in qualities:
                continue
            cells = [_peer_bytes(result["peers"][peer], row["psnr_db"]) for peer in peers]
            lines.append(
                f"| {label} | {row['quality']} | {row['psnr_db']:.2f} | {row['file_bytes']:,.0f}"
                f" | {' | '.join(cells)} |"
            )
    lines += [
        "",
        "Mean bytes per file at equal PSNR. An empty cell: no measured setting of the codec "
        "reaches this PSNR.",
    ]
    return "\n".join(lines)


def _peer_bytes(curve: Sequence[Mapping[str, Any]], psnr_db: float) -> str:
    """Bytes of another codec at a PSNR, or nothing where its settings do not reach down to it."""
    reached = min(row["psnr_db"] for row in curve) <= psnr_db
    size = bytes_at(curve, "file_bytes", psnr_db) if reached else None
    return "" if size is None else f"{size:,.0f}"


def ladder_table() -> str:
    """All qualities of `cifar10` beside the WebP setting of nearest PSNR."""
    result = _load("ladder")
    lines = [
        "| quality | payload B | file B | B in a block of 256 | PSNR dB | WebP file B at PSNR dB |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["ladder"]:
        webp = min(result["webp"], key=lambda peer: abs(peer["psnr_db"] - row["psnr_db"]))
        peer = f"{webp['file_bytes']:.1f} at {webp['psnr_db']:.2f}"
        if abs(webp["psnr_db"] - row["psnr_db"]) > 0.75:
            peer = "none near it"
        lines.append(
            f"| {row['quality']} | {row['payload_bytes']:.1f} | {row['file_bytes']:.1f}"
            f" | {row['block_file_bytes']:.1f} | {row['psnr_db']:.2f} | {peer} |"
        )
    lines += ["", f"{result['data']}, {result['images']} images, means over images."]
    return "\n".join(lines)


def speed_table() -> str:
    """Images per second of each quality and the share of the networks' own rate."""
    result = _load("codec_speed")
    names = ("block encode", "records encode", "block decode", "records decode")
    lines = ["| quality | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for rung in result["rungs"]:
        cells = [
            f"{rung['images_per_second'][name]:,.0f} ({rung['ratio_to_networks'][name]:.0%})"
            for name in names
        ]
        lines.append(f"| {rung['quality']} | " + " | ".join(cells) + " |")
    machine = result["environment"]
    lines += [
        "",
        f"Images per second in batches of {result['batch']} with {result['threads']} threads of an "
        f"{machine['processor']}; in brackets the share of the networks' own rate.",
    ]
    return "\n".join(lines)


def seams_table() -> str:
    """Change across the borders of tiles over change inside them, per quality."""
    result = _load("seams")
    lines = [
        "| quality | bits/pixel | original | no softening | softened | PSNR dB | gained dB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rungs"]:
        gained = row["psnr_soft_db"] - row["psnr_hard_db"]
        lines.append(
            f"| {row['quality']} | {row['bits_per_pixel']:.3f} | {row['ratio_original']:.2f}"
            f" | {row['ratio_hard']:.2f} | {row['ratio_soft']:.2f} | {row['psnr_soft_db']:.2f}"
            f" | {gained:.2f} |"
        )
    within = f"{result['invisible_within']:.0%}"
    good = [row["quality"] for row in result["rungs"] if row["invisible"]]
    held = f"from quality {min(good)} on" if good else "of no quality"
    name = result["data"].capitalize()
    lines += [
        "",
        f"{name}, {result['photographs']} photographs. It is within {within} of the originals' own "
        f"{held}; below, seams can be seen.",
    ]
    return "\n".join(lines)


def any_size_table() -> str:
    """Memory of every call that encodes or decodes a large image."""
    result = _load("any_size")
    file_mib = result["file_bytes"] / 2**20
    lines = ["| call | peak of memory added, MiB |", "|---|---|"]
    lines += [f"| `{row['way']}` | {row['added_peak_mib']:.0f} |" for row in result["ways"]]
    lines += [
        "",
        f"{result['side']:,}x{result['side']:,} RGB, {result['raw_mib']:.0f} MiB of pixels; "
        f"quality {result['quality']}, a file of {file_mib:.1f} MiB; one thread.",
        "The pixels themselves are counted where they are an array or Pillow's.",
    ]
    return "\n".join(lines)


def kodak_table() -> str:
    """Photographs: bits per pixel beside those that other codecs need for the same PSNR."""
    result = _load("rate_distortion_kodak")
    rows, peers = result["ours"]["0"], result["peers"]
    pixels = 8 * rows[0]["file_bytes"] / rows[0]["bits_per_pixel"]
    lines = [
        f"| quality | bits/pixel | PSNR dB | MS-SSIM | {' | '.join(peers)} |",
        "|---" * (4 + len(peers)) + "|",
    ]
    for row in rows:
        cells = []
        for curve in peers.values():
            reached = min(peer["psnr_db"] for peer in curve) <= row["psnr_db"]
            size = bytes_at(curve, "file_bytes", row["psnr_db"]) if reached else None
            cells.append("" if size is None else f"{8 * size / pixels:.3f}")
        lines.append(
            f"| {row['quality']} | {row['bits_per_pixel']:.3f} | {row['psnr_db']:.2f}"
            f" | {row['MS-SSIM']:.3f} | {' | '.join(cells)} |"
        )
    each = result["bd_rate_against_each_percent"]["0"]
    rates = [f"{name} {rate:+.0f} %" for name, rate in each.items()]
    lines += [
        "",
        f"{result['data'].capitalize()}, {result['images']} images; the other codecs' bits per "
        "pixel at the same PSNR. "
        f"BD-rate over 0.12 to 1 bits per pixel against {', '.join(rates)}.",
    ]
    return "\n".join(lines)


def photographs_table() -> str:
    """Speed of whole photographs, and the memory that a large one takes."""
    result = _load("photographs")
    speed, large = result["speed"], result["large"]
    rates = speed["megapixels_per_s"]
    lines = ["| | encode | decode |", "|---|---|---|"]
    names = [key.removeprefix("encode, ") for key in rates if key.startswith("encode")]
    lines += [f"| {n} | {rates[f'encode, {n}']:.2f} | {rates[f'decode, {n}']:.2f} |" for n in names]
    ways = ", ".join(
        f"`{way}` {row['seconds']:.0f} s and {row['peak_mib']:,.0f} MiB"
        for way, row in large["ways"].items()
    )
    megapixels = large["width"] * large["height"] / 1e6
    lines += [
        "",
        f"Megapixels per second, {speed['width']}x{speed['height']}, {speed['threads']} threads of "
        f"an {result['environment']['processor']}. Of {megapixels:.0f} megapixels, with all memory "
        f"of the process: {ways}.",
    ]
    return "\n".join(lines)


def peers_table() -> str:
    """Bytes of every codec against WebP's at equal PSNR."""
    result = _load("rate_distortion_cifar10")
    lines = [
        "| codec | whole files | payloads without container |",
        "|---|---|---|",
        "| WebP | 0 | 0 |",
    ]
    files, payloads = (result["bd_rate_percent"][k] for k in ("file_bytes", "payload_bytes"))
    lines += [f"| {name} | {files[name]:+.0f} % | {payloads[name]:+.0f} % |" for name in files]
    lines += ["", f"BD-rate; {result['data']}, {result['images']} images."]
    return "\n".join(lines)


def efforts_table() -> str:
    """Bytes that the encoder's search saves at equal PSNR, and what it takes."""
    result = _load("encoder_effort")
    lines = [
        "| effort | bytes saved | images/s of one thread, quality 3 |",
        "|---|---|---|",
    ]
    for effort, rate in result["images_per_second"]["3"].items():
        saved = result["saving_over_ladder"].get(effort, 0.0)
        lines.append(f"| {effort} | {saved:.1%} | {rate:,.0f} |")
    lines += ["", f"{result['data']}, {result['images']} images."]
    return "\n".join(lines)


def kernels_table() -> str:
    """What the fused ops save, forward and backward together."""
    result = _load("kernels")
    lines = ["| op | shape | time | plain PyTorch | torch.compile |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        if row["direction"] == "forward" or row["shape"] not in (
            [256, 32],
            [256, 512],
            [32768, 512],
        ):
            continue
        plain, compiled = row["speedup"]["by hand"], row["speedup"]["compiled"]
        milliseconds = row["seconds"]["fused"] * 1e3
        shape = " x ".join(map(str, row["shape"]))
        lines.append(
            f"| {row['op']} | {shape} | {milliseconds:.2f} ms | {plain:.1f}x | {compiled:.1f}x |"
        )
    where = result["environment"]
    lines += [
        "",
        f"fp32, {result['threads']} threads of an {where['processor']}; times slower than the op.",
    ]
    return "\n".join(lines)


def step_table() -> str:
    """A whole training step, from plain PyTorch to the library's settings."""
    result = _load("training_step")
    lines = ["| training step, batch 256 | ms | speed |", "|---|---|---|"]
    lines += [
        f"| {row['step']} | {row['seconds'] * 1e3:.1f} | {row['speedup']:.2f}x |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def archive_features_table() -> str:
    """Logistic regression on an archive's latents, and on pixels."""
    result = _load("archive_features")
    lines = ["| columns | number | right | seconds: columns + classifier |", "|---|---|---|---|"]
    for row in result["rows"]:
        spent = f"{row['feature_seconds']:.2f} + {row['classifier_seconds']:.2f}"
        lines.append(f"| {row['features']} | {row['columns']} | {row['accuracy']:.1%} | {spent} |")
    size = result["archive_bytes_per_picture"]
    lines += ["", f"{result['data']}, {size:.1f} bytes each; {result['seconds']}."]
    return "\n".join(lines)


def anomaly_table() -> str:
    """How well rates tell other data sets from the model's own."""
    result = _load("anomaly")
    sets = {name: found["auc"] for name, found in result["sets"].items() if "auc" in found}
    scores = list(next(iter(sets.values())))
    lines = [
        f"| area under the ROC, MNIST against | {' | '.join(scores)} |",
        "|---" * (len(scores) + 1) + "|",
    ]
    for name, found in sets.items():
        lines.append(f"| {name} | {' | '.join(f'{found[score]:.3f}' for score in scores)} |")
    return "\n".join(lines)


def rates_table() -> str:
    """Target rates, and the rates on the test images."""
    lines = [
        "| data | asked, nats: z2, z1 | on the test set | PSNR dB | twin |",
        "|---|---|---|---|---|",
    ]
    runs = [_load(f"rates_on_request_{name}") for name in ("cifar10", "mnist")]
    for run in runs:
        for row in run["rows"]:
            asked = ", ".join(f"{rate:.4g}" for rate in row["target_nats"])
            pairs = zip(row["test_nats"], row["off"], strict=True)
            found = ", ".join(f"{rate:.4g} ({off:+.1%})" for rate, off in pairs)
            lines.append(
                f"| {run['data']} | {asked} | {found} | {row['psnr_db']:.2f} "
                f"| {row['gain_db']:+.2f} dB |"
            )
    lengths = " and ".join(f"{run['epochs']} epochs of {run['data']}" for run in runs)
    lines += ["", f"{lengths}; the twin is the model with fixed betas that has these rates."]
    return "\n".join(lines)


def throughput_table() -> str:
    """Training, data loading included, beside the usual way to write it."""
    result = _load("training_throughput")
    lines = ["| training one GHVAE on CIFAR-10 | images/s | speed |", "|---|---|---|"]
    for row in result["rows"]:
        rate, speed = row["images_per_second"], row["speedup"]
        lines.append(f"| {row['training']} | {rate:,.0f} | {speed:.2f}x |")
    return "\n".join(lines)


def stacks_table() -> str:
    """Stacks against one model after the other."""
    result = _load("sweep_speed")
    lines = [
        "| spec | batch | models a stack | model images/s | one after the other |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['spec']} | {row['batch']} | {row['models']} | {row['model_images_a_second']:,.0f} "
        f"| {row['ratio']:.2f}x |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def recipes_table() -> str:
    """Variants of the recipe for photographs at equal core-seconds, the best first."""
    rows = sorted(_load("photo_recipes")["rows"], key=lambda row: float(row["mean_loss"]))
    lines = [
        "| variant | seed | core-seconds | steps | mean loss, bits per pixel | at quality 0.5 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['what']} | {row['seed']} | {row['cpu_seconds']:.0f} | {row['steps']:,} "
        f"| {row['mean_loss']:.3f} | {row['bits_per_pixel'][2]:.3f} bits, "
        f"{row['psnr_db'][2]:.2f} dB |"
        for row in rows
    ]
    return "\n".join(lines)


def accuracies_table() -> str:
    """Table 1's rows of CIFAR-10, the paper's and the committed sweep's."""
    text = (RESULTS / "sweeps/cifar10-ghvae/report/table1.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return "\n".join(row for row in rows if "SVHN" not in row)


TABLES: dict[str, Callable[[], str]] = {
    "ladder": ladder_table,
    "peers": peers_table,
    "efforts": efforts_table,
    "speed": speed_table,
    "kernels": kernels_table,
    "step": step_table,
    "kodak": kodak_table,
    "photographs": photographs_table,
    "recipes": recipes_table,
    "seams": seams_table,
    "any_size": any_size_table,
    "archive_features": archive_features_table,
    "anomaly": anomaly_table,
    "rates": rates_table,
    "throughput": throughput_table,
    "stacks": stacks_table,
    "table1": accuracies_table,
}


PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"summary": summary_table},
    BENCHMARKS: TABLES,
}


def rendered(page: Path) -> str:
    """A page's text with each marked table replaced by its newest form."""
    return filled(page.read_text(), PAGES[page], page.name)


def main() -> int:
    """Rewrite or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    arguments = parser.parse_args()
    stale = False
    for page in PAGES:
        new = rendered(page)
        stale |= new != page.read_text()
        if not arguments.check:
            write_atomically(page, new.encode())
    return int(arguments.check and stale)


if __name__ == "__main__":
    sys.exit(main())
