"""Figure 1: what the three applications make of the same models; and surfaces over the rates."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from numpy.typing import NDArray

from hvae_codec.reporting.figures.mesh import facets
from hvae_codec.reporting.figures.plotting import (
    BETA_VAE,
    BLACK,
    COLOURS,
    PURPLE,
    RATE_BOTTOM,
    RATE_TOP,
    RED,
    SHAPES,
    Axes,
    alone_handles,
    draw_alone,
    draw_marks,
    framed,
    rate_arrays,
    ring,
    vae_label,
    value_limits,
)
from hvae_codec.reporting.metrics import INCEPTION, PSNR, RBF_SVM, Metric, measured
from hvae_codec.reporting.results import ModelRow, Sweep
from hvae_codec.reporting.selection import axes, beta_vaes, is_grid, optima, vae

Array = NDArray[np.float64]

# Corners of the code (beta_2, beta_1) -> colour: blue to orange along beta_2, dark to light along
# beta_1, so that neither direction needs red told from green.
_CORNERS = np.array(
    [[[0.00, 0.22, 0.42], [0.55, 0.80, 0.95]], [[0.48, 0.20, 0.00], [1.00, 0.82, 0.45]]]
)
_APPLICATIONS = (
    (PSNR, "reconstruction"),
    (RBF_SVM, "representation"),
    (INCEPTION, "generation"),
)


def code_colours(sweep: Sweep, rows: tuple[ModelRow, ...]) -> Array:
    """Figure 1's colour of each model, float64 [N, 3] in [0, 1], by its betas' logarithms."""
    u, v = (_unit(np.array([row.betas[layer] for row in rows])) for layer in (0, 1))
    u, v = u[:, None], v[:, None]
    low = (1 - v) * _CORNERS[0, 0] + v * _CORNERS[0, 1]
    high = (1 - v) * _CORNERS[1, 0] + v * _CORNERS[1, 1]
    return np.asarray((1 - u) * low + u * high)


def _unit(betas: Array) -> Array:
    """Places of betas between their least, 0, and their greatest, 1, by the logarithm."""
    logs = np.log(np.maximum(betas, 1e-6))
    span = float(np.ptp(logs))
    return np.asarray((logs - logs.min()) / span if span else np.full(len(logs), 0.5))


def figure1(sweep: Sweep) -> Figure:
    """PSNR, Inception Score and RBF-SVM accuracy against each other, coloured by the betas; the
    colour code; the rates; and a landscape over the betas for each.
    """
    figure, (left, right) = framed(sweep, _legend(sweep), 9.6, 4.6, (1.0, 1.22))
    _draw_trade_off(solid_axes(left), sweep)
    panels = right.subplot_mosaic([["code"] * 3 + ["rates"] * 3, ["a", "a", "b", "b", "c", "c"]])
    _draw_code(panels["code"], panels["rates"], sweep)
    for panel, (metric, name) in zip((panels[k] for k in "abc"), _APPLICATIONS, strict=True):
        draw_landscape(panel, sweep, metric, name)
    panels["b"].set_ylabel("")
    panels["c"].set_ylabel("")
    return figure


def surfaces(sweep: Sweep) -> Figure:
    """PSNR, Inception Score and RBF-SVM accuracy over R(z2) and R(z1|z2), as surfaces."""
    hull = ring(PURPLE, 5.5, "optimal for its total rate")
    handles = [*_legend(sweep, line=False), hull, *alone_handles(sweep)]
    figure, parts = framed(sweep, handles, 11.0, 4.0, (1, 1, 1))
    for part, (metric, name) in zip(parts, _APPLICATIONS, strict=True):
        panel = solid_axes(part)
        draw_metric_surface(panel, sweep, metric)
        panel.set_title(f"{name}: {metric.symbol}")
    return figure


def solid_axes(part: Any) -> Axes:
    """3D axes that fill a subfigure; the layout engine, which cannot measure them, leaves them."""
    return part.add_axes((0.05, 0.0, 0.88, 0.95), projection="3d", computed_zorder=False)


def draw_metric_surface(panel: Axes, sweep: Sweep, metric: Metric) -> None:
    """A metric over both rates in 3D, coloured by itself, with the baselines and the optima."""
    import matplotlib as mpl

    rows = measured(sweep, metric)
    x, y = rate_arrays(rows)
    z = np.array([metric.of(row) for row in rows], dtype=float)
    limits = value_limits(sweep, metric)
    scale = mpl.colors.Normalize(limits["vmin"], limits["vmax"])
    colours = np.asarray(mpl.colormaps[COLOURS](scale(z)))[:, :3]
    _draw_surface(panel, sweep, rows, np.stack([x, y, z], axis=1), colours)
    draw_alone(panel, sweep, metric, lambda row: (*row.rates_nats, metric.of(row)))
    draw_marks(panel, sweep, metric, lambda row: (*row.rates_nats, metric.of(row)))
    _draw_optima(panel, sweep, lambda row: (*row.rates_nats, metric.of(row)))
    panel.set_xlabel(RATE_TOP)
    panel.set_ylabel(RATE_BOTTOM)
    panel.set_zlabel(metric.title)
    _look(panel, azimuth=-128)


def draw_landscape(panel: Axes, sweep: Sweep, metric: Metric, application: str) -> None:
    """A metric over the betas: the larger the dot, the better; the optimum and the baselines."""
    rows = measured(sweep, metric)
    scores = np.array([metric.score(row) for row in rows])
    span = float(np.ptp(scores)) or 1.0
    largest = 900.0 / max(len(axes(rows)[0]), len(axes(rows)[1])) ** 1.55
    sizes = 1.0 + largest * ((scores - scores.min()) / span) ** 2
    x, y = ([row.betas[layer] for row in rows] for layer in (0, 1))
    panel.scatter(x, y, s=sizes, c=code_colours(sweep, rows), linewidths=0)
    same = [row.betas[0] for row in beta_vaes(sweep)]
    if same:
        panel.plot([same[0], same[-1]], [same[0], same[-1]], ls=(0, (4, 3)), lw=0.9, color=RED)
    single = vae(sweep)
    if single is not None:
        panel.plot(*([b] for b in single[0].betas), "o", ms=6, mfc="none", mec=BLACK, mew=1.2)
    for optimum in optima(sweep):
        if optimum.application == application:
            place = [[beta] for beta in optimum.row.betas]
            panel.plot(*place, ls="", clip_on=False, **_marker(application))
    panel.set(xscale="log", yscale="log", xlabel="$\\beta_2$", ylabel="$\\beta_1$")
    panel.set_box_aspect(1)
    panel.set_title(f"{application}\n{metric.symbol}", fontsize=7.5)


def _draw_trade_off(panel: Axes, sweep: Sweep) -> None:
    metrics = (PSNR, RBF_SVM, INCEPTION)
    rows = tuple(row for row in sweep.rows if all(m.key in row.values for m in metrics))
    points = np.array([[m.of(row) for m in metrics] for row in rows], dtype=float)
    _draw_surface(panel, sweep, rows, points, code_colours(sweep, rows))
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.06 * np.where(high > low, high - low, 1.0)
    walls = (low[0] - margin[0], high[1] + margin[1], low[2] - margin[2])
    for axis, wall in enumerate(walls):
        shadow = points.copy()
        shadow[:, axis] = wall
        panel.scatter(*shadow.T, s=2.0, c="#b0b0b0", linewidths=0, depthshade=False, zorder=0)
    shown = {row.model for row in rows}
    _draw_optima(panel, sweep, lambda r: tuple(m.of(r) for m in metrics), shown)
    panel.set(
        xlim=(walls[0], high[0] + margin[0]),
        ylim=(low[1] - margin[1], walls[1]),
        zlim=(walls[2], high[2] + margin[2]),
        xlabel=PSNR.title,
        ylabel=RBF_SVM.title,
        zlabel="Inception Score",
    )
    _look(panel, azimuth=-52)


def _draw_code(code: Axes, rates: Axes, sweep: Sweep) -> None:
    """The colour code over the betas, and where its colours are in the plane of rates."""
    rows = sweep.rows
    colours = code_colours(sweep, rows)
    size = (108.0 / max(map(len, axes(rows)))) ** 2 if is_grid(sweep) else 30.0
    x, y = ([row.betas[layer] for row in rows] for layer in (0, 1))
    code.scatter(x, y, s=size, c=colours, marker="s", linewidths=0)
    code.set(xscale="log", yscale="log", xlabel="$\\beta_2$", ylabel="$\\beta_1$")
    code.set_title("colour code", fontsize=7.5)
    rates.scatter(*rate_arrays(rows), s=max(4.0, size / 12), c=colours, linewidths=0)
    rates.set(xlabel=RATE_TOP, ylabel=RATE_BOTTOM)
    rates.set_title("rates", fontsize=7.5)


def _draw_surface(
    panel: Axes, sweep: Sweep, rows: tuple[ModelRow, ...], points: Array, colours: Array
) -> None:
    """The cells of a grid in 3D with colours [N, 3] between their corners; the models as dots."""
    patch = facets(sweep, rows, np.concatenate([points, colours], axis=1))
    if len(patch):
        shades = patch[:, :, 3:].mean(axis=1).clip(0, 1)
        look = {"facecolors": shades, "edgecolors": shades, "linewidths": 0.3}
        surface = Poly3DCollection(list(patch[:, :, :3]), zorder=1, rasterized=True, **look)
        panel.add_collection3d(surface)
    size = 2.0 if is_grid(sweep) else 14.0
    panel.scatter(*points.T, s=size, c=colours * 0.75, linewidths=0, depthshade=False, zorder=2)


def _draw_optima(panel: Axes, sweep: Sweep, point: object, shown: set[str] | None = None) -> None:
    for optimum in optima(sweep):
        if shown is not None and optimum.row.model not in shown:
            continue
        place = point(optimum.row)  # type: ignore[operator]
        if None in place:
            continue
        look = _marker(optimum.application)
        panel.plot(*([value] for value in place), ls="", zorder=5, **look)


def _look(panel: Axes, azimuth: float) -> None:
    """The 3D axes' light look and the direction from which they are seen."""
    panel.view_init(elev=24, azim=azimuth)
    panel.set_box_aspect((1, 1, 0.85), zoom=0.92)
    for axis in (panel.xaxis, panel.yaxis, panel.zaxis):
        axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
        axis.line.set_color("#888888")
        axis.labelpad = 1
        axis.set_major_locator(MaxNLocator(4))
        axis._axinfo["grid"].update(color="#dddddd", linewidth=0.5)
    panel.tick_params(pad=0)


def _legend(sweep: Sweep, *, line: bool = True) -> list[Line2D]:
    """Optima and baselines; beta-VAEs are a line over the betas, rings elsewhere."""
    handles = [
        Line2D([], [], ls="", label=f"best {o.application}", **_marker(o.application))
        for o in optima(sweep)
    ]
    single = vae(sweep)
    if single is not None:
        handles.append(ring(BLACK, 6, vae_label(*single)))
    if beta_vaes(sweep):
        dashed = Line2D([], [], ls=(0, (4, 3)), color=RED, label=BETA_VAE)
        handles.append(dashed if line else ring(RED, 3.2, BETA_VAE))
    return handles


def _marker(application: str) -> dict[str, Any]:
    """An optimum's marker; the star is larger to look as large."""
    shape, size = SHAPES[application], 10 if application == "representation" else 7
    return {"marker": shape, "ms": size, "mfc": "white", "mec": BLACK, "mew": 1.1}
