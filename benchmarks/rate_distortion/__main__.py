"""What does an image cost at a given quality? The shipped model family against classical codecs.

    python -m benchmarks.rate_distortion [--dataset cifar10|mnist|kodak|apart|PLACES] [--images N]
                                         [--model NAME] [--json FILE] [--html FILE]

All codecs code the same images in the same run; ours at efforts 0, 1 and 2, each peer at the
settings that serve it best (`benchmarks.rate_distortion.classical_peers`). Whole files and payloads
without container (`benchmarks.rate_distortion.container_bytes`) are stated apart. Photographs are
coded by the model photo, which has one effort, or by --model; MNIST is binary and its peers are
lossless. --json writes the result, with curves and a contact sheet at equal bytes beside it as PNG;
--html one self-contained report with interactive plots.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hvae_codec
from benchmarks.common import environment, write_json
from benchmarks.rate_distortion.bd_rate import at_equal_psnr, bd_rate_percent, bytes_at
from benchmarks.rate_distortion.classical_peers import (
    JBIG2,
    LeftOut,
    Peer,
    at_hand,
    binary_peers,
    lossy_peers,
    versions,
)
from benchmarks.rate_distortion.html_report import write_report
from benchmarks.rate_distortion.ms_ssim import similarity_name
from benchmarks.rate_distortion.plots import budget_sheet, ladder_sheet, plot_curves
from benchmarks.rate_distortion.points import our_points, peer_points
from benchmarks.rate_distortion.targets import (
    against_each,
    binary_targets,
    lossy_targets,
    map_targets,
    photograph_targets,
    published_targets,
)
from hvae_codec.codec.images.load import as_uint8, encode_png
from hvae_codec.data import binarise, load_dataset, search_roots
from hvae_codec.data.sources.photographs import image_paths, published_name
from hvae_codec.errors import DatasetError
from hvae_codec.utils.atomic_files import write_atomically

EFFORTS = (0, 1, 2)
EQUAL_PSNR_DB = tuple(float(value) for value in np.arange(20.0, 30.01, 0.5))
SHEET_PSNR_DB = 25.0
ANCHOR = "WebP"
PHOTOGRAPHS = "photo"
OF_MAPS = {"cifar10": "cifar10-maps"}
"""Fully convolutional models that code the images of a model family, too."""
KODAK, KODAK_IMAGES = "photographs of kodak", 24
KEPT_APART = ",".join(
    f"photos/web/{source}_*.jpg" for source in ("budgie", "drone-bsd2", "pexels", "popos")
)
"""Photographs of sources that no model was trained or tuned on."""
PUBLISHED = Path(__file__).with_name("published_kodak.json")
PERCEPTUAL = ("MS-SSIM", "SSIMULACRA2")
SIZES = {"file_bytes": "whole file", "payload_bytes": "payload"}

Pixels = NDArray[np.uint8]
Result = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """Images uint8 [H, W, C], what they are, and the model that codes them."""

    data: str
    pictures: Sequence[Pixels]
    model: str

    @property
    def binary(self) -> bool:
        return self.model == "mnist"

    @property
    def photographs(self) -> bool:
        return self.model == PHOTOGRAPHS

    @property
    def kodak(self) -> bool:
        """Whether these are the images that published points are of, all of them."""
        return self.photographs and self.data == KODAK and len(self.pictures) == KODAK_IMAGES


def load_material(dataset: str, count: int | None, model: str | None = None) -> Material:
    """The test images of "cifar10" or "mnist" (binary: 0 or 255), or the photographs of places as
    `load_photos` takes them, for a model (None: photo); "apart" are those that are kept apart.

    Raises:
        DatasetError: there is no such set or folder; the message says where it was looked for.
    """
    if dataset in ("cifar10", "mnist"):
        found = load_dataset(dataset, "test")
        images = found.images[:count]
        pictures: Pixels = images
        if dataset == "mnist":
            pictures = binarise(images) * np.uint8(255)
        return Material(f"{found.name} {found.split}", list(pictures), dataset)
    places = str(_kodak()) if dataset == "kodak" else KEPT_APART if dataset == "apart" else dataset
    photographs = [as_uint8(path) for path in image_paths(places)[:count]]
    coloured = [np.broadcast_to(p, (*p.shape[:2], 3)).copy() for p in photographs]
    return Material(f"photographs of {published_name(places)}", coloured, model or PHOTOGRAPHS)


def _kodak() -> Path:
    places = [root / "photos" / "kodak" for root in search_roots()]
    for place in places:
        if place.is_dir():
            return place
    raise DatasetError(
        "Kodak's photographs not found: looked for "
        + " and ".join(map(str, places))
        + "; name their folder with --dataset DIRECTORY"
    )


def measure(material: Material, efforts: Sequence[int] = EFFORTS) -> Result:
    """Every quality level, effort and peer on the images, and what follows from them."""
    if material.photographs:
        efforts = (0,)
    peers, left_out = choose_peers(material)
    ours = our_points(material.model, material.pictures, efforts)
    rows = {peer.name: peer_points(peer, material.pictures) for peer in peers}
    maps = {
        name: our_points(name, material.pictures, (0,))
        for name in [OF_MAPS.get(material.model)]
        if name is not None and any(info.name == name for info in hvae_codec.models())
    }
    by_effort = {str(e): [row for row in ours if row["effort"] == e] for e in efforts}
    result: Result = {
        "data": material.data,
        "images": len(material.pictures),
        "model": material.model,
        "binary": material.binary,
        "similarity": similarity_name(material.pictures),
        "definitions": _definitions(similarity_name(material.pictures)),
        "ours": by_effort,
        "maps": maps,
        "peers": rows,
        "peer_settings": {peer.name: peer.remark for peer in peers},
        "left_out": dict(left_out),
    }
    if material.binary:
        result["targets"] = binary_targets(by_effort, rows)
    else:
        result |= compare(by_effort, rows, maps)
        of_kind = photograph_targets if material.photographs else lossy_targets
        result["targets"] = [*of_kind(by_effort, rows), *map_targets(maps)]
        if material.photographs:
            result |= _photograph_comparisons(by_effort, rows)
        if material.kodak:
            result["published"] = published = published_curves()
            rates = against_each(by_effort, published, "bits_per_pixel")
            result["bd_rate_against_published_percent"] = rates
            result["targets"] += published_targets(rates)
    names = ("pillow", "scipy", "bjontegaard", "pytorch-msssim", "ssimulacra2")
    plugins = ("pillow-jxl-plugin",) if any(peer.plugin for peer in peers) else ()
    result["environment"] = environment(*names, *plugins) | versions(peers)
    return result


def _photograph_comparisons(
    ours: dict[str, list[Result]], peers: dict[str, list[Result]]
) -> Result:
    """BD-rates against each peer at equal PSNR, and at equal perceptual measures."""
    return {
        "bd_rate_against_each_percent": against_each(ours, peers),
        "bd_rate_by_perceptual_measure_percent": {
            measure: against_each(ours, peers, measure=measure)
            for measure in PERCEPTUAL
            if all(measure in row for rows in (*ours.values(), *peers.values()) for row in rows)
        },
    }


def published_curves() -> dict[str, list[Result]]:
    """Points that others have published of their codecs on Kodak, by name."""
    found = json.loads(PUBLISHED.read_text())
    return {curve["name"]: curve["rows"] for curve in found["curves"]}


def choose_peers(material: Material) -> tuple[list[Peer], list[LeftOut]]:
    """The peers for these images that can run here, and those that cannot."""
    side = min(min(picture.shape[:2]) for picture in material.pictures)
    peers, left_out = at_hand(binary_peers() if material.binary else lossy_peers(side))
    return peers, left_out + ([JBIG2] if material.binary else [])


def compare(
    ours: dict[str, list[Result]], peers: dict[str, list[Result]], maps: dict[str, list[Result]]
) -> Result:
    """BD-rates against WebP, what efforts save, and bytes at equal PSNR; by whole file and
    payload.
    """
    curves = {f"hvae_codec, effort {e}": rows for e, rows in ours.items()} | maps | peers
    anchor = peers.get(ANCHOR, [])
    return {
        "bd_rate_percent": {
            size: {
                name: bd_rate_percent(anchor, rows, size)
                for name, rows in curves.items()
                if name != ANCHOR
            }
            for size in SIZES
        },
        "effort_bd_rate_percent": {
            size: {e: bd_rate_percent(ours["0"], rows, size) for e, rows in ours.items()}
            for size in SIZES
        },
        "equal_psnr": {
            size: {
                e: [p._asdict() for p in at_equal_psnr(rows, peers, size, EQUAL_PSNR_DB)]
                for e, rows in ours.items()
            }
            for size in SIZES
        },
        "equal_psnr_webp_payload": {
            e: [
                p._asdict()
                for p in at_equal_psnr(rows, {ANCHOR: anchor}, "payload_bytes", EQUAL_PSNR_DB)
            ]
            for e, rows in ours.items()
        },
    }


def _definitions(similarity: str) -> dict[str, str]:
    note = "five scales" if similarity == "MS-SSIM" else "pictures too small for MS-SSIM's scales"
    return {
        "file_bytes": "whole file, mean over images",
        "payload_bytes": "without container and headers (rate_distortion/container_bytes.py)",
        "psnr_db": "mean over images of the 8-bit picture's; null where all are exact",
        similarity: f"mean over images, by pytorch-msssim, Gaussian window of 11 pixels; {note}",
        "bd_rate_percent": f"bytes against {ANCHOR} by the package bjontegaard, method pchip; null "
        "where curves have too little in common",
        "SSIMULACRA2": "mean over images, by the package ssimulacra2",
        "published": "bits per pixel and PSNR as others published them, by their decoders",
        "equal_psnr": "bytes interpolated (log, PCHIP) over PSNR; a codec that cannot go so low is "
        "charged its coarsest setting",
        "elbo_bytes": "rate of Eq. 7 of the same model, all layers",
        "information_bytes": "content of the coded symbols under the model's tables",
        "encode_ms, decode_ms": "processor time per image; ours in batches, one thread; indicative "
        "only: the machine was shared",
    }


def print_result(result: Result) -> None:
    """Tables of all points, of the comparisons and of the targets."""
    similarity = result["similarity"]
    print(f"{result['data']}, {result['images']} images; bytes an image")
    head = f"{'':26} {'file B':>10} {'payload B':>10} {'bits/px':>8} {'PSNR dB':>8} "
    print(head + f"{similarity:>8} {'enc ms':>9} {'dec ms':>9} {'ELBO B':>9} {'info B':>9}")
    for effort, rows in result["ours"].items():
        for row in rows:
            name = f"quality {row['quality']}, effort {effort}"
            elbo = f"{row['elbo_bytes']:>9.2f}" if "elbo_bytes" in row else " " * 9
            extra = f" {elbo} {row['information_bytes']:>9.2f}"
            print(_line(name, row, similarity) + extra)
    for name, rows in result["maps"].items():
        for row in rows:
            extra = f" {'':9} {row['information_bytes']:>9.2f}"
            print(_line(f"{name} {row['quality']:g}", row, similarity) + extra)
    for name, rows in result["peers"].items():
        for row in rows:
            setting = "" if row["setting"] is None else f" {row['setting']}"
            print(_line(name + setting, row, similarity))
    for name, reason in result["left_out"].items():
        print(f"left out: {name}: {reason}")
    for size, table in result.get("bd_rate_percent", {}).items():
        for name, value in table.items():
            print(f"BD-rate against {ANCHOR}, {SIZES[size]}: {name:<24} {_percent(value)}")
    for measure, efforts in result.get("bd_rate_by_perceptual_measure_percent", {}).items():
        for name, value in efforts["0"].items():
            print(f"BD-rate of ours at equal {measure} against {name:<24} {_percent(value)}")
    for name, value in result.get("bd_rate_against_published_percent", {}).get("0", {}).items():
        print(f"BD-rate of ours against {name:<24} as published {_percent(value)}")
    for size, efforts in result.get("equal_psnr", {}).items():
        for effort, table in efforts.items():
            print(f"at equal PSNR, {SIZES[size]}, effort {effort}: ours / smallest peer")
            for p in (point for point in table if point["psnr_db"].is_integer()):
                print(
                    f"  {p['psnr_db']:5.1f} dB {p['ours_bytes']:>10.1f} / {p['peer_bytes']:>10.1f}"
                    f" ({p['peer']}) = {p['ratio']:.1%}"
                )
    for target in result["targets"]:
        state = "not measured" if target["met"] is None else "met" if target["met"] else "not met"
        print(f"target: {target['what']}: {target['measured']} (limit {target['limit']}): {state}")


def _percent(value: float | None) -> str:
    return "too little in common" if value is None else f"{value:+.1f} %"


def _line(name: str, row: Result, similarity: str) -> str:
    psnr = "exact" if row["psnr_db"] is None else f"{row['psnr_db']:.2f}"
    return (
        f"{name:26} {row['file_bytes']:>10.2f} {row['payload_bytes']:>10.2f}"
        f" {row['bits_per_pixel']:>8.3f} {psnr:>8} {row[similarity]:>8.4f}"
        f" {row['encode_ms']:>9.3f} {row['decode_ms']:>9.3f}"
    )


def contact_sheet(material: Material, result: Result) -> bytes:
    """PNG of some of the images as each codec gives them back: at equal bytes, or, where the
    peers are lossless, at each quality level.
    """
    peers, _ = choose_peers(material)
    if material.binary:
        return encode_png(np.asarray(ladder_sheet(material.model, material.pictures, peers)))
    budget = bytes_at(result["peers"].get(ANCHOR, []), "file_bytes", SHEET_PSNR_DB)
    if budget is None:
        rungs = result["ours"]["0"]
        budget = rungs[len(rungs) // 2]["file_bytes"]
    sheet = budget_sheet(material.model, material.pictures, peers, round(budget))
    return encode_png(np.asarray(sheet))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON, images and the report if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--dataset",
        default="cifar10",
        help="cifar10, mnist, kodak, apart, or places",
    )
    parser.add_argument("--images", type=int, help="only the first N pictures")
    parser.add_argument("--model", help="of a folder; default: photo")
    parser.add_argument("--json", type=Path, help="write the result here, and pictures beside it")
    parser.add_argument("--html", type=Path, help="write the self-contained report here")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    material = load_material(given.dataset, given.images, given.model)
    result = measure(material)
    print_result(result)
    if given.json is None and given.html is None:
        return
    sheet = contact_sheet(material, result)
    if given.json is not None:
        write_json(given.json, result)
        plot_curves(result, given.json.with_suffix(".png"))
        write_atomically(given.json.with_name(given.json.stem + "_sheet.png"), sheet)
    if given.html is not None:
        write_report(result, sheet, given.html)
        print(f"report: {os.fspath(given.html)}")


if __name__ == "__main__":
    main()
