"""Puts the measured tables into README.md, between the markers that name them.

python -m benchmarks.readme            rewrite README.md from benchmarks/results/*.json
python -m benchmarks.readme --check    exit 1 if that would change it
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from hvae_codec.files import write_atomically

README = Path(__file__).parents[1] / "README.md"


def _load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def ladder_table() -> str:
    """The ladder beside the WebP setting of nearest PSNR."""
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
    """Images per second of each rung and the share of the networks' own rate."""
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
        f"{machine['processor']}; in brackets the share of what the networks alone reach.",
    ]
    return "\n".join(lines)


def seams_table() -> str:
    """Change across the borders of tiles over change inside them, per rung."""
    result = _load("seams")
    lines = [
        "| quality | bits/pixel | original | tiles as they are | softened | PSNR dB | gained dB |",
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
    """Memory of every way in and out of a large picture."""
    result = _load("any_size")
    file_mib = result["file_bytes"] / 2**20
    lines = ["| way | peak of memory added, MiB |", "|---|---|"]
    lines += [f"| `{row['way']}` | {row['added_peak_mib']:.0f} |" for row in result["ways"]]
    lines += [
        "",
        f"{result['side']:,}x{result['side']:,} RGB, {result['raw_mib']:.0f} MiB of pixels; "
        f"quality {result['quality']}, a file of {file_mib:.1f} MiB; one thread.",
        "The pixels themselves are counted where they are an array, a mapped file or Pillow's.",
    ]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "ladder": ladder_table,
    "speed": speed_table,
    "seams": seams_table,
    "any_size": any_size_table,
}


def rendered(text: str) -> str:
    """README text with each marked table replaced by its newest form."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise SystemExit(f"README.md needs one place for the table {name!r}")
        # A backslash in the table would otherwise be read as part of a template.
        text = pattern.sub(rf"\g<1>{table().replace(chr(92), chr(92) * 2)}\n\g<2>", text)
    return text


def main() -> int:
    """Rewrite or check README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    arguments = parser.parse_args()
    old = README.read_text()
    new = rendered(old)
    if arguments.check:
        return int(old != new)
    write_atomically(README, new.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
