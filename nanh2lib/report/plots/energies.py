"""Figures of energies and structures: parity, ranking, equation of state, powder patterns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.report.html_table import typeset
from nanh2lib.report.plots.style import (
    MARKERS,
    ReportFigure,
    cycle_colors,
    finite_array,
    guide_line,
    ink,
    new_figure,
    quiet,
    spread,
    styled,
)

PEAK_WIDTH = 0.18
"""Degrees of two theta: full width at half maximum of the drawn peaks."""


@styled
def parity_plot(
    reference: ArrayLike,
    predicted: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    unit: str = "meV",
    names: Sequence[str] | None = None,
) -> ReportFigure:
    """Draw predicted against reference values, one panel a model, with error and rank correlation.

    Parameters
    ----------
    reference : array_like, shape (n,)
    predicted : mapping
        Values (n,) by model, same unit.
    xlabel, ylabel : str
        With units.
    unit : str
        Written behind the mean absolute error.
    names : sequence of str, optional
        One for each point, written beside it.

    Raises
    ------
    InputError
        Lengths differ or values are NaN.
    """
    from scipy.stats import spearmanr  # a second of imports, for this figure alone

    x = finite_array(reference, "reference values")
    figure, panels = new_figure(max(4.4, 3.3 * len(predicted)), 3.9, columns=max(len(predicted), 1), sharey=True)
    values = {name: finite_array(column, f"predictions of {name!r}") for name, column in predicted.items()}
    low = min(x.min(), *(y.min() for y in values.values()))
    high = max(x.max(), *(y.max() for y in values.values()))
    margin = 0.06 * max(high - low, 1e-9)
    palette = cycle_colors(len(values))
    for k, (axes, (name, y)) in enumerate(zip(panels, values.items(), strict=True)):
        if len(y) != len(x):
            raise InputError(f"predictions of {name!r}: {len(y)} values for {len(x)} references")
        axes.plot([low - margin, high + margin], [low - margin, high + margin], color=ink(), linewidth=1, alpha=0.6)
        size = 34 if len(x) < 100 else 12
        axes.scatter(
            x, y, s=size, alpha=0.85 if len(x) < 100 else 0.45, color=palette[k], linewidths=0,
            marker=MARKERS[k % len(MARKERS)], rasterized=len(x) > 500, zorder=3,
        )  # fmt: skip
        ordered = len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0  # without an order there is no rank correlation
        rank = f"{float(spearmanr(x, y).statistic):.2f}" if ordered else "–"
        error = float(np.abs(y - x).mean())
        axes.set_title(f"{name}\nMAE {error:.3g} {unit}, rank corr. {rank}", fontsize=10)
        for point, label in enumerate(names or ()):
            axes.annotate(label, (x[point], y[point]), xytext=(5, -3), textcoords="offset points", fontsize=7.5)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(low - margin, high + margin)
        axes.set_aspect("equal")
        axes.set_xlabel(xlabel)
    panels[0].set_ylabel(ylabel)
    return figure


@styled
def energy_ranking(
    columns: Mapping[str, Mapping[str, float]],
    *,
    ylabel: str = "Energy above α-NaNH$_2$ (meV per formula unit)",
    highlight: Sequence[str] = (),
) -> ReportFigure:
    """Draw energy levels in columns (potentials, DFT), the same structure joined by a line.

    Parameters
    ----------
    columns : mapping of mapping
        Energy by structure, by column; a structure may be missing in a column.
    ylabel : str
        With unit.
    highlight : sequence of str
        Structures drawn in ink, on top.

    Raises
    ------
    InputError
        Nothing to draw.
    """
    names = list(dict.fromkeys(name for levels in columns.values() for name in levels))
    if not names:
        raise InputError("energy ranking: no levels; give {potential: {structure: energy}}")
    figure, (axes,) = new_figure(1.35 * len(columns) + 2.9, 5.0)
    palette = dict(zip(names, cycle_colors(len(names)), strict=True))
    palette |= {name: ink() for name in highlight}
    own = len(set(cycle_colors(len(names))))
    dashes = {name: "-" if k < own else (0, (2.2, 0.9)) for k, name in enumerate(names)}  # beyond the colours
    keys = list(columns)
    half = 0.30
    for name in names:
        known = [(k, columns[key][name]) for k, key in enumerate(keys) if name in columns[key]]
        for k, energy in known:
            axes.plot(
                [k - half, k + half],
                [energy, energy],
                color=palette[name],
                linestyle=dashes[name],
                linewidth=2.6,
                zorder=3,
            )
        for (k, energy), (after, following) in itertools.pairwise(known):
            axes.plot(
                [k + half, after - half], [energy, following], color=palette[name], linewidth=0.9, alpha=0.7,
                linestyle="--", zorder=2,
            )  # fmt: skip
    low = min(energy for levels in columns.values() for energy in levels.values())
    high = max(energy for levels in columns.values() for energy in levels.values())
    margin = 0.06 * max(high - low, 1.0)
    axes.set_ylim(low - margin, high + margin)
    last = {name: [(k, columns[key][name]) for k, key in enumerate(keys) if name in columns[key]][-1] for name in names}
    heights = spread([last[name][1] for name in names], 0.052 * (high - low + 2 * margin))
    axes.set_ylim(min(low, heights.min()) - margin, max(high, heights.max()) + margin)  # room for the names too
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            typeset(name), (last[name][0] + half, last[name][1]), xytext=(len(keys) - 1 + half + 0.22, height),
            va="center", fontsize=9.5, arrowprops={"arrowstyle": "-", "color": palette[name], "linewidth": 0.8},
            annotation_clip=False,
        )  # fmt: skip
    axes.set_xticks(range(len(keys)), keys)
    axes.set_xlim(-0.5, len(keys) - 0.5 + 0.1)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(ylabel)
    axes.set_xlabel("Energy from")
    return figure


@styled
def energy_volume_curve(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    ylabel: str = "Energy above the lowest\n(meV per formula unit)",
    relaxed: Mapping[str, tuple[float, float]] | None = None,
) -> ReportFigure:
    """Draw energy against volume with the parabola through each curve's lowest points.

    Parameters
    ----------
    curves : mapping
        (volumes (n,) in A^3, energies (n,)) per formula unit, by name.
    ylabel : str
        With unit.
    relaxed : mapping, optional
        (volume, energy) where a cell relaxation ended, by name: drawn as stars.

    Raises
    ------
    InputError
        Lengths differ or values are NaN.
    """
    figure, (axes,) = new_figure(6.0, 4.0)
    palette = cycle_colors(len(curves))
    for k, (name, (volumes, energies)) in enumerate(curves.items()):
        x, y = finite_array(volumes, f"volumes of {name!r}"), finite_array(energies, f"energies of {name!r}")
        if len(x) != len(y):
            raise InputError(f"{name!r}: {len(x)} volumes but {len(y)} energies")
        order = np.argsort(x)
        x, y = x[order], y[order]
        axes.plot(x, y, linestyle="none", marker=MARKERS[k % len(MARKERS)], color=palette[k], label=name)
        if len(x) >= 3:
            fit = np.polynomial.Polynomial.fit(x, y, min(len(x) - 1, 3))
            fine = np.linspace(x[0], x[-1], 200)
            axes.plot(fine, fit(fine), color=palette[k], linewidth=1.4)
    for name, (volume, energy) in (relaxed or {}).items():
        axes.scatter([volume], [energy], marker="*", s=110, color=ink(), zorder=4)
        axes.annotate(name, (volume, energy), xytext=(6, 5), textcoords="offset points", fontsize="small")
    axes.set_xlabel("Volume (Å$^3$ per formula unit)")
    axes.set_ylabel(ylabel)
    axes.legend()
    return figure


@styled
def powder_patterns(
    structures: Mapping[str, Structure],
    *,
    wavelength: str = "CuKa",
    two_theta: tuple[float, float] = (10.0, 60.0),
    marks: Sequence[float] = (),
) -> ReportFigure:
    """Draw simulated X-ray powder patterns one above the other.

    Parameters
    ----------
    structures : mapping
        By name, from the top.
    wavelength : str
        As pymatgen's XRDCalculator names it.
    two_theta : tuple of float
        Range in degrees.
    marks : sequence of float
        Angles to mark with guide lines.

    Raises
    ------
    InputError
        No structure, or an empty range.
    """
    low, high = two_theta
    if not structures or not 0 <= low < high <= 180:
        raise InputError(
            f"powder patterns: {len(structures)} structures, range {low:g} to {high:g} degrees: nothing to draw"
        )
    from pymatgen.analysis.diffraction.xrd import XRDCalculator  # likewise

    figure, (axes,) = new_figure(6.8, 0.85 * len(structures) + 1.2)
    calculator = XRDCalculator(wavelength=wavelength)
    grid = np.linspace(low, high, 1800)
    palette = cycle_colors(len(structures))
    for k, (name, structure) in enumerate(structures.items()):
        base = 1.15 * (len(structures) - 1 - k)
        pattern = calculator.get_pattern(structure, two_theta_range=two_theta)
        profile = peak_profile(grid, pattern.x, pattern.y)
        axes.fill_between(grid, base, base + profile, color=palette[k], alpha=0.25, linewidth=0)
        axes.plot(grid, base + profile, color=palette[k], linewidth=1.3)
        axes.vlines(pattern.x, base - 0.07, base - 0.02, color=palette[k], linewidth=0.7)
        axes.text(high, base + 0.62, typeset(name), ha="right", fontsize=10)
    for angle in marks:
        guide_line(axes, x=angle)
    axes.set_xlabel(f"2θ (degrees, {wavelength.replace('Ka', ' Kα')})")
    axes.set_ylabel("Intensity (each scaled to 1)")
    axes.set_yticks([])
    axes.set_xlim(low, high)
    axes.grid(visible=True, axis="x", color=quiet())
    return figure


def peak_profile(
    grid: ArrayLike, angles: ArrayLike, intensities: ArrayLike
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Sum of Gaussian peaks of width ``PEAK_WIDTH`` on a grid of angles, scaled to a largest value of 1.

    Parameters
    ----------
    grid : array_like, shape (g,)
        Degrees of two theta.
    angles, intensities : array_like, shape (p,)
    """
    points, centers, heights = (np.asarray(values, dtype=float) for values in (grid, angles, intensities))
    sigma = PEAK_WIDTH / (2 * np.sqrt(2 * np.log(2)))
    profile = np.exp(-0.5 * ((points[:, None] - centers[None]) / sigma) ** 2) @ heights
    return np.asarray(profile / max(float(profile.max(initial=0.0)), 1e-12))
