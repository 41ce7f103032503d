"""One self-contained HTML page of any number of sweeps: plots that turn, images, tables."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from hvae_codec.errors import MissingDependencyError
from hvae_codec.reporting.differences import aspects
from hvae_codec.reporting.html.strips import read_strip
from hvae_codec.reporting.metrics import METRICS, Metric, measured
from hvae_codec.reporting.results import ModelRow, Sweep
from hvae_codec.reporting.selection import (
    beta_vaes,
    cells,
    hull_rows,
    is_grid,
    optima,
    vae,
)
from hvae_codec.reporting.table import as_html

try:
    from plotly.offline import get_plotlyjs
except ImportError as error:
    raise MissingDependencyError(
        "the HTML page needs plotly: pip install 'hvae-codec[report]'"
    ) from error

HERE = Path(__file__).parent


def make_page(sweeps: Sequence[Sweep], left_out: dict[str, str]) -> str:
    """The page's HTML; `left_out` maps figures that were not drawn to the reason.

    Raises:
        EvaluationError: a strip of images is damaged.
    """
    return Template((HERE / "page.html").read_text("utf-8")).substitute(
        style=(HERE / "page.css").read_text("utf-8"),
        script="".join((HERE / name).read_text("utf-8") for name in ("plots.js", "page.js")),
        plotly=get_plotlyjs(),
        # "</script>" or "<!--<script>" in a name would change where the element ends.
        data=json.dumps(page_data(sweeps), allow_nan=False).replace("<", "\\u003c"),
        table=as_html(sweeps),
        differences="".join(map(_differences, sweeps)),
        left_out=_left_out(left_out),
    )


def page_data(sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """What the page's script draws: metrics by key, and sweeps whose models are named by index."""
    shown = [m for m in METRICS if any(measured(sweep, m) for sweep in sweeps)]
    metrics = [
        {"key": m.key, "label": m.label, "unit": m.unit, "decimals": m.decimals,
         "higher": m.higher_is_better}
        for m in shown
    ]  # fmt: skip
    return {"metrics": metrics, "sweeps": [_sweep_data(sweep, shown) for sweep in sweeps]}


def _sweep_data(sweep: Sweep, metrics: Sequence[Metric]) -> dict[str, Any]:
    place = {row.model: index for index, row in enumerate(sweep.rows)}
    single = vae(sweep)
    return {
        "name": sweep.name,
        "title": f"{sweep.architecture}, {sweep.data}",
        "plane": sweep.is_plane,
        "models": [_model_data(row, metrics) for row in sweep.rows],
        "alone": [_model_data(replace(row, picture=None), metrics) for row in sweep.alone],
        "missing": sweep.missing_text,
        "grid": is_grid(sweep),
        "cells": [list(corners) for corners in cells(sweep, sweep.rows) if len(corners) > 2],
        "hull": {m.key: [place[row.model] for row in hull_rows(sweep, m)] for m in metrics},
        "vae": {"model": place[single[0].model], "exact": single[1]} if single else None,
        "betaVaes": [place[row.model] for row in beta_vaes(sweep)],
        "optima": [
            {"application": o.application, "metric": o.metric.key, "model": place[o.row.model]}
            for o in optima(sweep)
        ],
        "originals": _data_uri(sweep.originals, 1),
    }


def _model_data(row: ModelRow, metrics: Sequence[Metric]) -> dict[str, Any]:
    return {
        "name": row.model,
        "betas": list(row.betas),
        "rates": list(row.rates_nats),
        "total": row.total_rate_nats,
        "epochs": row.epochs,
        "values": {m.key: m.of(row) for m in metrics if m.of(row) is not None},
        "picture": _data_uri(row.picture, 2),
    }


def _data_uri(path: Path | None, rows: int) -> str | None:
    """A strip as it is in its file, once it is known to be one."""
    if path is None:
        return None
    read_strip(path, rows)
    return "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _differences(sweep: Sweep) -> str:
    rows = "".join(
        f'<tr class="{"same" if a.same else "differs"}"><th scope="row">{escape(a.name)}</th>'
        f"<td>{escape(a.paper)}</td><td>{escape(a.here)}</td>"
        f"<td>{'same' if a.same else 'differs'}</td></tr>"
        for a in aspects(sweep)
    )
    title = escape(f"{sweep.name}: {sweep.architecture}, {sweep.data}, {len(sweep.rows)} models")
    head = '<th scope="col"></th><th scope="col">paper</th><th scope="col">here</th><th></th>'
    return (
        f"<h3>{title}</h3><div class='wide' tabindex='0'><table class='differences'><thead><tr>"
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _left_out(left_out: dict[str, str]) -> str:
    if not left_out:
        return ""
    lines = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in left_out.items())
    return f"<h2>Figures left out</h2><ul>{lines}</ul>"
