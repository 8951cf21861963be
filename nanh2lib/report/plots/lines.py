"""General figures: lines over a common axis, and bars of counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from nanh2lib.errors import InputError
from nanh2lib.report.html_table import typeset
from nanh2lib.report.plots.style import (
    DASHES,
    MARKERS,
    ReportFigure,
    cycle_colors,
    finite_array,
    folded,
    guide_line,
    ink,
    new_figure,
    plain_log,
    styled,
)


@styled
def line_plot(
    x: ArrayLike,
    curves: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, float] | None = None,
    band: tuple[float, float] | None = None,
    points: bool = False,
    log: bool = False,
    legend: Literal["inside", "above"] = "inside",
) -> ReportFigure:
    """Draw curves over one axis.

    Parameters
    ----------
    x : array_like, shape (n,)
    curves : mapping
        Values (n,) by name.
    xlabel, ylabel : str
        With units.
    marks : mapping, optional
        Named positions on the x axis, drawn as dashed lines.
    band : tuple of float, optional
        Range of y that is shaded: where values should lie.
    points : bool
        Mark each point.
    log : bool
        Logarithmic y axis.
    legend : {"inside", "above"}
        Above the axes where curves fill them.

    Raises
    ------
    InputError
        No curve, or lengths differ.
    """
    if not curves:
        raise InputError("line plot: nothing to draw; give {name: values}")
    positions = finite_array(x, "x values")
    figure, (axes,) = new_figure(6.2, 3.7)
    if band is not None:
        axes.axhspan(*band, color=ink(), alpha=0.10, linewidth=0)
    for k, ((name, values), color) in enumerate(zip(curves.items(), cycle_colors(len(curves)), strict=True)):
        y = finite_array(values, name)
        if len(y) != len(positions):
            raise InputError(f"line plot: {name!r} has {len(y)} values for {len(positions)} positions")
        marker = MARKERS[k % len(MARKERS)] if points else None
        axes.plot(positions, y, color=color, linestyle=DASHES[k % len(DASHES)], marker=marker, label=name)
    for name, position in (marks or {}).items():
        guide_line(axes, x=position, label=name)
    if log:
        axes.set_yscale("log")
        plain_log(axes.yaxis)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if legend == "above":
        figure.legend(loc="outside upper center", ncols=len(curves))
    elif len(curves) > 1:
        axes.legend()
    return figure


@styled
def count_bars(
    counts: Mapping[str, Mapping[str, float]], *, xlabel: str, log: bool = False, decimals: int = 0
) -> ReportFigure:
    """Draw horizontal bars, e.g. failed checks by name for several sets.

    Parameters
    ----------
    counts : mapping of mapping
        Number by row, by data set.
    xlabel : str
    log : bool
        Logarithmic axis; zeros are left out.
    decimals : int
        Of the numbers written beside the bars.

    Raises
    ------
    InputError
        Nothing to draw.
    """
    rows = list(dict.fromkeys(row for data in counts.values() for row in data))
    if not rows:
        raise InputError("bars: nothing to draw; give {data set: {row: number}}")
    names = [folded(typeset(row)) for row in rows]
    lines = max(name.count("\n") + 1 for name in names)
    figure, (axes,) = new_figure(6.6, (0.26 + 0.05 * lines) * len(rows) * max(1.0, 0.7 * len(counts)) + 1.3)
    height = 0.82 / len(counts)
    y = np.arange(len(rows))
    for k, (name, color) in enumerate(zip(counts, cycle_colors(len(counts)), strict=True)):
        widths = [float(counts[name].get(row, 0.0)) for row in rows]
        bars = axes.barh(y + (k - (len(counts) - 1) / 2) * height, widths, height, color=color, label=name)
        axes.bar_label(bars, [f"{value:.{decimals}f}" for value in widths], fontsize=8.5, padding=2)
    axes.set_yticks(y, names)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    if log:
        axes.set_xscale("log")
        plain_log(axes.xaxis)
    elif decimals == 0:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    if len(counts) > 1:
        axes.legend()
    return figure


@styled
def scatter_groups(points: Mapping[str, tuple[ArrayLike, ArrayLike]], *, xlabel: str, ylabel: str) -> ReportFigure:
    """Draw points by group.

    Parameters
    ----------
    points : mapping
        (x (n,), y (n,)) by group.
    xlabel, ylabel : str
        With units.

    Raises
    ------
    InputError
        No group, or lengths differ.
    """
    if not points:
        raise InputError("scatter: nothing to draw; give {group: (x, y)}")
    figure, (axes,) = new_figure(6.8, 4.0)
    for k, ((name, (first, second)), color) in enumerate(zip(points.items(), cycle_colors(len(points)), strict=True)):
        x, y = finite_array(first, f"x of {name!r}"), finite_array(second, f"y of {name!r}")
        if len(x) != len(y):
            raise InputError(f"scatter: {name!r} has {len(x)} x but {len(y)} y values")
        axes.scatter(x, y, s=34, alpha=0.85, linewidths=0, color=color, marker=MARKERS[k % len(MARKERS)], label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if len(points) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure
