"""Figures of the generative model: training, noise, guidance, and what it saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from nanh2lib.errors import InputError
from nanh2lib.report.plots.style import (
    DASHES,
    MARKERS,
    ReportFigure,
    cycle_colors,
    finite_array,
    guide_line,
    ink,
    new_figure,
    quiet,
    styled,
)


@styled
def loss_curves(
    curves: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str = "Mean-squared error\n(standardised units)",
    baselines: Mapping[str, float] | None = None,
) -> ReportFigure:
    """Draw loss against epoch, one panel a network, training and validation apart by line style.

    Parameters
    ----------
    curves : mapping of mapping
        For each network, losses (epochs,) by name, e.g. ``{"noise": {"training": ..., "validation": ...}}``.
    ylabel : str
    baselines : mapping, optional
        For each network, a loss to compare with (predicting the mean).

    Raises
    ------
    InputError
        No curve, or NaN in one.
    """
    if not curves:
        raise InputError("loss curves: nothing to draw; give {network: {curve: losses}}")
    figure, panels = new_figure(max(4.6, 3.5 * len(curves)), 3.6, columns=len(curves))
    for axes, (network, lines) in zip(panels, curves.items(), strict=True):
        for k, (name, values) in enumerate(lines.items()):
            losses = finite_array(values, f"{network} {name} loss")
            axes.plot(np.arange(1, len(losses) + 1), losses, linestyle=DASHES[k % len(DASHES)], label=name)
        if baselines and network in baselines:
            axes.axhline(baselines[network], color=ink(), linestyle=":", linewidth=1.2, label="predicting the mean")
        axes.set_yscale("log")
        axes.set_title(network)
        axes.set_xlabel("Epoch")
        axes.legend()
    panels[0].set_ylabel(ylabel)
    return figure


@styled
def noise_schedule_plot(schedules: Mapping[str, ArrayLike]) -> ReportFigure:
    """Draw how much signal and noise each step holds.

    Parameters
    ----------
    schedules : mapping
        Cumulative signal share (T,), the product of 1 - beta up to each step, by schedule name.

    Raises
    ------
    InputError
        A schedule leaves [0, 1].
    """
    figure, panels = new_figure(7.0, 3.4, columns=2)
    signal, ratio = panels
    for k, (name, values) in enumerate(schedules.items()):
        share = finite_array(values, f"noise schedule {name!r}")
        if share.min() < 0 or share.max() > 1:
            raise InputError(
                f"noise schedule {name!r}: shares run from {share.min():g} to {share.max():g}, not in [0, 1]"
            )
        steps = np.arange(1, len(share) + 1)
        line = DASHES[k % len(DASHES)]
        signal.plot(steps, np.sqrt(share), linestyle=line, label=name)
        with np.errstate(divide="ignore"):
            ratio.plot(steps, share / np.maximum(1 - share, 1e-12), linestyle=line, label=name)
    signal.set_ylabel(r"Signal amplitude $\sqrt{\bar{\alpha}_t}$")
    ratio.set_ylabel(r"Signal-to-noise ratio $\bar{\alpha}_t / (1 - \bar{\alpha}_t)$")
    ratio.set_yscale("log")
    ratio.set_ylim(bottom=max(ratio.get_ylim()[0], 1e-6))
    for axes in panels:
        axes.set_xlabel("Step $t$")
    signal.legend()
    return figure


@styled
def guidance_sweep(
    weights: ArrayLike,
    measures: Mapping[str, ArrayLike],
    *,
    intervals: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    xlabel: str = "Guidance weight $w$",
) -> ReportFigure:
    """Draw what a guidance weight does: one panel a measure (energy, validity, diversity), same x.

    Parameters
    ----------
    weights : array_like, shape (n,)
        Equally spaced on the page whatever their values.
    measures : mapping
        Values (n,) by axis label with unit, e.g. ``"Energy (meV per formula unit)"``.
    intervals : mapping, optional
        (low (n,), high (n,)) for any of them, drawn as a band.
    xlabel : str

    Raises
    ------
    InputError
        Lengths differ.
    """
    x_values = finite_array(weights, "guidance weights")
    x = np.arange(len(x_values))
    figure, panels = new_figure(5.6, 1.75 * len(measures) + 0.6, rows=max(len(measures), 1), sharex=True)
    palette = cycle_colors(len(measures))
    for k, (axes, (name, values)) in enumerate(zip(panels, measures.items(), strict=True)):
        y = finite_array(values, name)
        if len(y) != len(x):
            raise InputError(f"{name}: {len(y)} values for {len(x)} guidance weights")
        axes.plot(x, y, marker=MARKERS[k % len(MARKERS)], color=palette[k])
        if intervals and name in intervals:
            low, high = (finite_array(side, f"interval of {name}") for side in intervals[name])
            axes.fill_between(x, low, high, color=palette[k], alpha=0.2, linewidth=0)
        axes.set_ylabel(name)
        axes.yaxis.set_label_coords(-0.13, 0.5)
    panels[-1].set_xticks(x, [f"{value:g}" for value in x_values])
    panels[-1].set_xlabel(xlabel)
    return figure


@styled
def budget_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]],
    *,
    ylabel: str = "Best energy above α-NaNH$_2$\n(meV per formula unit)",
    xlabel: str = "Energy evaluations",
    levels: Mapping[str, float] | None = None,
    log: bool = True,
) -> ReportFigure:
    """Draw the best energy found against the evaluations spent, with intervals.

    Parameters
    ----------
    curves : mapping
        (evaluations (n,), middle (n,), low (n,), high (n,)) by method.
    ylabel, xlabel : str
    levels : mapping, optional
        Named horizontal lines, e.g. ``{"20 meV above alpha": 20.0}``.
    log : bool
        Logarithmic evaluations.

    Raises
    ------
    InputError
        Lengths differ or values are NaN.
    """
    figure, (axes,) = new_figure(6.6, 4.2)
    palette = cycle_colors(len(curves))
    for k, (name, columns) in enumerate(curves.items()):
        x, middle, low, high = (finite_array(column, f"budget curve {name!r}") for column in columns)
        if not len(x) == len(middle) == len(low) == len(high):
            raise InputError(f"budget curve {name!r}: its four columns differ in length")
        axes.step(x, middle, where="post", color=palette[k], linestyle=DASHES[k % len(DASHES)], label=name)
        axes.fill_between(x, low, high, step="post", color=palette[k], alpha=0.16, linewidth=0)
    for name, level in (levels or {}).items():
        guide_line(axes, y=level, label=name)
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend()
    return figure


@styled
def interval_chart(
    groups: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    xlabel: str,
    log: bool = True,
    reference: float | None = None,
    bounds: Sequence[tuple[str, str]] = (),
) -> ReportFigure:
    """Draw values with intervals as a forest plot, e.g. evaluations per hit by template and method.

    Parameters
    ----------
    groups : mapping of mapping
        (value, low, high) by row, by group; an infinite high end runs to the edge with an arrow.
    xlabel : str
        With unit.
    log : bool
    reference : float, optional
        Dashed vertical line.
    bounds : sequence of (group, row)
        Rows whose value is only a one-sided bound: drawn open.

    Raises
    ------
    InputError
        Nothing to draw.
    """
    rows = [(group, name, *triple) for group, members in groups.items() for name, triple in members.items()]
    if not rows:
        raise InputError("interval chart: nothing to draw; give {group: {row: (value, low, high)}}")
    names = list(dict.fromkeys(name for _, name, *_ in rows))
    palette = dict(zip(names, cycle_colors(len(names)), strict=True))
    figure, (axes,) = new_figure(6.6, 0.34 * len(rows) + 0.35 * len(groups) + 1.0)
    finite = [value for row in rows for value in row[2:] if np.isfinite(value)]
    edge = max(finite) * (1.6 if log else 1.1)
    y, ticks, labels = 0.0, [], []
    for group, members in groups.items():
        axes.text(0.0, y, f" {group}", transform=axes.get_yaxis_transform(), va="center", weight="bold", fontsize=10)
        axes.axhline(y, color=quiet(), linewidth=0.8)
        y += 1
        for name, (value, low, high) in members.items():
            axes.plot([low, min(high, edge)], [y, y], color=palette[name], linewidth=2.2, solid_capstyle="butt")
            if not np.isfinite(high):
                axes.plot([edge], [y], marker=">", color=palette[name], clip_on=False)
            face = "none" if (group, name) in set(bounds) else palette[name]
            marker = MARKERS[names.index(name) % len(MARKERS)]
            axes.plot([value], [y], marker=marker, markersize=8, markerfacecolor=face, markeredgecolor=palette[name])
            ticks.append(y)
            labels.append(name)
            y += 1
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    if log:
        axes.set_xscale("log")
    if reference is not None:
        axes.axvline(reference, color=ink(), linestyle="--", linewidth=1.0, alpha=0.7)
    axes.set_xlabel(xlabel)
    return figure
