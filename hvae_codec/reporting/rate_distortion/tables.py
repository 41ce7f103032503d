"""The tables of a benchmark, for a terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hvae_codec.reporting.aligned import aligned

Result = dict[str, Any]

LABELS = {"psnr_db": "PSNR"}
"""What measures are called where they are not called as their keys."""


class Table(NamedTuple):
    """Title, column heads, rows of cells, and a note below."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def bd_rate_table(result: Result) -> Table:
    """Our bytes against each other codec's at equal quality, by each measure."""
    measures = result["measures"]
    rows = [
        [row["ours"], row["against"], *(_percent(row[name]) for name in measures)]
        for row in result["bd_rate_percent"]
    ]
    return Table(
        "Bytes at equal quality (BD-rate)",
        ["codec", "against", *(f"at equal {LABELS.get(name, name)}" for name in measures)],
        rows,
        "Negative: fewer bytes than the other codec. "
        "-: the curves have too little in common to state a mean.",
    )


def equal_psnr_tables(result: Result) -> list[Table]:
    """Bytes of each codec at the PSNR of some of our settings, a table per use of ours."""
    tables = []
    for name in dict.fromkeys(row["ours"] for row in result["equal_psnr"]):
        rows = [row for row in result["equal_psnr"] if row["ours"] == name]
        if not rows[0]["peers"]:
            continue
        cells = [
            [f"{row['quality']:g}", f"{row['psnr_db']:.2f}", _bytes(row["bytes"])]
            + [_bytes(size) for size in row["peers"].values()]
            for row in rows
        ]
        head = ["quality", "PSNR dB", name, *rows[0]["peers"]]
        note = "-: no measured setting of the codec reaches this PSNR."
        tables.append(Table(f"Bytes per image at the PSNR of {name}", head, cells, note))
    return tables


def points_table(result: Result) -> Table:
    """Every point of every curve."""
    perceptual = [name for name in result["measures"] if name != "psnr_db"]
    head = ["codec", "setting", "bytes", "payload bytes", "bits/pixel", "PSNR dB", *perceptual]
    head += ["encode ms", "decode ms"]
    rows = [
        [
            name,
            str(row.get("quality", row.get("setting"))),
            _bytes(row["file_bytes"]),
            _bytes(row["payload_bytes"]),
            f"{row['bits_per_pixel']:.3f}",
            "exact" if row["psnr_db"] is None else f"{row['psnr_db']:.2f}",
            *(f"{row[key]:.2f}" if key == "SSIMULACRA2" else f"{row[key]:.4f}"
              for key in perceptual),
            f"{row['encode_ms']:.2f}",
            f"{row['decode_ms']:.2f}",
        ]
        for name, curve in result["curves"].items()
        for row in curve["rows"]
    ]  # fmt: skip
    return Table("All points (means over images)", head, rows)


def summary(result: Result) -> str:
    """The images and the settings in a line."""
    count = result["images"]
    effort = "all settings" if result["thorough"] else "quick settings"
    return (
        f"{count:,} image{'s' if count > 1 else ''} of {result['data']}, {result['sizes']} pixels; "
        f"{effort}"
    )


def as_text(table: Table) -> str:
    """The table with aligned columns, the first two to the left."""
    return "\n".join(
        [table.title, *aligned([table.head, *table.rows], 2), *([table.note] if table.note else [])]
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
