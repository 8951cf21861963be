"""Figures of data sets: space groups, energies, volumes, contacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from nanh2lib.errors import InputError
from nanh2lib.report.plots.style import (
    MARKERS,
    ReportFigure,
    cycle_colors,
    finite_array,
    guide_line,
    ink,
    new_figure,
    styled,
    symbol_text,
)

MANY_GROUPS = 12
"""Space groups from which on their names need a steeper slant."""

ABOVE_ALPHA = "Energy above α-NaNH$_2$ (meV per formula unit)"
ABOVE_ALPHA_TWO_LINES = "Energy above α-NaNH$_2$\n(meV per formula unit)"


@styled
def space_group_histogram(
    counts: Mapping[str, Mapping[str, int]], *, ylabel: str = "Structures", order: Sequence[str] | None = None
) -> ReportFigure:
    """Draw how many structures each space group has (counterpart of the supplement's Fig. S1).

    Parameters
    ----------
    counts : mapping of mapping
        Number by space-group symbol (``"P2_1/c"``) for each data set, by its name.
    ylabel : str
    order : sequence of str, optional
        Symbols from left to right; most frequent first by default.

    Raises
    ------
    InputError
        No data set, or no count in it.
    """
    totals: dict[str, int] = {}
    for data in counts.values():
        for symbol, number in data.items():
            totals[symbol] = totals.get(symbol, 0) + number
    if not totals:
        raise InputError("space-group histogram: no counts; give {data set: {symbol: number}}")
    symbols = list(order) if order else sorted(totals, key=lambda symbol: (-totals[symbol], symbol))
    many = len(symbols) > MANY_GROUPS
    figure, (axes,) = new_figure(7.6 if many else max(5.6, 0.52 * len(symbols) + 1.6), 3.9)
    width = 0.82 / len(counts)
    x = np.arange(len(symbols))
    for k, (name, color) in enumerate(zip(counts, cycle_colors(len(counts)), strict=True)):
        heights = [counts[name].get(symbol, 0) for symbol in symbols]
        bars = axes.bar(x + (k - (len(counts) - 1) / 2) * width, heights, width, color=color, label=name)
        if len(counts) <= 2:
            axes.bar_label(bars, [str(h) if h else "" for h in heights], fontsize=8.5, padding=1.5)
    turn = 60 if many else 40
    axes.set_xticks(x, [symbol_text(symbol) for symbol in symbols], rotation=turn, ha="right", rotation_mode="anchor")
    axes.set_xlabel("Space group")
    axes.set_ylabel(ylabel)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.01, y=0.08)
    if len(counts) > 1:
        axes.legend()
    return figure


@styled
def energy_histogram(
    energies: Mapping[str, ArrayLike],
    *,
    xlabel: str = ABOVE_ALPHA,
    bins: int = 40,
    marks: Mapping[str, float] | None = None,
    density: bool = False,
    counted: str = "structures",
) -> ReportFigure:
    """Draw distributions of energies, one step line a data set.

    Parameters
    ----------
    energies : mapping
        Values (n,) by data set; all in the unit that ``xlabel`` names.
    xlabel : str
    bins : int
        Equal bins over all data.
    marks : mapping, optional
        Named positions drawn as dashed lines, e.g. ``{"alpha": 0.0}``.
    density : bool
        Shares instead of numbers, for sets of different size.
    counted : str
        What the numbers count.

    Raises
    ------
    InputError
        A set is empty or holds NaN.
    """
    arrays = {name: finite_array(values, f"energies of {name!r}") for name, values in energies.items()}
    if not arrays:
        raise InputError("energy histogram: no data set; give {name: energies}")
    everything = np.concatenate(list(arrays.values()))
    edges = [float(edge) for edge in np.histogram_bin_edges(everything, bins=bins)]
    figure, (axes,) = new_figure()
    for (name, values), color in zip(arrays.items(), cycle_colors(len(arrays)), strict=True):
        weights = np.full(len(values), 1 / len(values)) if density else None
        label = f"{name} ({len(values)})"
        axes.hist(values, bins=edges, weights=weights, histtype="stepfilled", alpha=0.25, color=color)
        axes.hist(values, bins=edges, weights=weights, histtype="step", linewidth=1.8, color=color, label=label)
    for name, position in (marks or {}).items():
        guide_line(axes, x=position, label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(f"Share of {counted}" if density else f"{counted[:1].upper()}{counted[1:]}")
    axes.legend()
    return figure


@styled
def volume_energy_scatter(
    points: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    marks: Mapping[str, tuple[float, float]] | None = None,
    ylabel: str = ABOVE_ALPHA_TWO_LINES,
) -> ReportFigure:
    """Draw energy against volume.

    Parameters
    ----------
    points : mapping
        (volumes (n,), energies (n,)) by group; A^3 and the unit of ``ylabel``, per formula unit.
    marks : mapping, optional
        Single named points, drawn larger with their names.
    ylabel : str

    Raises
    ------
    InputError
        Lengths differ, a group is empty or holds NaN.
    """
    figure, (axes,) = new_figure(6.4, 4.3)
    palette = cycle_colors(len(points))
    for k, (name, (volumes, energies)) in enumerate(points.items()):
        x, y = finite_array(volumes, f"volumes of {name!r}"), finite_array(energies, f"energies of {name!r}")
        if len(x) != len(y):
            raise InputError(f"{name!r}: {len(x)} volumes but {len(y)} energies; give one of each for a structure")
        axes.scatter(
            x, y, s=18, alpha=0.6, linewidths=0, color=palette[k], marker=MARKERS[k % len(MARKERS)],
            label=f"{name} ({len(x)})", rasterized=len(x) > 500,
        )  # fmt: skip
    for name, (volume, energy) in (marks or {}).items():
        axes.scatter([volume], [energy], s=70, marker="*", color=ink(), zorder=4)
        axes.annotate(name, (volume, energy), xytext=(6, 4), textcoords="offset points", fontsize="small")
    axes.set_xlabel("Volume (Å$^3$ per formula unit)")
    axes.set_ylabel(ylabel)
    axes.legend(loc="best")
    return figure


@styled
def contact_bars(
    shortest: Mapping[str, Mapping[str, float]], *, limits: Mapping[str, float] | None = None
) -> ReportFigure:
    """Draw the shortest distance of each element pair, one point a structure, with the limits.

    Parameters
    ----------
    shortest : mapping of mapping
        Distance in A by pair (``"Na-N"``) for each structure, by its name.
    limits : mapping, optional
        Smallest allowed distance by pair, A: drawn as a bar from zero.

    Raises
    ------
    InputError
        No structure.
    """
    if not shortest:
        raise InputError("contacts: no structure; give {structure: {pair: distance}}")
    pairs = list(dict.fromkeys(pair for distances in shortest.values() for pair in distances))
    figure, (axes,) = new_figure(6.4, 4.0)
    x = np.arange(len(pairs))
    if limits:
        axes.bar(
            x, [limits.get(pair, 0.0) for pair in pairs], 0.78, color=ink(), alpha=0.16, label="not allowed", zorder=1
        )
    palette = cycle_colors(len(shortest))
    offsets = np.linspace(-0.3, 0.3, len(shortest)) if len(shortest) > 1 else np.zeros(1)
    for k, (name, distances) in enumerate(shortest.items()):
        y = [distances.get(pair, np.nan) for pair in pairs]
        axes.scatter(x + offsets[k], y, s=34, color=palette[k], marker=MARKERS[k % len(MARKERS)], label=name, zorder=3)
    axes.set_xticks(x, [pair.replace("-", "–") for pair in pairs])
    axes.set_xlabel("Pair (N–H and H–H between different NH$_2$)")
    axes.set_ylabel("Shortest distance (Å)")
    axes.set_ylim(bottom=0.0)
    axes.grid(visible=False, axis="x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


@styled
def contact_distributions(
    distances: Mapping[str, Mapping[str, ArrayLike]], *, limits: Mapping[str, float] | None = None
) -> ReportFigure:
    """Draw how the shortest distances of each element pair are spread, one box a data set.

    Boxes hold the middle half, whiskers reach from the 2nd to the 98th percentile.

    Parameters
    ----------
    distances : mapping of mapping
        Shortest distances (n,) in A by pair (``"Na-N"``) for each data set, by its name.
    limits : mapping, optional
        Smallest allowed distance by pair, A: drawn as a bar from zero.

    Raises
    ------
    InputError
        No data set, or NaN.
    """
    if not distances:
        raise InputError("contacts: no data set; give {data set: {pair: distances}}")
    pairs = list(dict.fromkeys(pair for data in distances.values() for pair in data))
    figure, (axes,) = new_figure(6.4, 4.0)
    x = np.arange(len(pairs))
    if limits:
        axes.bar(x, [limits.get(p, 0.0) for p in pairs], 0.86, color=ink(), alpha=0.16, label="not allowed", zorder=1)
    width = 0.7 / len(distances)
    for k, (name, color) in enumerate(zip(distances, cycle_colors(len(distances)), strict=True)):
        places = [i for i, pair in enumerate(pairs) if pair in distances[name]]
        values = [finite_array(distances[name][pairs[i]], f"{pairs[i]} of {name!r}") for i in places]
        boxes = axes.boxplot(
            values, positions=x[places] + (k - (len(distances) - 1) / 2) * width, widths=0.85 * width, whis=(2, 98),
            showfliers=False, patch_artist=True, manage_ticks=False, zorder=3, medianprops={"color": ink()},
            whiskerprops={"color": ink()}, capprops={"color": ink()}, boxprops={"edgecolor": ink()},
        )  # fmt: skip
        for box in boxes["boxes"]:
            box.set_facecolor(color)
        axes.bar([0], [0], color=color, label=name)  # for the legend
    axes.set_xticks(x, [pair.replace("-", "–") for pair in pairs])
    axes.set_xlabel("Pair (N–H and H–H between different NH$_2$)")
    axes.set_ylabel("Shortest distance (Å)")
    axes.set_ylim(bottom=0.0)
    axes.grid(visible=False, axis="x")
    axes.legend()
    return figure
