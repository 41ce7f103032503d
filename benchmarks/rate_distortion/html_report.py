"""A rate-distortion run as one HTML file that needs nothing else: interactive plots, tables,
images.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from hvae_codec.utils.atomic_files import write_atomically

TEMPLATE = Path(__file__).with_suffix(".html")
OUR_COLOUR = "#c8102e"
MAPS_COLOUR = "#8b3fc6"
DASHES = ("dot", "dashdot", "solid")

Result = dict[str, Any]
Row = dict[str, Any]


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
        labels = [f"rung {row['quality']}" for row in rows]
        figure.add_trace(_curve(f"hvae_codec, effort {effort}", rows, x, y, labels, line))
    for name, rows in result["maps"].items():
        labels = [f"quality {row['quality']:g}" for row in rows]
        figure.add_trace(_curve(name, rows, x, y, labels, {"color": MAPS_COLOUR}))
    for name, rows in result["peers"].items():
        labels = [_setting(row) for row in rows]
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


def _setting(row: Row) -> str:
    return "lossless" if row["setting"] is None else f"setting {row['setting']}"


def _summary(result: Result) -> str:
    environment = result["environment"]
    out = "; ".join(f"{name} ({why})" for name, why in result["left_out"].items()) or "none"
    machine = ", ".join(f"{key} {value}" for key, value in environment.items())
    return f"{result['images']} images. Peers left out: {out}. Measured with {machine}."


def _tables(result: Result) -> Iterable[str]:
    yield _points_table(result)
    if "bd_rate_percent" in result:
        yield "<h2>BD-rate against WebP (percent of bytes at equal PSNR)</h2>"
        rates = result["bd_rate_percent"]
        rows = [
            [name, *(_number(rates[size][name], "+.1f") for size in rates)]
            for name in rates["file_bytes"]
        ]
        yield _table(["codec", "whole file", "payload"], rows)
    for size, efforts in result.get("equal_psnr", {}).items():
        kind = "whole files" if size == "file_bytes" else "payloads"
        yield f"<h2>Bytes at equal PSNR against the smallest peer, {kind}</h2>"
        rows = [
            [
                f"effort {effort}",
                f"{p['psnr_db']:.1f}",
                f"{p['ours_bytes']:.1f}",
                f"{p['peer_bytes']:.1f}",
                escape(p["peer"]),
                f"{p['ratio']:.1%}",
            ]
            for effort, table in efforts.items()
            for p in table
        ]
        yield _table(["", "PSNR dB", "ours B", "peer B", "peer", "ratio"], rows)
    if result["targets"]:
        yield "<h2>Targets</h2>"
        rows = [
            [escape(t["what"]), _number(t["measured"], ".4f"), _number(t["limit"], "g"), _met(t)]
            for t in result["targets"]
        ]
        yield _table(["target", "measured", "limit", "met"], rows)
    yield "<h2>Definitions</h2><dl>"
    for name, text in (result["definitions"] | result["peer_settings"]).items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"


def _points_table(result: Result) -> str:
    similarity = result["similarity"]
    keys = ("file_bytes", "payload_bytes", "bits_per_pixel", "psnr_db", similarity)
    more = ("encode_ms", "decode_ms", "elbo_bytes", "information_bytes")
    heading = ["codec", "file B", "payload B", "bits/pixel", "PSNR dB", similarity]
    heading += ["encode ms", "decode ms", "ELBO B", "information B"]
    named = [
        (f"hvae_codec rung {row['quality']}, effort {effort}", row)
        for effort, rows in result["ours"].items()
        for row in rows
    ]
    maps = result["maps"].items()
    named += [(f"{name} {row['quality']:g}", row) for name, rows in maps for row in rows]
    named += [(f"{n}, {_setting(row)}", row) for n, rows in result["peers"].items() for row in rows]
    body = [
        [escape(name), *(_number(row.get(key), ".3f") for key in (*keys, *more))]
        for name, row in named
    ]
    return "<h2>All points (means over images)</h2>" + _table(heading, body)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in heading)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _met(target: Row) -> str:
    if target["met"] is None:
        return "not measured"
    kind, word = ("met", "yes") if target["met"] else ("missed", "no")
    return f'<span class="{kind}">{word}</span>'


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
