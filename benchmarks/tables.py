"""Tables of results: columns are declared once, printed on a terminal or written as Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvae_codec.reporting.aligned import aligned

RESULTS = Path(__file__).parent / "results"

Result = dict[str, Any]
Row = Mapping[str, Any]
Text = str | Callable[[Any], str]
"""A form as `str.format_map` takes it, over a row or a result, or a function of that. Forms reach
into what they are given: "{seconds[fused]:.2f}", "{psnr_db[2]} dB".
"""


def stored(name: str) -> Result:
    """The committed result of this name."""
    result: Result = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def filled(text: Text, values: Row) -> str:
    """The text; an empty one where a value that it formats is None."""
    if callable(text):
        return text(values)
    try:
        return text.format_map(values)
    except TypeError:  # a None that is to be formatted as a number
        return ""


@dataclass(frozen=True)
class Table:
    """Rows of a result, and how they are shown.

    name: heading when printed; in a page the markers that it stands between. rows: key of the
    result that holds them, or a function of it. columns: title and cell of each, or a function
    where a result says which there are. more: columns that are printed alone. note: text below the
    table. result: the committed result of the table in a page; default: that of its name.
    """

    name: str
    rows: str | Callable[[Result], Iterable[Row]]
    columns: Mapping[str, Text] | Callable[[Result], Mapping[str, Text]]
    more: Mapping[str, Text] = field(default_factory=dict)
    note: Text = ""
    result: str = ""

    def markdown(self) -> str:
        """The table of the committed result, without `more`."""
        result = stored(self.result or self.name)
        titles, rows = self.cells(result, {})
        lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([*lines, *(["", filled(self.note, result)] if self.note else [])])

    def text(self, result: Result) -> str:
        """The table with its columns aligned: the first to the left, the others to the right; an
        empty text where the result has no rows of it.
        """
        titles, rows = self.cells(result, self.more)
        if not rows:
            return ""
        lines = aligned([titles, *rows])
        return "\n".join([self.name, *lines, *([filled(self.note, result)] if self.note else [])])

    def cells(self, result: Result, more: Mapping[str, Text]) -> tuple[list[str], list[list[str]]]:
        """Titles, and the cells of each row."""
        rows = result.get(self.rows, []) if isinstance(self.rows, str) else list(self.rows(result))
        if not rows:
            return [], []
        columns = {**(self.columns(result) if callable(self.columns) else self.columns), **more}
        return list(columns), [[filled(cell, row) for cell in columns.values()] for row in rows]


def target(what: str, measured: float | None, limit: float, *, at_least: bool = False) -> Result:
    """A figure to reach, and whether a run does; of what was not measured neither is said."""
    met = None
    if measured is not None:
        met = bool(measured >= limit if at_least else measured <= limit)
        measured = round(measured, 4)
    return {"what": what, "limit": limit, "measured": measured, "met": met}


STATES = {True: "PASS", False: "NOT", None: "not measured"}
TARGETS = Table(
    "targets",
    "targets",
    {
        "target": "{what}",
        "limit": "{limit:g}",
        "measured": "{measured:g}",
        "state": lambda row: STATES[row["met"]],
    },
    result="service",
)
LEFT_OUT = Table(
    "left out",
    lambda result: [{"peer": p, "why": why} for p, why in result.get("left_out", {}).items()],
    {"peer": "{peer}", "reason": "{why}"},
)
