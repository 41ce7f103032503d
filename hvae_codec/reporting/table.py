"""Table 1: the best accuracy over a sweep, per layer and classifier, beside the paper's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from hvae_codec.reporting.aligned import aligned
from hvae_codec.reporting.metrics import CLASSIFIERS, LAYERS, PROTOCOLS, accuracy, measured
from hvae_codec.reporting.results import Sweep
from hvae_codec.reporting.selection import best

PAPER = {
    ("svhn", "z2"): (28.43, 27.87, 77.60, 64.25),
    ("svhn", "z1"): (45.77, 49.81, 59.28, 56.49),
    ("cifar10", "z2"): (47.36, 46.95, 53.15, 44.20),
    ("cifar10", "z1"): (43.27, 42.55, 45.60, 39.25),
}
"""The paper's Table 1, GHVAE after 500 epochs, in percent; columns as CLASSIFIERS."""

PAPER_NAMES = {"svhn": "SVHN", "cifar10": "CIFAR-10"}

SVHN_COMMANDS = (
    "hvae-codec train-classifier --arch resnet18 --data svhn --download --epochs 30 "
    "--output svhn-classifier.safetensors",
    "hvae-codec sweep --data svhn --download --grid 21x21 --beta 0.1:10 --epochs 500 "
    "--output runs/svhn",
    "hvae-codec evaluate runs/svhn --classifier svhn-classifier.safetensors",
    "hvae-codec report runs/svhn",
)
"""What fills SVHN's rows, for who has the data set or may download it."""

MODES = {"z2": "μ₂", "z1": "μ₁"}


@dataclass(frozen=True)
class TableRow:
    """Accuracies in percent, in the order of CLASSIFIERS, None where not measured; `models` are
    those that reach them (None in the paper's rows). `source` says whose figures they are.
    """

    data: str
    architecture: str
    layer: str
    source: str
    values: tuple[float | None, ...]
    models: tuple[str | None, ...]


def table_rows(sweeps: Sequence[Sweep]) -> list[TableRow]:
    """The paper's rows, each followed by those of the sweeps on its data set; then other sweeps'.

    The paper's rows are of GHVAE, as are the sweeps that stand below them.
    """
    rows, placed = [], set()
    for kind, name in PAPER_NAMES.items():
        same = [s for s in sweeps if dataset_of(s) == kind and s.architecture == "GHVAE"]
        placed |= {id(sweep) for sweep in same}
        for layer in LAYERS:
            paper = PAPER[kind, layer]
            rows.append(TableRow(name, "GHVAE", layer, "paper", paper, (None,) * len(paper)))
            rows += [row for sweep in same for row in _rows_of(sweep, layer)]
    others = [sweep for sweep in sweeps if id(sweep) not in placed]
    return rows + [row for s in others for layer in LAYERS for row in _rows_of(s, layer)]


def dataset_of(sweep: Sweep) -> str:
    """Short name of the data set: "cifar10" of "cifar10" and "packed-cifar10"."""
    return sweep.recipe.dataset.removeprefix("packed-")


def lacks_svhn(sweeps: Iterable[Sweep]) -> bool:
    """Whether SVHN's rows hold the paper's numbers only."""
    return all(dataset_of(sweep) != "svhn" for sweep in sweeps)


def _rows_of(sweep: Sweep, layer: str) -> list[TableRow]:
    """A row for each protocol that any model was measured by."""
    rows = []
    whose = "here, one model for all betas" if sweep.is_plane else "here"
    for protocol, described in PROTOCOLS.items():
        metrics = [accuracy(name, layer, protocol) for name in CLASSIFIERS]
        if not any(measured(sweep, metric) for metric in metrics):
            continue
        found = [best(sweep, metric) for metric in metrics]
        rows.append(
            TableRow(
                sweep.data,
                sweep.architecture,
                layer,
                f"{whose}, {described}",
                tuple(m.of(r) if r else None for m, r in zip(metrics, found, strict=True)),
                tuple(r.model if r else None for r in found),
            )
        )
    return rows


def _cells(row: TableRow) -> list[str]:
    head = [f"{row.data} ({MODES[row.layer]}), {row.architecture}", row.source]
    return head + ["" if value is None else f"{value:.2f} %" for value in row.values]


_HEADING = ["data set", "source", *CLASSIFIERS.values()]
_NO_SVHN = "SVHN was not run here. Who has the data set, or may download it, fills its rows with:"


def as_text(sweeps: Sequence[Sweep]) -> str:
    """The table with aligned columns, and how to fill SVHN's rows."""
    lines = [_HEADING, *map(_cells, table_rows(sweeps))]
    shown = aligned(lines, 2)
    if lacks_svhn(sweeps):
        shown += ["", _NO_SVHN, *(f"  {command}" for command in SVHN_COMMANDS)]
    return "\n".join(shown) + "\n"


def as_markdown(sweeps: Sequence[Sweep]) -> str:
    """The table for a README, and how to fill SVHN's rows."""
    lines = [_HEADING, ["---", "---", *["---:"] * len(CLASSIFIERS)]]
    lines += map(_cells, table_rows(sweeps))
    shown = [f"| {' | '.join(line)} |" for line in lines]
    if lacks_svhn(sweeps):
        shown += ["", _NO_SVHN, "", *(f"    {command}" for command in SVHN_COMMANDS)]
    return "\n".join(shown) + "\n"


def as_html(sweeps: Sequence[Sweep]) -> str:
    """The table as HTML; a cell's title names the model that reaches it."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in _HEADING)
    body = []
    for row in table_rows(sweeps):
        name, source, *values = map(escape, _cells(row))
        kind = "paper" if row.source == "paper" else "here"
        cells = [f'<th scope="row">{name}</th><td>{source}</td>']
        for value, model in zip(values, row.models, strict=True):
            title = f' title="model {escape(model)}"' if model else ""
            cells.append(f"<td{title}>{value}</td>")
        body.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    heading, lines = f"<thead><tr>{head}</tr></thead>", f"<tbody>{''.join(body)}</tbody>"
    table = f'<table class="table1">{heading}{lines}</table>'
    if not lacks_svhn(sweeps):
        return table
    commands = escape("\n".join(SVHN_COMMANDS))
    return f"{table}<p>{escape(_NO_SVHN)}</p><pre><code>{commands}</code></pre>"


def as_json(sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """Rows with accuracies in percent, and the commands for SVHN (null where it was run)."""
    commands = list(SVHN_COMMANDS) if lacks_svhn(sweeps) else None
    rows = [
        {**asdict(row), "values": list(row.values), "models": list(row.models)}
        for row in table_rows(sweeps)
    ]
    return {"classifiers": list(CLASSIFIERS), "rows": rows, "svhn_commands": commands}
