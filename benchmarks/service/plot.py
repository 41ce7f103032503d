"""The image of the service's benchmark: latency against load, rates, and the soak if any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common import figure

COLOURS = {"p50": "#2a6f97", "p95": "#e09f3e", "p99": "#9e2a2b"}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw a result of `benchmarks.service` as a PNG."""
    soak = result.get("soak")
    panels = 3 if soak is not None else 2
    with figure(path, 1, panels, figsize=(5.2 * panels, 4.2)) as (_, axes):
        _latency(axes[0], result["open"])
        _rates(axes[1], result["closed"])
        if soak is not None:
            _soak(axes[2], soak)


def _latency(axes: Any, rows: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import LogLocator

    offered = [row["offered_per_second"] for row in rows]
    for name, colour in COLOURS.items():
        values = [row["milliseconds"][name] for row in rows]
        axes.plot(offered, values, marker="o", color=colour, label=name)
    capacity = next(row["offered_per_second"] / row["share_of_capacity"] for row in rows)
    axes.axvline(capacity, color="0.6", linestyle=":", linewidth=1)
    axes.set_yscale("log")
    axes.text(capacity, axes.get_ylim()[0], " closed loop", color="0.4", va="bottom", fontsize=8)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set(
        xlabel="single-image calls offered a second",
        ylabel="latency, ms",
        title="Encode: latency against offered load",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)


def _rates(axes: Any, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(row["form"] for row in rows))
    height = 0.38
    for number, (kind, colour) in enumerate((("encode", "#2a6f97"), ("decode", "#e09f3e"))):
        values = {r["form"]: r["ratio_to_in_process"] for r in rows if r["kind"] == kind}
        places = [at + (number - 0.5) * height for at in range(len(names))]
        axes.barh(places, [values[name] for name in names], height, color=colour, label=kind)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(1.0, color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="images/s over those of the codec in one process", title="Closed loop")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(frameon=False, loc="upper right")


def _soak(axes: Any, soak: dict[str, Any]) -> None:
    series = soak["answered_per_second"]
    axes.plot(range(len(series)), series, color="#2a6f97", linewidth=1)
    began, lasted = soak["overload_began"], soak["overload_seconds"]
    axes.axvspan(began, began + lasted, color="#9e2a2b", alpha=0.15, label="ten times the capacity")
    axes.set(
        xlabel="seconds",
        ylabel=f"calls of {soak['images_of_a_request']} images answered a second",
        title="Soak: what callers within the capacity get",
    )
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
