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

from benchmarks.rate_distortion.tables import EQUAL_PSNR, PEERS, POINTS, setting_name
from benchmarks.tables import TARGETS, Result, Row, Table
from hvae_codec.utils.atomic_files import write_atomically

TEMPLATE = Path(__file__).with_suffix(".html")
OUR_COLOUR = "#c8102e"
MAPS_COLOUR = "#8b3fc6"
DASHES = ("dot", "dashdot", "solid")

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
    figures = binary_figures(result) if result["binary"] else lossy_figures(result)
    plots = [
        figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"plot-{index}")
        for index, figure in enumerate(figures)
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


def lossy_figures(result: Result) -> list[go.Figure]:
    """PSNR and similarity over bits a pixel, for whole files and payloads; time over PSNR."""
    similarity = result["similarity"]
    sizes = {"bits_per_pixel": "whole file", "payload_bits_per_pixel": "payload"}
    axes = [
        (x, y, f"{unit} over bits per pixel, {sizes[x]}", f"bits per pixel, {sizes[x]}", unit)
        for y, unit in (("psnr_db", "PSNR (dB)"), (similarity, similarity))
        for x in sizes
    ]
    times = [
        ("psnr_db", f"{way}_ms", f"{way[:-1]}ing time over PSNR", "PSNR (dB)", "ms per image")
        for way in ("encode", "decode")
    ]
    figures = []
    for x, y, title, x_title, y_title in axes:
        figures.append(_figure(result, x, y, title, x_title, y_title))
        figures[-1].update_xaxes(type="log")
    for x, y, title, x_title, y_title in times:
        figures.append(_figure(result, x, y, title, x_title, y_title))
        figures[-1].update_yaxes(type="log")
    return figures


def binary_figures(result: Result) -> list[go.Figure]:
    """Share of wrong pixels over bytes, for whole files and payloads; peers are at zero."""
    return [
        _figure(
            result,
            size,
            "differing_samples",
            f"pixels that differ over bytes, {name}",
            f"bytes per image, {name}",
            "share of pixels that differ",
        )
        for size, name in (("file_bytes", "whole file"), ("payload_bytes", "payload"))
    ]


def _figure(result: Result, x: str, y: str, title: str, x_title: str, y_title: str) -> go.Figure:
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
        title=title, xaxis_title=x_title, yaxis_title=y_title, template="plotly_white", height=480
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
