"""Panels of the figures: metrics over the plane of rates, marks of models, colours and legends.

Figures are matplotlib `Figure`s without pyplot: drawing neither needs a display nor touches the
caller's settings. Colours are those of Okabe and Ito, and a map that stays ordered without hue.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hvae_codec.errors import MissingDependencyError
from hvae_codec.reporting.figures.mesh import facets
from hvae_codec.reporting.metrics import Metric, measured, measured_alone
from hvae_codec.reporting.results import ModelRow, Sweep
from hvae_codec.reporting.selection import beta_vaes, edges, hull_rows, optima, vae

try:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise MissingDependencyError(
        "drawing figures needs matplotlib: pip install 'hvae-codec[report]'"
    ) from error

COLOURS = "viridis"
BLACK, RED, PURPLE = "#000000", "#d55e00", "#cc79a7"
BLUE, GREEN, GREY = "#0072b2", "#009e73", "#8a8a8a"
SHAPES = {"reconstruction": "^", "generation": "D", "representation": "*"}
"""The markers of the three optima."""

BETA_VAE = r"$\beta$-VAE ($\beta_2=\beta_1$)"
RATE_TOP, RATE_BOTTOM = "$R(z_2)$ (nats)", "$R(z_1|z_2)$ (nats)"
DOTS_PER_INCH = 200

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "svg.hashsalt": "hvae-codec",
}
_HALO = [withStroke(linewidth=2.4, foreground="white")]
_LARGE = 200
"""Models from which on their dots are small."""

Axes = Any
"""matplotlib's; 3D axes are another class."""


@contextmanager
def style() -> Iterator[None]:
    """The figures' settings, for the duration of a `with`."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; sides in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def describe(sweep: Sweep) -> str:
    """What a figure is of: architecture, data, models, epochs."""
    epochs = sorted({row.epochs for row in sweep.rows if row.epochs is not None})
    trained = f", {'-'.join(map(str, epochs[:: max(1, len(epochs) - 1)]))} epochs" if epochs else ""
    models = f"{len(sweep.rows)} models"
    if sweep.is_plane:
        models = f"one model at {len(sweep.rows)} choices of betas"
    return f"{sweep.architecture}, {sweep.data}, {models}{trained}"


def file_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as "png" or "svg"; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def draw_plane(
    figure: Figure,
    panel: Axes,
    sweep: Sweep,
    metric: Metric,
    *,
    crosses: bool = False,
    named_totals: bool = False,
    title: str | None = None,
) -> None:
    """A metric over R(z2) and R(z1|z2): colours between the models of a grid, a dot for each model,
    lines of equal total rate, the baselines and the hull's models.
    """
    rows = measured(sweep, metric)
    x, y = rate_arrays(rows)
    values = np.array([metric.of(row) for row in rows], dtype=float)
    limits = value_limits(sweep, metric)
    between = facets(sweep, rows, np.stack([x, y, values], axis=1))
    if len(between):
        patch = PolyCollection(list(between[:, :, :2]), array=between[:, :, 2].mean(axis=1))
        patch.set(cmap=COLOURS, clim=(limits["vmin"], limits["vmax"]))
        patch.set(edgecolor="face", linewidth=0.3, rasterized=True)
        panel.add_collection(patch)
        lines = list(np.stack([x, y], axis=1)[edges(sweep, rows)])
        wires: dict[str, Any] = {
            "colors": "white",
            "linewidths": 0.35,
            "alpha": 0.4,
            "rasterized": True,
        }
        panel.add_collection(LineCollection(lines, **wires))
    size = 3.0 if len(rows) > _LARGE else (7.0 if len(between) else 26.0)
    dots = panel.scatter(
        x, y, s=size, c=values, cmap=COLOURS, linewidths=0.25, edgecolors="white", **limits
    )
    draw_alone(panel, sweep, metric, plane_point)
    draw_totals(panel, rows, named=named_totals)
    draw_marks(panel, sweep, metric, plane_point)
    if crosses:
        draw_crosses(panel, sweep)
    panel.set_xlabel(RATE_TOP)
    panel.set_ylabel(RATE_BOTTOM)
    panel.set_title(metric.title if title is None else title)
    bar = figure.colorbar(dots, ax=panel, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)


def value_limits(sweep: Sweep, metric: Metric) -> dict[str, float]:
    """The least and the greatest shown value, also of models alone, as matplotlib names them."""
    rows = (*measured(sweep, metric), *measured_alone(sweep, metric))
    values = [value for row in rows if (value := metric.of(row)) is not None]
    return {"vmin": min(values), "vmax": max(values)}


def draw_alone(panel: Axes, sweep: Sweep, metric: Metric, point: Any) -> None:
    """Dots of the models alone, coloured as the surface is; `point` gives the place of a row."""
    rows = measured_alone(sweep, metric)
    if not rows:
        return
    colours = [metric.of(row) for row in rows]
    flat: dict[str, Any] = {"depthshade": False} if hasattr(panel, "zaxis") else {}
    look = {"s": 22.0, "cmap": COLOURS, "linewidths": 0.8, "edgecolors": BLACK, "zorder": 2.8}
    places = zip(*map(point, rows), strict=True)
    panel.scatter(*places, c=colours, **look, **value_limits(sweep, metric), **flat)


def alone_handles(sweep: Sweep) -> list[Line2D]:
    """What the dots of models alone are, for a legend."""
    if not sweep.alone:
        return []
    look: dict[str, Any] = {"marker": "o", "mfc": GREY, "mec": BLACK, "mew": 0.8, "ms": 4.7}
    return [Line2D([], [], ls="", label="trained for its betas alone", **look)]


def rate_arrays(rows: Sequence[ModelRow]) -> tuple[np.ndarray, np.ndarray]:
    """R(z2) and R(z1|z2) of rows, float64 [N] each, nats."""
    rates = np.array([row.rates_nats for row in rows], dtype=float)
    return rates[:, 0], rates[:, 1]


def plane_point(row: ModelRow) -> tuple[float, float]:
    """Where a model stands in the plane of rates."""
    return row.rates_nats[0], row.rates_nats[1]


def draw_totals(panel: Axes, rows: Sequence[ModelRow], *, named: bool) -> None:
    """Dashed diagonals of equal total rate, within the models' range."""
    x, y = rate_arrays(rows)
    panel.margins(0.04)
    panel.autoscale_view()
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    for total in MaxNLocator(7).tick_values(float((x + y).min()), float((x + y).max())):
        start, end = max(left, total - high), min(right, total - low)
        if not start < end:
            continue
        panel.plot(
            [start, end],
            [total - start, total - end],
            color=GREY,
            lw=0.6,
            ls=(0, (4, 3)),
            zorder=2.5,
        )
        if named:
            panel.annotate(
                f"R={total:g}",
                (end, total - end),
                xytext=(-1, 1),
                textcoords="offset points",
                fontsize=6,
                color="#555555",
                ha="right",
                va="bottom",
                zorder=2.6,
                path_effects=_HALO,
            )
    panel.set_xlim(left, right)
    panel.set_ylim(low, high)


