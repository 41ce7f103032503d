"""The paper's Figures 3 to 9 of one sweep; Figure 1 is in `figure1`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hvae_codec.reporting.figures.figure1 import draw_metric_surface, figure1, solid_axes, surfaces
from hvae_codec.reporting.figures.plotting import (
    BETA_VAE,
    BLACK,
    BLUE,
    GREEN,
    PURPLE,
    RED,
    describe,
    draw_marks,
    draw_plane,
    framed,
    mark_handles,
    new_figure,
    numbered,
    ring,
    vae_label,
)
from hvae_codec.reporting.html.strips import Strip, folded, read_strip
from hvae_codec.reporting.metrics import (
    CLASSIFIERS,
    DIVERSITY,
    INCEPTION,
    INFORMATION,
    METRICS,
    PSNR,
    RBF_SVM,
    SHARPNESS,
    Metric,
    accuracy,
    measured,
)
from hvae_codec.reporting.results import ModelRow, Sweep
from hvae_codec.reporting.selection import beta_vaes, hull_rows, optima, vae

FIGURE_7 = (INFORMATION, *(accuracy(name) for name in CLASSIFIERS))
ALL = tuple(m for m in METRICS if ".standardised." not in m.key)
FEWEST = 3
"""Models below which a metric has no figure: they span no plane."""


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn of a sweep with the metrics that it needs."""

    name: str
    draw: Callable[[Sweep], Figure]
    metrics: tuple[Metric, ...]
    pictures: bool = False

    def lacks(self, sweep: Sweep) -> str | None:
        """Why it cannot be drawn, or None."""
        few = [m.label for m in self.metrics if len(measured(sweep, m)) < FEWEST]
        if few:
            return f"{', '.join(few)}: measured of fewer than {FEWEST} models"
        if self.pictures and any(row.picture is None for _, row in numbered(sweep)):
            return "its models have no images"
        return None


def drawings(sweep: Sweep) -> tuple[Drawing, ...]:
    """The figures of a sweep, also those for which it lacks measurements."""
    applications = (PSNR, INCEPTION, RBF_SVM)
    return (
        Drawing("fig1", figure1, applications),
        Drawing("fig1-surfaces", surfaces, applications),
        Drawing("fig3", figure3, (PSNR,)),
        Drawing("fig4", figure4, (PSNR,), pictures=True),
        Drawing("fig5", figure5, (INCEPTION, DIVERSITY, SHARPNESS)),
        Drawing("fig6", figure6, (RBF_SVM,)),
        Drawing("fig7", figure7, FIGURE_7),
        Drawing(_all_metrics_name(sweep), all_metrics, (PSNR,)),
    )


def _all_metrics_name(sweep: Sweep) -> str:
    """The paper's Figure 8 is of MNIST, its Figure 9 of LVAE."""
    if sweep.architecture == "LVAE":
        return "fig9"
    return "fig8" if sweep.data.upper().startswith("MNIST") else "all-metrics"


def figure3(sweep: Sweep) -> Figure:
    """PSNR over both rates: as a surface, and from above with the hull's models."""
    handles = mark_handles(sweep, crosses=True)
    figure, (left, right) = framed(sweep, handles, 8.8, 4.2, (1.0, 1.05))
    surface = solid_axes(left)
    draw_metric_surface(surface, sweep, PSNR)
    surface.set_title("(a) rate/rate/distortion surface")
    plane = right.add_subplot()
    title = "(b) PSNR (dB) over both rates"
    draw_plane(right, plane, sweep, PSNR, crosses=True, named_totals=True, title=title)
    return figure


def figure4(sweep: Sweep) -> Figure:
    """Samples and reconstructions of the three optima, and the originals."""
    models = [(numbers, row, _pictures(row)) for numbers, row in numbered(sweep)]
    originals = read_strip(sweep.originals, 1)[0] if sweep.originals else None
    columns = len(models) + (originals is not None)
    figure = new_figure(2.05 * columns + 0.3, 2.95)
    panels = figure.subplots(2, columns, squeeze=False)
    for column, (numbers, row, (reconstructions, samples)) in enumerate(models):
        _show(panels[0, column], samples)
        _show(panels[1, column], reconstructions)
        panels[0, column].set_title(f"{numbers}", color=BLUE, fontweight="bold", fontsize=11)
        panels[1, column].set_xlabel(_figures_of(row), fontsize=7, color="#333333")
    panels[0, 0].set_ylabel("samples")
    panels[1, 0].set_ylabel("reconstructions")
    if originals is not None:
        panels[0, -1].set_axis_off()
        _show(panels[1, -1], originals)
        panels[1, -1].set_xlabel("originals", fontsize=7, color="#333333")
    best = ", ".join(f"{o.number}: best {o.metric.label}" for o in optima(sweep))
    figure.suptitle(f"{describe(sweep)}\n{best}", fontsize=8.5)
    return figure


def figure5(sweep: Sweep) -> Figure:
    """Inception Score and its two factors over both rates."""
    metrics = (INCEPTION, DIVERSITY, SHARPNESS)
    titles = ("Inception Score", "diversity $e^{H[p(y)]}$", "sharpness $e^{-E\\,H[p(y|x)]}$")
    return _planes(sweep, metrics, columns=3, crosses=True, titles=titles)


