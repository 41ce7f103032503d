"""Everything that `hvae-codec report` writes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvae_codec.errors import EvaluationError
from hvae_codec.reporting.differences import sentence
from hvae_codec.reporting.figures.figures3to9 import drawings
from hvae_codec.reporting.figures.plotting import file_bytes, style
from hvae_codec.reporting.html.page import make_page
from hvae_codec.reporting.results import Sweep, beside_models_alone, read_sweep
from hvae_codec.reporting.selection import optima
from hvae_codec.reporting.table import as_json, as_markdown, as_text
from hvae_codec.utils.atomic_files import write_atomically
from hvae_codec.utils.progress import progress

KINDS = ("png", "svg")
PAGE = "report.html"


@dataclass(frozen=True)
class Report:
    """What was written: the page, the figures by name, the table; and why figures are not there."""

    sweeps: tuple[Sweep, ...]
    page: Path
    files: tuple[Path, ...]
    left_out: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready summary with Table 1 and each sweep's optima."""
        return {
            "page": str(self.page),
            "files": [str(path) for path in self.files],
            "left_out": self.left_out,
            "sweeps": [_summary(sweep) for sweep in self.sweeps],
            "table": as_json(self.sweeps),
        }


def write_report(folders: Sequence[Path], out: Path) -> Report:
    """Draw sweeps' figures, NAME-figN.png and .svg, Table 1 and the page into `out`.

    Raises:
        SweepError, EvaluationError: a folder is no evaluated sweep, or two have one name.
        OSError: `out` cannot be written.
    """
    sweeps = beside_models_alone([read_sweep(folder) for folder in folders])
    names = [_file_name(sweep) for sweep in sweeps]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise EvaluationError(
            f"several sweeps are named {', '.join(twice)}; figures are named after folders"
        )
    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    left_out: dict[str, str] = {}
    planned = [
        (s, n, drawing) for s, n in zip(sweeps, names, strict=True) for drawing in drawings(s)
    ]
    for sweep, name, drawing in progress("drawing", planned, unit="figures"):
        if why := drawing.lacks(sweep):
            left_out[f"{name}-{drawing.name}"] = why
            continue
        with style():
            figure = drawing.draw(sweep)
            for kind in KINDS:
                files.append(out / f"{name}-{drawing.name}.{kind}")
                write_atomically(files[-1], file_bytes(figure, kind))
    table = json.dumps(as_json(sweeps), indent=2, ensure_ascii=False) + "\n"
    texts = {
        "table1.txt": as_text(sweeps),
        "table1.md": as_markdown(sweeps),
        "table1.json": table,
        PAGE: make_page(sweeps, left_out),
    }
    for file, text in texts.items():
        files.append(out / file)
        write_atomically(files[-1], text.encode("utf-8"))
    return Report(sweeps, out / PAGE, tuple(files), left_out)


def _file_name(sweep: Sweep) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", sweep.name)


def _summary(sweep: Sweep) -> dict[str, Any]:
    return {
        "name": sweep.name,
        "models": len(sweep.rows),
        "missing": list(sweep.missing),
        "diverged": list(sweep.diverged),
        "differences": sentence(sweep),
        "optima": [
            {
                "application": optimum.application,
                "metric": optimum.metric.key,
                "value": optimum.row.values[optimum.metric.key],
                "model": optimum.row.model,
                "betas": list(optimum.row.betas),
                "rates_nats": list(optimum.row.rates_nats),
            }
            for optimum in optima(sweep)
        ],
    }