def draw_marks(panel: Axes, sweep: Sweep, metric: Metric, point: Any) -> None:
    """Rings around beta-VAEs, the VAE, and the hull's models for the metric; `point` gives the
    place of a row, and rows that lack the metric have none.
    """
    has = {row.model for row in measured(sweep, metric)}
    single = vae(sweep)
    for rows, colour, size in (
        (hull_rows(sweep, metric), PURPLE, 5.5),
        (beta_vaes(sweep), RED, 3.2),
        ((single[0],) if single else (), BLACK, 7.5),
    ):
        points = [point(row) for row in rows if row.model in has]
        for width, edge, order in ((2.2, "white", 3.0), (1.2, colour, 3.1)):
            panel.plot(
                *(zip(*points, strict=True) if points else ([], [])),
                ls="",
                marker="o",
                ms=size,
                mfc="none",
                mec=edge,
                mew=width,
                zorder=order,
                clip_on=False,
                in_layout=False,
            )


def draw_crosses(panel: Axes, sweep: Sweep) -> None:
    """Numbered crosses at the optima whose images Figure 4 shows."""
    for numbers, row in numbered(sweep):
        x, y = plane_point(row)
        panel.plot([x], [y], "x", ms=6, mec="white", mew=2.8, zorder=4, clip_on=False)
        panel.plot([x], [y], "x", ms=6, mec=BLUE, mew=1.4, zorder=4.1, clip_on=False)
        panel.annotate(
            numbers,
            (x, y),
            xytext=(6, 5),
            textcoords="offset points",
            color=BLUE,
            fontsize=9,
            fontweight="bold",
            zorder=4.2,
            path_effects=_HALO,
            annotation_clip=False,
        )


def numbered(sweep: Sweep) -> list[tuple[str, ModelRow]]:
    """The optima's models with their numbers; a model that is best twice has both."""
    found: dict[str, tuple[list[str], ModelRow]] = {}
    for optimum in optima(sweep):
        found.setdefault(optimum.row.model, ([], optimum.row))[0].append(str(optimum.number))
    return [(", ".join(numbers), row) for numbers, row in found.values()]


def ring(colour: str, size: float, label: str) -> Line2D:
    """A ring in a legend."""
    return Line2D([], [], ls="", marker="o", mfc="none", mec=colour, mew=1.2, ms=size, label=label)


def mark_handles(sweep: Sweep, *, crosses: bool = False) -> list[Line2D]:
    """What rings, lines and crosses are, for a legend."""
    single = vae(sweep)
    handles = [ring(BLACK, 7.5, vae_label(*single))] if single else []
    if beta_vaes(sweep):
        handles.append(ring(RED, 3.2, BETA_VAE))
    handles.append(ring(PURPLE, 5.5, "optimal for its total rate"))
    handles.append(Line2D([], [], color=GREY, lw=0.6, ls=(0, (4, 3)), label="equal total rate"))
    handles += alone_handles(sweep)
    if crosses:
        cross = Line2D([], [], ls="", marker="x", mec=BLUE, mew=1.4, ms=6, label="in Figure 4")
        handles.append(cross)
    return handles


def framed(
    sweep: Sweep, handles: list[Line2D], width: float, height: float, ratios: Sequence[float]
) -> tuple[Figure, list[Any]]:
    """A figure with what it is of above, a legend below, and subfigures side by side between."""
    figure = new_figure(width, height)
    rows: Any = figure.subfigures(2, 1, height_ratios=(height - 0.35, 0.35))
    body, foot = rows
    body.suptitle(describe(sweep), fontsize=9)
    foot.legend(handles=handles, loc="center", ncols=6, handletextpad=0.4, columnspacing=1.4)
    return figure, list(body.subfigures(1, len(ratios), width_ratios=ratios))


def vae_label(row: ModelRow, exact: bool) -> str:
    """The VAE's name in a legend, which says so where the grid has no betas of 1."""
    if exact:
        return r"VAE ($\beta_2=\beta_1=1$)"
    top, bottom = row.betas
    return rf"nearest to a VAE ($\beta_2={top:.3g}$, $\beta_1={bottom:.3g}$)"
