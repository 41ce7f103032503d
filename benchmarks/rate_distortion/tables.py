"""The tables of rate-distortion runs: of all points, of comparisons, and those of the pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.tables import Result, Row, Table, Text, stored
from hvae_codec.evaluation.rate_distortion.bd_rate import bytes_within

SIZES = {"file_bytes": "whole file", "payload_bytes": "payload"}
IN_SUMMARY = (("cifar10", "CIFAR-10, 32x32", (1, 3, 5)), ("kodak", "Kodak, 768x512", (10, 40, 70)))
SUMMARY_PEERS = ("WebP", "JPEG", "JPEG 2000", "JPEG XL", "AVIF")


def setting_name(row: Row) -> str:
    """A peer's setting in words."""
    return "lossless" if row["setting"] is None else f"setting {row['setting']}"


def named_points(result: Result) -> Iterable[Row]:
    """Every point of the run, with the name of its codec and setting."""
    unknown = dict.fromkeys(("block_file_bytes", "elbo_bytes", "information_bytes"))
    named = [
        (f"hvae_codec quality {row['quality']}, effort {effort}", row)
        for effort, rows in result["ours"].items()
        for row in rows
    ]
    maps, peers = result.get("maps", {}).items(), result["peers"].items()
    named += [(f"{name} {row['quality']:g}", row) for name, rows in maps for row in rows]
    named += [(f"{name}, {setting_name(row)}", row) for name, rows in peers for row in rows]
    return [unknown | row | {"codec": name} for name, row in named]


def point_columns(result: Result) -> Mapping[str, Text]:
    """Of POINTS; one is of the similarity that was measured."""
    return {
        "codec": "{codec}",
        "file B": "{file_bytes:.2f}",
        "payload B": "{payload_bytes:.2f}",
        "B in a block": "{block_file_bytes:.2f}",
        "bits/px": "{bits_per_pixel:.3f}",
        "PSNR dB": lambda row: "exact" if row["psnr_db"] is None else f"{row['psnr_db']:.2f}",
        result["similarity"]: f"{{{result['similarity']}:.4f}}",
        "enc ms": "{encode_ms:.3f}",
        "dec ms": "{decode_ms:.3f}",
        "ELBO B": "{elbo_bytes:.2f}",
        "info B": "{information_bytes:.2f}",
    }


POINTS = Table("means over images", named_points, point_columns)


def bd_rates(result: Result) -> Iterable[Row]:
    """BD-rates against WebP, of whole files and of payloads."""
    rates = result.get("bd_rate_percent")
    if rates is None:
        return
    yield {"codec": "WebP", "files": "0", "payloads": "0", "exact": (0.0, 0.0)}
    for name in rates["file_bytes"]:
        exact = [rates[size][name] for size in SIZES]
        shown = [None if rate is None else f"{rate:+.0f} %" for rate in exact]
        yield {"codec": name, "files": shown[0], "payloads": shown[1], "exact": exact}


PEERS = Table(
    "peers",
    bd_rates,
    {
        "codec": "{codec}",
        "whole files": "{files:s}",
        "payloads without container": "{payloads:s}",
    },
    more={"whole files, %": "{exact[0]:+.2f}", "payloads, %": "{exact[1]:+.2f}"},
    note="BD-rate; {data}, {images} images.",
    result="rate_distortion_cifar10",
)


def other_bd_rates(result: Result) -> Iterable[Row]:
    """BD-rates at equal perceptual measures, and against published points."""
    by_measure = result.get("bd_rate_by_perceptual_measure_percent", {})
    groups = [(f"at equal {measure}", efforts["0"]) for measure, efforts in by_measure.items()]
    published = result.get("bd_rate_against_published_percent", {}).get("0", {})
    for how, rates in [*groups, ("as published", published)]:
        for name, rate in rates.items():
            yield {"what": f"ours {how}", "against": name, "rate": rate}


OTHER_BD_RATES = Table(
    "further BD-rates; empty: too little in common",
    other_bd_rates,
    {"BD-rate of": "{what}", "against": "{against}", "%": "{rate:+.1f}"},
)


def at_equal_psnr(result: Result) -> Iterable[Row]:
    """Bytes beside those of the smallest peer, for each size and effort."""
    return [
        {"what": f"{SIZES[size]}, effort {effort}"} | point
        for size, efforts in result.get("equal_psnr", {}).items()
        for effort, points in efforts.items()
        for point in points
    ]


EQUAL_PSNR = Table(
    "bytes at equal PSNR against the smallest peer",
    at_equal_psnr,
    {
        "what": "{what}",
        "PSNR dB": "{psnr_db:.1f}",
        "ours B": "{ours_bytes:.1f}",
        "peer B": "{peer_bytes:.1f}",
        "peer": "{peer}",
        "ratio": "{ratio:.1%}",
    },
)
SHORT_EQUAL_PSNR = replace(
    EQUAL_PSNR, rows=lambda result: [r for r in at_equal_psnr(result) if r["psnr_db"] % 1 == 0]
)


def bytes_of_peers(
    result: Result, row: Row, names: Sequence[str] | None = None
) -> dict[str, float | None]:
    """What other codecs need for the PSNR of a row; None where their settings do not reach it."""
    return {
        name: bytes_within(result["peers"][name], "file_bytes", row["psnr_db"])
        for name in names or result["peers"]
    }


def kodak_rows(result: Result) -> list[dict[str, Any]]:
    """Every quality with the bits per pixel of other codecs."""
    ours = result["ours"]["0"]
    pixels = 8 * ours[0]["file_bytes"] / ours[0]["bits_per_pixel"]
    found = []
    for row in ours:
        sizes = bytes_of_peers(result, row)
        bits = {name: None if size is None else 8 * size / pixels for name, size in sizes.items()}
        found.append(row | {"bits": bits})
    return found


def kodak_note(result: Result) -> str:
    """What was measured, and the BD-rates."""
    each = result["bd_rate_against_each_percent"]["0"]
    rates = [f"{name} {rate:+.0f} %" for name, rate in each.items()]
    return (
        f"{result['data'].capitalize()}, {result['images']} images; the other codecs' bits per "
        f"pixel at the same PSNR. BD-rate over 0.12 to 1 bits per pixel against {', '.join(rates)}."
    )


KODAK = Table(
    "kodak",
    kodak_rows,
    lambda result: {
        "quality": "{quality}",
        "bits/pixel": "{bits_per_pixel:.3f}",
        "PSNR dB": "{psnr_db:.2f}",
        "MS-SSIM": "{MS-SSIM:.3f}",
        **{name: f"{{bits[{name}]:.3f}}" for name in result["peers"]},
    },
    note=kodak_note,
    result="rate_distortion_kodak",
)


def summary_rows(_: Result) -> Iterable[Row]:
    """Three qualities each of small images and photographs, of two committed results."""
    for name, images, qualities in IN_SUMMARY:
        result = stored(f"rate_distortion_{name}")
        for row in result["ours"]["0"]:
            if row["quality"] in qualities:
                peers = bytes_of_peers(result, row, SUMMARY_PEERS)
                yield row | {"images": images, "peers": peers}


SUMMARY = Table(
    "summary",
    summary_rows,
    {
        "images": "{images}",
        "quality": "{quality}",
        "PSNR dB": "{psnr_db:.2f}",
        "hvae_codec": "{file_bytes:,.0f}",
        **{name: f"{{peers[{name}]:,.0f}}" for name in SUMMARY_PEERS},
    },
    note="Mean bytes per file at equal PSNR. "
    "An empty cell: no measured setting of the codec reaches this PSNR.",
    result="rate_distortion_kodak",
)
