"""Images of a rate-distortion run: curves, and contact sheets of what the bytes look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import hvae_codec
from benchmarks.common import figure
from hvae_codec.evaluation.metrics.psnr import psnr_db
from hvae_codec.evaluation.rate_distortion.bd_rate import frontier
from hvae_codec.evaluation.rate_distortion.budget import ours_within, peer_within
from hvae_codec.evaluation.rate_distortion.peers import Peer
from hvae_codec.utils.progress import progress

SHEET_PICTURES = 8
SHEET_PHOTOGRAPHS = 3
CELL = 128
"""Side, in pixels, of a cell of a small image."""
CROP = 224
"""Side, in pixels, of the part of a photograph that is shown."""
OUR_COLOUR = "C3"
MAPS_COLOUR = "C6"
PEER_COLOURS = ("C0", "C1", "C2", "C8", "C4", "C5")
BITS_TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)
_GAP, _LABEL = 6, 28

Pixels = NDArray[np.uint8]


def plot_curves(result: dict[str, Any], path: Path) -> None:
    """PSNR and similarity against bits a pixel, whole files and payloads; or, of binary images,
    pixels that differ against bytes, with the lossless peers as lines.
    """
    binary = result["binary"]
    shape, size = ((1, 2), (11, 5)) if binary else ((2, 2), (11, 9))
    with figure(path, *shape, figsize=size, sharey=binary, dpi=100) as (drawn, axes):
        if binary:
            _plot_binary(axes[0], result, "file_bytes")
            _plot_binary(axes[1], result, "payload_bytes")
        else:
            for row, measure in zip(axes, ("psnr_db", result["similarity"]), strict=True):
                _plot_lossy(row[0], result, "bits_per_pixel", measure)
                _plot_lossy(row[1], result, "payload_bits_per_pixel", measure)
        handles, labels = drawn.axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
        drawn.suptitle(f"{result['data']}, {result['images']} images")


def _plot_ours(axis: Any, result: dict[str, Any], point: Callable[[Any], Any]) -> None:
    """A curve of each effort, of the points (x, y) of its rows."""
    for effort, rows in result["ours"].items():
        style = ("--", "-.", "-")[int(effort) % 3]
        curve = zip(*map(point, rows), strict=True)
        label = f"hvae_codec, effort {effort}"
        axis.plot(*curve, style, color=OUR_COLOUR, marker="o", ms=4, label=label)


def _plot_lossy(axis: Any, result: dict[str, Any], size: str, measure: str) -> None:
    _plot_ours(axis, result, lambda row: (row[size], row[measure]))
    for name, rows in result["maps"].items():
        points = [(row[size], row[measure]) for row in rows]
        axis.plot(*zip(*points, strict=True), color=MAPS_COLOUR, marker="s", ms=4, label=name)
    for colour, (name, rows) in zip(PEER_COLOURS, result["peers"].items(), strict=False):
        quality, bits = frontier(rows, size, measure)
        axis.plot(bits, quality, color=colour, marker=".", label=name)
    if measure == "psnr_db" and size == "bits_per_pixel":
        _plot_published(axis, result.get("published", {}))
    kind = "payload" if size.startswith("payload") else "whole file"
    unit = "PSNR (dB)" if measure == "psnr_db" else measure
    axis.set(xlabel=f"bits per pixel, {kind}", ylabel=unit, xscale="log")
    axis.set_xticks(BITS_TICKS, [f"{tick:g}" for tick in BITS_TICKS])
    axis.set_xticks([], minor=True)
    axis.autoscale(axis="x")
    axis.grid(alpha=0.3)


def _plot_published(axis: Any, published: dict[str, list[dict[str, float]]]) -> None:
    """Published points as thin grey lines, their names at their ends."""
    for name, rows in published.items():
        points = [(row["bits_per_pixel"], row["psnr_db"]) for row in rows]
        axis.plot(*zip(*points, strict=True), color="0.6", lw=0.8, zorder=0)
        axis.annotate(name, points[-1], fontsize=6, color="0.4", clip_on=True)


def _plot_binary(axis: Any, result: dict[str, Any], size: str) -> None:
    _plot_ours(axis, result, lambda row: (row[size], 100.0 * row["differing_samples"]))
    for colour, (name, rows) in zip(PEER_COLOURS, result["peers"].items(), strict=False):
        axis.axvline(rows[0][size], color=colour, label=name)
    kind = "payload" if size.startswith("payload") else "whole file"
    axis.set(xlabel=f"bytes per image, {kind}", ylabel="pixels that differ (%)", ylim=(0, None))
    axis.set_xlim(0, None)
    axis.grid(alpha=0.3)


def budget_sheet(
    model: str, pictures: Sequence[Pixels], peers: Sequence[Peer], budget: int
) -> Image.Image:
    """Each image as every codec gives it back within `budget` bytes of whole file.

    A codec whose coarsest measured setting is larger is shown at that setting; its bytes stand in
    red. Ours is `hvae_codec.encode(max_bytes=budget)`, effort 2 for one tile, 1 for many.
    """
    small = max(pictures[0].shape[:2]) <= CELL
    chosen = list(pictures[: SHEET_PICTURES if small else SHEET_PHOTOGRAPHS])
    lines = []
    for picture in progress("contact sheet", chosen, unit="images", leave=False):
        cells = [(_shown(picture), "original", "black")]
        ours = ours_within(model, picture, budget, effort=2 if small else 1)
        found = [("hvae_codec", ours, hvae_codec.decode(ours))]
        for peer in peers:
            blob = peer_within(peer, picture, budget)
            found.append((peer.name, blob, peer.decode(blob, picture.shape[2])))
        for name, blob, decoded in found:
            caption = f"{name}\n{len(blob)} B  {psnr_db(picture, decoded):.1f} dB"
            colour = "black" if len(blob) <= budget else "red"
            cells.append((_shown(decoded), caption, colour))
        lines.append(cells)
    return _sheet(
        lines,
        f"whole files of at most {budget} bytes (red: larger even at its coarsest setting here)",
    )


def levels_sheet(model: str, pictures: Sequence[Pixels], peers: Sequence[Peer]) -> Image.Image:
    """Each image as every quality level gives it back, at effort 2, with its bytes and wrong
    pixels; below the original the smallest lossless file.
    """
    lines = []
    levels = [info.quality for info in hvae_codec.models() if info.name == model]
    for picture in pictures[:SHEET_PICTURES]:
        exact = min((len(peer.encode(picture, None)), peer.name) for peer in peers)
        cells = [(_shown(picture), f"{exact[1]}\n{exact[0]} B", "black")]
        for quality in levels:
            codec = hvae_codec.load(model, quality)
            blob = codec.encode(picture, effort=2)
            decoded = codec.decode(blob)
            wrong = int((decoded != picture).sum())
            caption = f"quality level {quality}\n{len(blob)} B  {wrong} wrong"
            cells.append((_shown(decoded), caption, "black"))
        lines.append(cells)
    return _sheet(lines, "original, with the smallest lossless file; every quality level, effort 2")


def _shown(pixels: Pixels) -> Image.Image:
    """A small image enlarged without smoothing; of a large one, its middle as it is."""
    height, width = pixels.shape[:2]
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    if max(height, width) <= CELL:
        factor = CELL // max(height, width)
        return picture.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    left, top = max(0, (width - CROP) // 2), max(0, (height - CROP) // 2)
    return picture.crop((left, top, min(width, left + CROP), min(height, top + CROP)))


def _sheet(lines: list[list[tuple[Image.Image, str, str]]], title: str) -> Image.Image:
    cell = max(picture.width for line in lines for picture, _, _ in line)
    tall = max(picture.height for line in lines for picture, _, _ in line)
    width = max(map(len, lines)) * (cell + _GAP) + _GAP
    sheet = Image.new("RGB", (width, 20 + len(lines) * (tall + _LABEL + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 4), title, "black")
    for row, line in enumerate(lines):
        top = 20 + row * (tall + _LABEL + _GAP)
        for column, (picture, caption, colour) in enumerate(line):
            left = _GAP + column * (cell + _GAP)
            sheet.paste(picture, (left, top))
            draw.multiline_text((left, top + tall + 1), caption, colour, spacing=1)
    return sheet
