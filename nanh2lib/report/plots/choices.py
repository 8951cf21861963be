"""One choice changed at a time: what each does to several measures."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from nanh2lib.errors import InputError
from nanh2lib.report.plots.style import MARKERS, ReportFigure, cycle_colors, ink, new_figure, quiet, styled


@styled
def choice_panels(
    groups: Mapping[str, Mapping[str, Mapping[str, float]]],
    measures: Mapping[str, str],
    *,
    reference: Mapping[str, float] | None = None,
    log: Collection[str] = (),
) -> ReportFigure:
    """Draw one row for each choice and one column for each measure.

    Parameters
    ----------
    groups : mapping
        ``{group: {choice: {measure: value}}}``.
    measures : mapping
        Axis label with unit by measure.
    reference : mapping, optional
        Value of a measure that is marked by a dashed line, e.g. that of the base.
    log : collection of str
        Measures on a logarithmic axis.

    Raises
    ------
    InputError
        Nothing to draw, or a choice lacks a measure.
    """
    rows = [(group, name, values) for group, members in groups.items() for name, values in members.items()]
    if not rows or not measures:
        raise InputError("choice panels: nothing to draw; give {group: {choice: {measure: value}}} and measures")
    for group, name, values in rows:
        if not set(measures) <= set(values):
            missing = ", ".join(sorted(set(measures) - set(values)))
            raise InputError(f"choice panels: {group} = {name} lacks {missing}")
    height = 0.27 * len(rows) + 0.33 * len(groups) + 1.0
    figure, columns = new_figure(2.35 * len(measures) + 1.2, height, columns=len(measures), sharey=True)
    palette = dict(zip(groups, cycle_colors(len(groups)), strict=True))
    places, ticks, y = [], [], 0.0
    for k, (group, members) in enumerate(groups.items()):
        columns[0].text(0.0, y, f" {group}", transform=columns[0].get_yaxis_transform(), va="center", weight="bold")
        for axes in columns:
            axes.axhline(y, color=quiet(), linewidth=0.8)
        y += 1
        for name, values in members.items():
            for axes, measure in zip(columns, measures, strict=True):
                axes.plot([values[measure]], [y], marker=MARKERS[k % len(MARKERS)], color=palette[group])
            places.append(y)
            ticks.append(name)
            y += 1
    columns[0].set_yticks(places, ticks)
    columns[0].invert_yaxis()
    for axes, (measure, label) in zip(columns, measures.items(), strict=True):
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
        if measure in log:
            axes.set_xscale("log")
        if reference and measure in reference:
            axes.axvline(reference[measure], color=ink(), linestyle="--", linewidth=1.0, alpha=0.7)
    return figure
