"""Figures of what a search costs: evaluations per hit, best energy against budget, energies before and after."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike

from nanh2lib.errors import InputError
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
    quiet,
    styled,
    symbol_text,
)

ROW = 0.30
"""Height of a line of names, inches."""
Interval = tuple[float, float, float]
"""Value, low end, high end; an end may be infinite."""


def _rows(panels: Sequence[Axes], groups: Mapping[str, Collection[str]]) -> dict[tuple[str, str], int]:
    """Lay out named rows below the titles of their groups; height of each (group, row)."""
    places: dict[tuple[str, str], int] = {}
    y = 0
    for group, rows in groups.items():
        title = f" {symbol_text(group)}"
        panels[0].text(0.0, y, title, transform=panels[0].get_yaxis_transform(), va="center", weight="bold")
        for axes in panels:
            axes.axhline(y, color=quiet(), linewidth=0.8)
        y += 1
        for row in rows:
            places[group, row] = y
            y += 1
    panels[0].set_yticks(list(places.values()), [folded(row) for _, row in places])
    panels[0].set_ylim(y - 0.3, -0.7)
    for axes in panels:
        axes.grid(visible=False, axis="y")
    return places


def _looks(groups: Mapping[str, Collection[str]]) -> dict[str, tuple[str, int]]:
    """Colour and number of each row's name; names that differ in brackets only are one method."""
    names = [row for rows in groups.values() for row in rows]
    methods = list(dict.fromkeys(_method(name) for name in names))
    colors = cycle_colors(len(methods))
    return {name: (colors[k := methods.index(_method(name))], k) for name in names}


def _method(name: str) -> str:
    return name.split(" (")[0]


def _panels(count: int, groups: Mapping[str, Collection[str]]) -> tuple[ReportFigure, list[Axes]]:
    rows = sum(len(members) + 1 for members in groups.values())
    folds = any("\n" in folded(name) for members in groups.values() for name in members)
    height = 1.25 * ROW if folds else ROW
    return new_figure(2.4 * count + 2.2, height * rows + 1.0, columns=count, sharey=True)


@styled
def interval_panels(
    groups: Mapping[str, Mapping[str, Mapping[str, Interval]]],
    panels: Mapping[str, str],
    *,
    bounds: Collection[tuple[str, str, str]] = (),
    reference: float | None = None,
    missing: str = "no hit",
) -> ReportFigure:
    """Draw values with intervals as a forest plot on logarithmic axes, one column a measure.

    Parameters
    ----------
    groups : mapping
        ``{group: {row: {panel: (value, low, high)}}}``; ends that are infinite, or zero, run to
        the edge with an arrow. Groups are space-group symbols.
    panels : mapping
        Axis label with unit by panel.
    bounds : collection of (group, row, panel)
        Values that are only one-sided bounds: drawn open.
    reference : float, optional
        Dashed vertical line in each panel.
    missing : str
        Written where a row has nothing in a panel.

    Raises
    ------
    InputError
        Nothing to draw.
    """
    if not panels or not any(groups.values()):
        raise InputError("interval panels: nothing to draw; give {group: {row: {panel: (value, low, high)}}}")
    figure, columns = _panels(len(panels), groups)
    places, looks = _rows(columns, groups), _looks(groups)
    for axes, (panel, label) in zip(columns, panels.items(), strict=True):
        here = {place: groups[place[0]][place[1]].get(panel) for place in places}
        ends = [x for triple in here.values() if triple for x in triple if np.isfinite(x) and x > 0]
        left, right = (min(ends) / 1.8, max(ends) * 1.8) if ends else (0.5, 2.0)
        _log_axis(axes, left, right)
        for place, triple in here.items():
            color, number = looks[place[1]]
            marker = MARKERS[number % len(MARKERS)]
            if triple is None:
                axes.text(left, places[place], f"  {missing}", va="center", fontsize="small", style="italic")
            else:
                _interval(axes, places[place], triple, color, marker, is_bound=(*place, panel) in bounds)
        if reference is not None:
            axes.axvline(reference, color=ink(), linestyle="--", linewidth=1.0, alpha=0.7)
        axes.set_xlabel(label)
    return figure


def _log_axis(axes: Axes, left: float, right: float) -> None:
    """Logarithmic axis with ticks at powers of ten, and between them on a short one."""
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.xaxis.set_minor_formatter(NullFormatter())
    if right / left < 200:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if right / left > 20 else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _interval(axes: Axes, y: int, triple: Interval, color: str, marker: str, *, is_bound: bool) -> None:
    """One row: the interval as a bar, arrows where it leaves the axis, the value as a marker (open: a bound)."""
    value, low, high = triple
    left, right = axes.get_xlim()
    axes.plot([max(low, left), min(high, right)], [y, y], color=color, linewidth=2.2, solid_capstyle="butt")
    for beyond, edge, arrow in ((low < left, left, "<"), (high > right, right, ">")):
        if beyond:
            axes.plot([edge], [y], marker=arrow, color=color, clip_on=False)
    face = axes.get_facecolor() if is_bound else color
    axes.plot([value], [y], marker=marker, markersize=7, markerfacecolor=face, markeredgecolor=color, zorder=3)


