"""Figures of the generative model: training, noise, guidance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from nanh2lib.errors import InputError
from nanh2lib.report.plots.style import (
    DASHES,
    MARKERS,
    ReportFigure,
    cycle_colors,
    finite_array,
    ink,
    new_figure,
    plain_log,
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
        plain_log(axes.yaxis)
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
