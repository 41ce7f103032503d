"""A rate-distortion run as one HTML file that needs nothing else: interactive plots, tables,
images.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from benchmarks.rate_distortion.tables import EQUAL_PSNR, PEERS, POINTS, SIZES, setting_name
from benchmarks.tables import TARGETS, Result, Row, Table
from hvae_codec.utils.atomic_files import write_atomically

TEMPLATE = Path(__file__).with_suffix(".html")
OUR_COLOUR = "#c8102e"
MAPS_COLOUR = "#8b3fc6"
DASHES = ("dot", "dashdot", "solid")

BITS = {"bits_per_pixel": "whole file", "payload_bits_per_pixel": "payload"}
HEADINGS = (
    (POINTS, "All points (means over images)"),
    (PEERS, "BD-rate against WebP (percent of bytes at equal PSNR)"),
    (EQUAL_PSNR, "Bytes at equal PSNR against the smallest peer"),
    (TARGETS, "Targets"),
)
MARKS = {
    "PASS": '<span class="met">PASS</span>',
    "NOT": '<span class="missed">NOT</span>',
}


def write_report(result: Result, sheet: bytes, path: Path) -> None:
    """Write the report of a result, as `rate_distortion.measure` gives it, with a PNG in it."""
    plots = [
        figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"plot-{index}")
        for index, figure in enumerate(figures(result))
    ]
    page = Template(TEMPLATE.read_text("utf-8")).substitute(
        title=escape(f"Rate and distortion: {result['data']}"),
        summary=escape(_summary(result)),
        plotly=get_plotlyjs(),
        plots="\n".join(plots),
        sheet=base64.b64encode(sheet).decode("ascii"),
        tables="\n".join(_tables(result)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode("utf-8"))


def figures(result: Result) -> Iterable[go.Figure]:
    """PSNR and similarity over bits a pixel, for whole files and payloads, and time over PSNR; of
    binary images the share of wrong pixels over bytes.
    """
    if result["binary"]:
        for size, name in SIZES.items():
            titles = (f"bytes per image, {name}", "share of pixels that differ")
            yield _figure(result, size, "differing_samples", *titles)
        return
    for y, unit in (("psnr_db", "PSNR (dB)"), (result["similarity"], result["similarity"])):
        for size, name in BITS.items():
            yield _figure(result, size, y, f"bits per pixel, {name}", unit).update_xaxes(type="log")
    for way in ("encode", "decode"):
        titles = ("PSNR (dB)", f"ms per image to {way}")
        yield _figure(result, "psnr_db", f"{way}_ms", *titles).update_yaxes(type="log")


def _figure(result: Result, x: str, y: str, x_title: str, y_title: str) -> go.Figure:
    figure = go.Figure()
    for effort, rows in result["ours"].items():
        line = {"color": OUR_COLOUR, "dash": DASHES[int(effort) % len(DASHES)]}
        labels = [f"quality {row['quality']}" for row in rows]
        figure.add_trace(_curve(f"hvae_codec, effort {effort}", rows, x, y, labels, line))
    for name, rows in result["maps"].items():
        labels = [f"quality {row['quality']:g}" for row in rows]
        figure.add_trace(_curve(name, rows, x, y, labels, {"color": MAPS_COLOUR}))
    for name, rows in result["peers"].items():
        labels = [setting_name(row) for row in rows]
        figure.add_trace(_curve(name, rows, x, y, labels, {}))
    figure.update_layout(
        title=f"{y_title} over {x_title}",
        xaxis_title=x_title,
        yaxis_title=y_title,
        template="plotly_white",
        height=480,
    )
    return figure


def _curve(
    name: str, rows: Sequence[Row], x: str, y: str, labels: list[str], line: dict[str, str]
) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=[row[x] for row in rows],
        y=[row[y] for row in rows],
        text=[f"{a}: {row['file_bytes']:.1f} B" for a, row in zip(labels, rows, strict=True)],
        mode="lines+markers",
        line=line,
    )


def _summary(result: Result) -> str:
    environment = result["environment"]
    out = "; ".join(f"{name} ({why})" for name, why in result["left_out"].items()) or "none"
    machine = ", ".join(f"{key} {value}" for key, value in environment.items())
    return f"{result['images']} images. Peers left out: {out}. Measured with {machine}."


def _tables(result: Result) -> Iterable[str]:
    for table, heading in HEADINGS:
        if rows := _table(table, result):
            yield f"<h2>{heading}</h2>{rows}"
    yield "<h2>Definitions</h2><dl>"
    for name, text in (result["definitions"] | result["peer_settings"]).items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"


def _table(table: Table, result: Result) -> str:
    titles, rows = table.cells(result, table.more)
    if not rows:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    cells = ([MARKS.get(cell, escape(cell)) for cell in row] for row in rows)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