@styled
def budget_curves(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]]],
    *,
    ylabel: str = "Best energy above α-NaNH$_2$\n(meV per formula unit)",
    xlabel: str = "Energy evaluations",
    levels: Mapping[str, float] | None = None,
) -> ReportFigure:
    """Draw the best energy found against the evaluations spent, one panel a template, with bands.

    Parameters
    ----------
    panels : mapping of mapping
        (evaluations (n,), middle (n,), low (n,), high (n,)) by method, by space-group symbol.
    ylabel, xlabel : str
    levels : mapping, optional
        Named horizontal lines, e.g. ``{"20 meV above alpha": 20.0}``.

    Raises
    ------
    InputError
        Nothing to draw; lengths differ or values are NaN.
    """
    if not any(panels.values()):
        raise InputError("budget curves: nothing to draw; give {template: {method: (evaluations, middle, low, high)}}")
    figure, places = new_figure(6.8, 3.6 * len(panels) + 0.5, rows=len(panels), sharex=True)
    looks = _looks(panels)
    for axes, (template, curves) in zip(places, panels.items(), strict=True):
        for name, columns in curves.items():
            x, middle, low, high = (finite_array(column, f"budget curve {name!r}") for column in columns)
            if not len(x) == len(middle) == len(low) == len(high):
                raise InputError(f"budget curve {name!r}: its four columns differ in length")
            color, number = looks[name]
            dash = DASHES[number % len(DASHES)]
            axes.step(x, middle, where="post", color=color, linestyle=dash, label=name)
            axes.fill_between(x, low, high, step="post", color=color, alpha=0.12, linewidth=0)
        for name, level in (levels or {}).items():
            guide_line(axes, y=level, label=name)
        axes.set_xscale("log")
        axes.set_title(symbol_text(template), loc="left")
        axes.set_ylabel(ylabel)
        if curves:
            bottom, top = axes.get_ylim()
            axes.set_ylim(bottom, top + 0.06 * len(curves) * (top - bottom))  # room for the legend above the curves
            axes.legend(fontsize=8, loc="upper right")
    places[-1].set_xlabel(xlabel)
    return figure


@styled
def energy_boxes(
    groups: Mapping[str, Mapping[str, Mapping[str, ArrayLike]]],
    panels: Mapping[str, str],
    *,
    log: Collection[str] = (),
    levels: Mapping[str, float] | None = None,
) -> ReportFigure:
    """Draw how energies are spread, one row a method, one column a stage.

    Boxes hold the middle half, whiskers reach from the 2nd to the 98th percentile, dots are the lowest.

    Parameters
    ----------
    groups : mapping
        Energies (n,) as ``{group: {row: {panel: energies}}}``, in the unit of the axis labels. Groups are
        space-group symbols.
    panels : mapping
        Axis label with unit by panel.
    log : collection of str
        Panels with a logarithmic axis.
    levels : mapping, optional
        Named vertical lines in the panels that are not logarithmic.

    Raises
    ------
    InputError
        Nothing to draw, or energies with NaN.
    """
    if not panels or not any(groups.values()):
        raise InputError("energy boxes: nothing to draw; give {group: {row: {panel: energies}}}")
    figure, columns = _panels(len(panels), groups)
    places, looks = _rows(columns, groups), _looks(groups)
    for axes, (panel, label) in zip(columns, panels.items(), strict=True):
        for (group, row), y in places.items():
            values = finite_array(groups[group][row][panel], f"{panel} energies of {row!r} in {group}")
            low, first, middle, third, high = np.percentile(values, [2, 25, 50, 75, 98])
            axes.plot([low, high], [y, y], color=ink(), linewidth=1.2, zorder=2)
            axes.barh([y], [third - first], 0.6, left=[first], color=looks[row][0], edgecolor=ink(), zorder=3)
            axes.plot([middle, middle], [y - 0.3, y + 0.3], color=ink(), zorder=4)
            axes.plot([values.min()], [y], marker="o", markersize=3.5, color=ink(), zorder=4)
        if panel in log:
            axes.set_xscale("log")
        else:
            for name, level in (levels or {}).items():
                guide_line(axes, x=level, label=name)
        axes.set_xlabel(label)
    return figure
