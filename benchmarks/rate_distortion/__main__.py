"""What does an image cost at a given quality? The shipped model family against classical codecs.

    python -m benchmarks.rate_distortion [--dataset cifar10|mnist|kodak|apart|PLACES] [--images N]
                                         [--model NAME] [--json FILE]

All codecs code the same images in the same run; ours at efforts 0, 1 and 2, each peer at the
settings that serve it best (`hvae_codec.evaluation.rate_distortion.peers`). Whole files and
payloads without container (`container_bytes` beside it) are stated apart. Photographs are coded by
the model photo, which has one effort, or by --model; MNIST is binary and its peers are lossless.
--json writes the result, with curves and a contact sheet at equal bytes beside it as PNG.
`hvae-codec benchmark` makes an interactive page of any images.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import hvae_codec
from benchmarks.command import Argument, Benchmark
from benchmarks.rate_distortion.plots import budget_sheet, levels_sheet, plot_curves
from benchmarks.rate_distortion.points import our_points, peer_points
from benchmarks.rate_distortion.tables import (
    OTHER_BD_RATES,
    PEERS,
    POINTS,
    SHORT_EQUAL_PSNR,
    SIZES,
)
from benchmarks.rate_distortion.targets import (
    against_each,
    binary_targets,
    lossy_targets,
    map_targets,
    photograph_targets,
    published_targets,
)
from benchmarks.tables import LEFT_OUT, TARGETS, Result, stored
from hvae_codec.codec.images.load import as_uint8, encode_png
from hvae_codec.data import binarise, load_dataset, search_roots
from hvae_codec.data.sources.photographs import image_paths, published_name
from hvae_codec.errors import DatasetError
from hvae_codec.evaluation.environment import environment
from hvae_codec.evaluation.metrics.perceptual import similarity_name
from hvae_codec.evaluation.rate_distortion.bd_rate import at_equal_psnr, bd_rate_percent, bytes_at
from hvae_codec.evaluation.rate_distortion.peers import (
    JBIG2,
    LeftOut,
    Peer,
    available_peers,
    binary_peers,
    lossy_peers,
    versions,
)
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
PERCEPTUAL = ("MS-SSIM", "SSIMULACRA2")

Pixels = NDArray[np.uint8]


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
    return {curve["name"]: curve["rows"] for curve in stored("published_kodak")["curves"]}


def choose_peers(material: Material) -> tuple[list[Peer], list[LeftOut]]:
    """The peers for these images that can run here, and those that cannot."""
    side = min(min(picture.shape[:2]) for picture in material.pictures)
    peers, left_out = available_peers(binary_peers() if material.binary else lossy_peers(side))
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
    note = "five scales" if similarity == "MS-SSIM" else "images too small for MS-SSIM's scales"
    return {
        "file_bytes": "whole file, mean over images",
        "payload_bytes": "without container and headers (rate_distortion/container_bytes.py)",
        "psnr_db": "mean over images of the 8-bit image's; null where all are exact",
        similarity: f"mean over images, by pytorch-msssim, Gaussian window of 11 pixels; {note}",
        "bd_rate_percent": f"bytes against {ANCHOR} by the package bjontegaard, method pchip; null "
        "where curves have too little in common",
        "SSIMULACRA2": "mean over images with sides of 225 pixels or more, by the package "
        "ssimulacra2",
        "published": "bits per pixel and PSNR as others published them, by their decoders",
        "equal_psnr": "bytes interpolated (log, PCHIP) over PSNR; a codec that cannot go so low is "
        "charged its coarsest setting",
        "elbo_bytes": "rate of Eq. 7 of the same model, all layers",
        "information_bytes": "content of the coded symbols under the model's tables",
        "encode_ms, decode_ms": "processor time per image; ours in batches, one thread; indicative "
        "only: the machine was shared",
    }


def contact_sheet(material: Material, result: Result) -> bytes:
    """PNG of some of the images as each codec gives them back: at equal bytes, or, where the
    peers are lossless, at each quality level.
    """
    peers, _ = choose_peers(material)
    if material.binary:
        return encode_png(np.asarray(levels_sheet(material.model, material.pictures, peers)))
    budget = bytes_at(result["peers"].get(ANCHOR, []), "file_bytes", SHEET_PSNR_DB)
    if budget is None:
        levels = result["ours"]["0"]
        budget = levels[len(levels) // 2]["file_bytes"]
    sheet = budget_sheet(material.model, material.pictures, peers, round(budget))
    return encode_png(np.asarray(sheet))


def run(given: Namespace) -> Result:
    """Measure, with the contact sheet where a result is written."""
    torch.set_num_threads(1)
    material = load_material(given.dataset, given.images, given.model)
    result = measure(material)
    if given.json is None:
        return result
    return result | {"_sheet": contact_sheet(material, result)}


def draw(result: Result, path: Path) -> None:
    """Curves, and beside them the contact sheet."""
    plot_curves(result, path)
    write_atomically(path.with_name(path.stem + "_sheet.png"), result["_sheet"])


BENCHMARK = Benchmark(
    __doc__,
    run,
    (POINTS, PEERS, OTHER_BD_RATES, SHORT_EQUAL_PSNR, TARGETS, LEFT_OUT),
    (
        Argument("--dataset", default="cifar10", help="cifar10, mnist, kodak, apart, or places"),
        Argument("--images", type=int, help="only the first N images"),
        Argument("--model", help="of a folder; default: photo"),
    ),
    draw=draw,
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
