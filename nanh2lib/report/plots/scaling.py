"""Who computed what, and when: work units on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanh2lib.errors import InputError
from nanh2lib.report.plots.style import ReportFigure, cycle_colors, guide_line, new_figure, styled


@styled
def worker_timeline(
    spans: Mapping[str, Sequence[tuple[float, float]]], *, marks: Mapping[str, float] | None = None
) -> ReportFigure:
    """Draw each unit of work as a bar in the row of its worker.

    Parameters
    ----------
    spans : mapping
        Begin and end of each unit, in seconds, by worker.
    marks : mapping, optional
        Named moments, drawn as dashed lines.

    Raises
    ------
    InputError
        No worker, or a unit that ends before it begins.
    """
    if not any(spans.values()):
        raise InputError("timeline: nothing to draw; give {worker: [(begin, end), ...]}")
    figure, (axes,) = new_figure(6.6, 0.42 * len(spans) + 1.1)
    for row, ((name, units), color) in enumerate(zip(spans.items(), cycle_colors(len(spans)), strict=True)):
        if any(end < begin for begin, end in units):
            raise InputError(f"timeline: a unit of {name!r} ends before it begins")
        bars = [(begin, end - begin) for begin, end in units]
        axes.broken_barh(bars, (row - 0.36, 0.72), facecolors=color, edgecolors=axes.get_facecolor(), linewidth=1.2)
    for name, moment in (marks or {}).items():
        guide_line(axes, x=moment, label=name)
    axes.set_yticks(range(len(spans)), list(spans))
    axes.invert_yaxis()
    axes.set_xlabel("Time (s)")
    axes.grid(visible=False, axis="y")
    return figure