def figure6(sweep: Sweep) -> Figure:
    """RBF-SVM accuracy on mu_2 over the total rate, its upper hull and its bounds (Eq. 11)."""
    figure = new_figure(4.6, 3.4)
    panel = figure.add_subplot()
    rows = measured(sweep, RBF_SVM)
    rates = [row.total_rate_nats for row in rows]
    panel.scatter(
        rates, [100 * row.values[RBF_SVM.key] for row in rows], s=9, c="#b8c4d6", linewidths=0
    )
    handles = [_dot("#b8c4d6", "a model")]
    for key, label, colour, line in (
        ("bounds.z1.rate", "$f^{-1}(R)$", BLACK, (0, (4, 3))),
        ("bounds.z2.information", "$f^{-1}(I_q(y; z_2))$ of each model", GREEN, None),
    ):
        bound = sorted((r.total_rate_nats, 100 * r.values[key]) for r in rows if key in r.values)
        if not bound:
            continue
        x, y = zip(*bound, strict=True)
        style: dict[str, Any] = (
            {"ls": line, "lw": 0.9} if line else {"ls": "", "marker": "_", "ms": 4, "mew": 0.8}
        )
        panel.plot(x, y, color=colour, label=label, **style)
        handles.append(Line2D([], [], color=colour, label=label, **style))
    hull = _hull_line(sweep)
    panel.plot(*hull, color=PURPLE, lw=1.0, zorder=2.8)
    draw_marks(panel, sweep, RBF_SVM, lambda r: (r.total_rate_nats, RBF_SVM.of(r)))
    single = vae(sweep)
    handles += [ring(PURPLE, 5.5, "upper convex hull")]
    handles += [ring(RED, 3.2, BETA_VAE)] if beta_vaes(sweep) else []
    handles += [ring(BLACK, 7.5, vae_label(*single))] if single else []
    panel.set_xlabel("total rate $R$ (nats)")
    panel.set_ylabel("RBF-SVM accuracy on $\\mu_2$ (%)")
    figure.suptitle(describe(sweep), fontsize=8.5)
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def figure7(sweep: Sweep) -> Figure:
    """I_q(y; z2) and the accuracies of four classifiers on mu_2 over both rates."""
    return _planes(sweep, FIGURE_7, columns=3)


def all_metrics(sweep: Sweep) -> Figure:
    """Every metric that was measured, over both rates (the paper's Figures 8 and 9)."""
    metrics = [m for m in ALL if len(measured(sweep, m)) >= FEWEST]
    return _planes(sweep, metrics, columns=4)


def _planes(
    sweep: Sweep,
    metrics: Sequence[Metric],
    *,
    columns: int,
    crosses: bool = False,
    titles: Sequence[str | None] | None = None,
) -> Figure:
    """A plane of rates per metric, in rows; axes are named at the left and below only."""
    rows = -(-len(metrics) // columns)
    width = 8.4 if columns == 3 else 9.6
    figure = new_figure(width, rows * width / columns * 0.84 + 0.75)
    panels = figure.subplots(rows, columns, squeeze=False)
    for index, panel in enumerate(panels.flat):
        if index >= len(metrics):
            panel.set_axis_off()
            continue
        title = titles[index] if titles else None
        with_crosses = crosses and index == 0
        draw_plane(figure, panel, sweep, metrics[index], crosses=with_crosses, title=title)
        if index % columns:
            panel.set_ylabel("")
        if index + columns < len(metrics):
            panel.set_xlabel("")
    figure.suptitle(describe(sweep), fontsize=9)
    handles = mark_handles(sweep, crosses=crosses)
    figure.legend(handles=handles, loc="outside lower center", ncols=5, handletextpad=0.4)
    return figure


def _pictures(row: ModelRow) -> tuple[Strip, Strip]:
    assert row.picture is not None
    reconstructions, samples = read_strip(row.picture, 2)
    return reconstructions, samples


def _show(panel: object, strip: Strip) -> None:
    picture = folded(strip)
    if picture.shape[2] == 1:
        picture = picture.repeat(3, axis=2)
    panel.imshow(picture, interpolation="nearest")  # type: ignore[attr-defined]
    panel.set(xticks=[], yticks=[])  # type: ignore[attr-defined]
    panel.spines[:].set_visible(False)  # type: ignore[attr-defined]


def _figures_of(row: ModelRow) -> str:
    top, bottom = row.rates_nats
    lines = [f"$R(z_2)$ = {top:.1f}, $R(z_1|z_2)$ = {bottom:.1f} nats"]
    found = [(m, m.of(row)) for m in (PSNR, INCEPTION)]
    lines.append(", ".join(f"{m.symbol} {m.text(v)}" for m, v in found if v is not None))
    return "\n".join(lines)


def _hull_line(sweep: Sweep) -> tuple[list[float], list[float]]:
    rows = hull_rows(sweep, RBF_SVM)
    return [r.total_rate_nats for r in rows], [100 * r.values[RBF_SVM.key] for r in rows]


def _dot(colour: str, label: str) -> Line2D:
    return Line2D([], [], ls="", marker="o", mfc=colour, mec="none", ms=3.5, label=label)
