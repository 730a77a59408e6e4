"""Draw the town: every pipe in the colour of what its closure costs. Runs in the jobs' environment, which has matplotlib."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp(prefix="matplotlib-"))

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm

BACKGROUND, HARMLESS, INK = "#fbfaf7", "#c9cdd2", "#22303c"
HEAT = LinearSegmentedColormap.from_list("heat", ["#f6c667", "#f08a3c", "#d6342c", "#7a0f26"])


def path_of(pipe: dict[str, Any], places: dict[str, list[float]]) -> np.ndarray:
    """The line of a pipe on the map."""
    return np.array([places[pipe["from"]], *pipe["vertices"], places[pipe["to"]]])


def middle_of(path: np.ndarray) -> np.ndarray:
    """The point half-way along a line."""
    steps = np.hypot(*np.diff(path, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    half = along[-1] / 2
    return np.array([np.interp(half, along, path[:, axis]) for axis in (0, 1)])


def subtitle(facts: dict[str, Any], closures: list[dict[str, Any]]) -> str:
    """What was done, in numbers."""
    people, pipes = sum(facts["people"].values()), len(facts["pipes"])
    return (
        f"Network {facts['network']}, {people:,} people: {len(closures):,} of {pipes:,} pipes closed, one at a time, "
        f"for {facts['closed_hours']} hours. Grey: nobody falls below {facts['required_m']:.0f} m of pressure."
    )


def draw(facts: dict[str, Any], closures: list[dict[str, Any]], target: Path) -> None:
    """Write the picture."""
    cost = {closure["pipe"]: closure["person_hours"] for closure in closures}
    ranked = sorted(closures, key=lambda closure: -closure["person_hours"])
    paths = {name: path_of(pipe, facts["places"]) for name, pipe in facts["pipes"].items()}
    width = {name: 0.7 + pipe["diameter_mm"] / 150 for name, pipe in facts["pipes"].items()}
    harmless = [name for name in paths if not cost.get(name)]
    costly = sorted((name for name in paths if cost.get(name)), key=lambda name: cost[name])  # the worst on top

    figure, axes = plt.subplots(figsize=(12, 9), layout="constrained", facecolor=BACKGROUND)
    figure.get_layout_engine().set(rect=(0, 0, 1, 0.92))
    axes.set_facecolor(BACKGROUND)
    axes.add_collection(
        LineCollection([paths[name] for name in harmless], colors=HARMLESS, linewidths=[width[name] * 0.7 for name in harmless])
    )
    norm = LogNorm(max(1, min(cost[name] for name in costly)), max(cost.values()))
    shown = LineCollection(
        [paths[name] for name in costly],
        array=np.array([cost[name] for name in costly], float),
        cmap=HEAT,
        norm=norm,
        linewidths=[width[name] + 1.6 * norm(cost[name]) for name in costly],
        capstyle="round",
    )
    axes.add_collection(shown)
    _mark_sources(axes, facts)
    _mark_worst(axes, facts, ranked[:5], paths)
    axes.autoscale()
    axes.margins(0.03)
    axes.set_aspect("equal")
    axes.set_axis_off()
    figure.text(0.015, 0.975, "Which pipe can this town least do without?", va="top", fontsize=19, fontweight="bold", color=INK)
    figure.text(0.015, 0.928, subtitle(facts, closures), va="top", fontsize=11, color=INK)
    bar = figure.colorbar(shown, ax=axes, shrink=0.55, pad=0.01, aspect=28)
    bar.ax.yaxis.set_major_formatter("{x:,.0f}")
    bar.set_label("person-hours with too little water", color=INK)
    bar.outline.set_visible(False)
    axes.legend(loc="lower left", frameon=False, fontsize=10, labelcolor=INK)
    figure.savefig(target, dpi=150, facecolor=BACKGROUND)


def _mark_sources(axes: Any, facts: dict[str, Any]) -> None:
    for kind, marker, colour in (("reservoirs", "s", "#1f5fa8"), ("tanks", "o", "#5aa2d8")):
        points = np.array([facts["places"][node] for node in facts[kind]])
        axes.scatter(
            points[:, 0], points[:, 1], marker=marker, s=70, color=colour, edgecolor="white", linewidth=1, zorder=5, label=kind.capitalize()
        )


def _mark_worst(axes: Any, facts: dict[str, Any], worst: list[dict[str, Any]], paths: dict[str, np.ndarray]) -> None:
    """Name the worst pipes beside the network, on the side that is nearer, so that no label hides a pipe or another label."""
    points = np.array([middle_of(paths[closure["pipe"]]) for closure in worst])
    places = np.array(list(facts["places"].values()))
    (left, bottom), (right, top) = places.min(axis=0), places.max(axis=0)
    centre, span = (left + right) / 2, right - left
    for side, edge, anchor in ((-1, left - 0.05 * span, "right"), (1, right + 0.05 * span, "left")):
        own = [i for i in range(len(worst)) if (points[i][0] > centre) == (side > 0)]
        own.sort(key=lambda i: points[i][1])
        heights = _apart([points[i][1] for i in own], 0.09 * (top - bottom))
        for height, i in zip(heights, own, strict=True):
            closure = worst[i]
            text = axes.annotate(
                f"{i + 1}. {closure['pipe']}\n{closure['people']:,} people",
                xy=points[i],
                xytext=(edge, height),
                ha=anchor,
                va="center",
                fontsize=10.5,
                color=INK,
                fontweight="bold" if i == 0 else "normal",
                arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8, "alpha": 0.7, "shrinkB": 3},
                zorder=7,
            )
            text.set_path_effects([patheffects.withStroke(linewidth=3, foreground=BACKGROUND)])
    axes.scatter(points[:, 0], points[:, 1], s=22, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=6)


def _apart(heights: list[float], gap: float) -> list[float]:
    """Move ascending heights up until they are a gap apart."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    return placed
