"""One self-contained HTML page of a benchmark: curves, tables, images at equal bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from hvae_codec.errors import MissingDependencyError
from hvae_codec.evaluation.rate_distortion.curves import BLOCKS, SHEETS
from hvae_codec.evaluation.rate_distortion.equal_bytes import View
from hvae_codec.reporting.rate_distortion.tables import (
    LABELS,
    Result,
    Table,
    bd_rate_table,
    equal_psnr_tables,
    points_table,
    summary,
)

try:
    from plotly.offline import get_plotlyjs
except ImportError as error:
    raise MissingDependencyError(
        "the HTML page needs plotly: pip install 'hvae-codec[peers]'"
    ) from error

HERE = Path(__file__).parent
STYLE = HERE.parent / "html" / "page.css"
UNITS = {"psnr_db": "PSNR (dB)", "encode_ms": "encode (ms/image)", "decode_ms": "decode (ms/image)"}
PEER_COLOURS = ("#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#8c6d31", "#777777")
OUR_COLOURS = ("#d7191c", "#7b3294", "#a6611a")


def make_page(result: Result, views: Sequence[View]) -> str:
    """The page's HTML of a result of `run_benchmark` and its `views`."""
    data = json.dumps(page_data(result, views), allow_nan=False)
    tables = [bd_rate_table(result), *equal_psnr_tables(result)]
    return Template((HERE / "page.html").read_text("utf-8")).substitute(
        title=escape(f"Rate and distortion: {result['data']}"),
        summary=escape(summary(result)),
        style=STYLE.read_text("utf-8") + (HERE / "page.css").read_text("utf-8"),
        script=(HERE / "page.js").read_text("utf-8"),
        plotly=get_plotlyjs(),
        # "</script>" or "<!--<script>" in a name would change where the element ends.
        data=data.replace("<", "\\u003c"),
        tables="".join(map(_table, tables)),
        points=_table(points_table(result)),
        notes=_notes(result),
    )


def page_data(result: Result, views: Sequence[View]) -> dict[str, Any]:
    """What the page's script draws: measures, curves, and views by scene and budget."""
    measures = [*result["measures"], "encode_ms", "decode_ms"]
    curves = []
    counts = {True: 0, False: 0}
    colours: dict[str, str] = {}
    for name, curve in result["curves"].items():
        ours = curve["kind"] in ("ours", "blocks")
        if curve["codec"] not in colours:
            palette = OUR_COLOURS if ours else PEER_COLOURS
            colours[curve["codec"]] = palette[counts[ours] % len(palette)]
            counts[ours] += 1
        curves.append(
            {
                "name": name,
                "ours": ours,
                "shared": curve["kind"] in (BLOCKS, SHEETS),
                "colour": colours[curve["codec"]],
                "rows": curve["rows"],
            }
        )
    return {
        "measures": [{"key": m, "label": UNITS.get(m, LABELS.get(m, m))} for m in measures],
        "curves": curves,
        "views": _grouped(views),
    }


def _grouped(views: Sequence[View]) -> list[dict[str, Any]]:
    """Scenes with the original and, by budget, each codec's view."""
    scenes: dict[str, dict[str, Any]] = {}
    for view in views:
        scene = scenes.setdefault(view["scene"], {"label": view["scene"], "budgets": {}})
        source = "data:image/webp;base64," + view["webp"]
        if "budget" not in view:
            scene["original"] = source
            continue
        of = {"codec": view["codec"], "bytes": view["bytes"], "psnr": view["psnr_db"]}
        scene["budgets"].setdefault(view["budget"], []).append(of | {"source": source})
    return [
        scene | {"budgets": [{"bytes": b, "views": v} for b, v in scene["budgets"].items()]}
        for scene in scenes.values()
    ]


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.head)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    note = f'<p class="hint">{escape(table.note)}</p>' if table.note else ""
    return (
        f"<h2>{escape(table.title)}</h2><div class='wide' tabindex='0'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )


def _notes(result: Result) -> str:
    """Settings of each codec, what is left out, definitions, and the machine."""
    settings = {name: curve["remark"] for name, curve in result["curves"].items()}
    parts = {"Settings": settings, "Left out": result["left_out"]}
    parts |= {"Definitions": result["definitions"], "Measured with": result["environment"]}
    return "".join(
        f"<h2>{escape(title)}</h2><dl>"
        + "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in entries.items())
        + "</dl>"
        for title, entries in parts.items()
        if entries
    )
