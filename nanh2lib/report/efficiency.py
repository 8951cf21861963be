"""What the committed study of search efficiency says, as tables and as data for figures.

All statistics come from its ``summary.json``; nothing is estimated again here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanh2lib.errors import InputError
from nanh2lib.report.book import project_root
from nanh2lib.report.numbers import NOT_PRINTED

FOLDER = Path("benchmarks", "results", "search_efficiency")
COMMAND = "python -m benchmarks.search_efficiency"
METHODS = {
    "random, default": "random",
    "random, downhill": "random, downhill",
    "random, screened": "random, downhill, screened",
    "pyxtal, default": "PyXtal",
    "paper, default": "supplement",
    "paper_guided, default": "supplement, guided",
    "geometric, plain": "geometric",
    "geometric, guided": "geometric, guided",
    "geometric, downhill": "geometric, downhill",
    "geometric, default": "geometric, all parts",
    "geometric, screened": "geometric, screened",
}
"""What pages call the methods of the study, in the order of figures; others keep their names and come last."""
SECTIONS = ("templates", "easy", "taken_apart")
HELD_OUT = " held out"
LEVELS = ("a", "b", "c")
GRID = 120
FloatArray = NDArray[np.float64]
Interval = tuple[float, float, float]
Intervals = dict[str, dict[str, dict[str, Interval]]]


@dataclass(frozen=True)
class EfficiencyStudy:
    """The committed tables.

    Attributes
    ----------
    summary : mapping
        ``summary.json``.
    relaxations : DataFrame
        ``relaxations.csv``, one row a relaxation.
    variants : mapping
        ``variants.json``: settings of each method and variant.
    """

    summary: Mapping[str, Any]
    relaxations: pd.DataFrame
    variants: Mapping[str, Any]

    @property
    def templates(self) -> tuple[str, ...]:
        """Space-group symbols of the judged templates."""
        return tuple(self.summary["templates"])

    @property
    def alpha(self) -> float:
        """Energy of alpha, eV per formula unit."""
        return float(self.summary["alpha_ev_per_fu"])

    def methods(self, template: str, section: str = "templates") -> dict[str, dict[str, Any]]:
        """Numbers of each method on a template, by its name in the summary, in the order of figures.

        Parameters
        ----------
        template : str
        section : {"templates", "easy", "taken_apart"}
            What is compared; the easy end; one model with one part changed in each row.

        Raises
        ------
        InputError
            The section has no such template.
        """
        known = self.summary[section]
        if template not in known:
            raise InputError(f"template {template!r} was not judged; choose one of {', '.join(known)}")
        found = known[template]
        order = list(METHODS)

        def place(name: str) -> tuple[bool, int, str]:
            plain = name.replace(HELD_OUT, "")
            return (HELD_OUT in name, order.index(plain) if plain in order else len(order), name)

        return {name: found[name] for name in sorted(found, key=place)}

    def rows(self, template: str, name: str) -> pd.DataFrame:
        """Relaxations of a method on a template, in the order in which they ended."""
        method, variant = name.split(", ", 1)
        frame = self.relaxations
        chosen = (
            (frame["template"] == template)
            & (frame["method"] == method.replace(HELD_OUT, ""))
            & (frame["variant"] == variant)
            & (frame["held_out"].astype(bool) == (HELD_OUT in method))
        )
        return frame[chosen]


def read_study(folder: str | Path | None = None) -> EfficiencyStudy:
    """Read the study's results.

    Parameters
    ----------
    folder : path, optional
        ``benchmarks/results/search_efficiency`` of the checkout by default.

    Raises
    ------
    InputError
        A file is missing or of another form.
    """
    folder = project_root() / FOLDER if folder is None else Path(folder)
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        variants = json.loads((folder / "variants.json").read_text(encoding="utf-8"))
        words = dict.fromkeys(("method", "variant", "template", "sample_id", "duplicate_of", "in_training"), str)
        study = EfficiencyStudy(summary, pd.read_csv(folder / "relaxations.csv", dtype=words), variants)
        counts = {
            (template, name): (len(study.rows(template, name)), numbers["relaxations"])
            for section in SECTIONS
            for template in summary[section]
            for name, numbers in study.methods(template, section).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder}: no complete results of the study ({type(error).__name__}: {error}); restore the committed "
            f"files, or run '{COMMAND} run ...' and '{COMMAND} summary'"
        ) from error
    for (template, name), (found, said) in counts.items():
        if found != said:
            raise InputError(
                f"{folder}: relaxations.csv has {found} rows of {name} on {template}, summary.json says {said}; "
                f"run '{COMMAND} summary'"
            )
    return study


def method_label(name: str) -> str:
    """Name of a method as pages write it.

    Examples
    --------
    >>> method_label("geometric held out, plain")
    'geometric, held out'
    """
    plain = name.replace(HELD_OUT, "")
    return f"{METHODS.get(plain, plain)}{', held out' if HELD_OUT in name else ''}"


def counted_label(name: str, numbers: Mapping[str, Any]) -> str:
    """The same with relaxations and seeds, e.g. ``"random (300 in 3 seeds)"``."""
    seeds = len(numbers["seeds"])
    return f"{method_label(name)} ({numbers['relaxations']} in {seeds} seed{'' if seeds == 1 else 's'})"


def _end(value: float | None) -> float:
    """JSON has no infinity: it stands as null."""
    return math.inf if value is None else float(value)


def _estimate(numbers: Mapping[str, Any], value: str, interval: str, bound: str) -> tuple[Interval, bool] | None:
    """(value, low, high) and whether it is only a lower bound; None where the summary has neither."""
    if numbers.get(value) is not None:
        low, high = (_end(end) for end in numbers[interval])
        return (float(numbers[value]), low, high), False
    if numbers.get(bound) is not None:
        limit = float(numbers[bound])
        return (limit, limit, math.inf), True
    return None


def cost_of(numbers: Mapping[str, Any]) -> tuple[Interval, bool] | None:
    """Evaluations per hit of one level: (value, low, high), and whether that is only a lower bound."""
    return _estimate(numbers, "evaluations_per_hit", "interval", "evaluations_per_hit_above")


def saving_of(numbers: Mapping[str, Any]) -> tuple[Interval, bool] | None:
    """The same for the saving against random search."""
    return _estimate(numbers, "saving", "saving_interval", "saving_above")


def hit_costs(study: EfficiencyStudy) -> tuple[Intervals, set[tuple[str, str, str]]]:
    """Evaluations per hit for `interval_panels`.

    Returns
    -------
    intervals : dict
        ``{template: {method: {level: (value, low, high)}}}``.
    bounds : set of (template, method, level)
        No hit: the value is the one-sided 95 % lower bound.
    """
    intervals: Intervals = {}
    bounds = set()
    for template in study.templates:
        rows = intervals.setdefault(template, {})
        for name, numbers in study.methods(template).items():
            label = counted_label(name, numbers)
            cells = rows.setdefault(label, {})
            for level in LEVELS:
                found = cost_of(numbers["hits"][level])
                if found is not None:
                    cells[level] = found[0]
                    bounds |= {(template, label, level)} if found[1] else set()
    return intervals, bounds


def savings(study: EfficiencyStudy, level: str) -> tuple[Intervals, set[tuple[str, str, str]]]:
    """Random search's evaluations per hit over each method's, for `interval_panels`.

    Parameters
    ----------
    study : EfficiencyStudy
    level : {"a", "b", "c"}

    Returns
    -------
    intervals : dict
        ``{template: {method: {panel: (value, low, high)}}}`` with the panels ``"search"`` and
        ``"training"`` (the energy calls of the training set charged); a method without a hit has none.
    bounds : set of (template, method, panel)
        Random search had no hit: the saving is at least the value.
    """
    intervals: Intervals = {}
    bounds = set()
    for template in study.templates:
        rows: dict[str, dict[str, Interval]] = {}
        for name, numbers in study.methods(template).items():
            label = counted_label(name, numbers)
            cells = rows.setdefault(label, {})
            for panel, hits in (("search", numbers["hits"]), ("training", with_training(numbers))):
                found = saving_of(hits[level])
                if found is not None:
                    cells[panel] = found[0]
                    bounds |= {(template, label, panel)} if found[1] else set()
        intervals[template] = rows
    return intervals, bounds


def with_training(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hits with the training set charged; methods that learned nothing have nothing to pay."""
    charged: Mapping[str, Any] = numbers.get("hits_training_charged", numbers["hits"])
    return charged


def budget_data(
    study: EfficiencyStudy, *, charged: bool = False
) -> dict[str, dict[str, tuple[FloatArray, FloatArray, FloatArray, FloatArray]]]:
    """Best energy against evaluations spent, for `budget_curves`.

    Parameters
    ----------
    study : EfficiencyStudy
    charged : bool
        Begin with the energy calls of the training set.

    Returns
    -------
    dict
        (evaluations, mean, lowest, highest over seeds) by method, by template; meV above alpha. A curve
        covers what all seeds of a method have spent.
    """
    panels = {}
    for template in study.templates:
        curves = {}
        for name, numbers in study.methods(template).items():
            curve = best_so_far(study.rows(template, name))
            if curve is not None:
                budget, best = curve
                best = 1e3 * (best - study.alpha)
                paid = budget + (numbers["training_evaluations"] if charged else 0)
                curves[counted_label(name, numbers)] = (paid, best.mean(0), best.min(0), best.max(0))
        panels[template] = curves
    return panels


def best_so_far(rows: pd.DataFrame, budgets: Sequence[float] | None = None) -> tuple[FloatArray, FloatArray] | None:
    """Lowest energy after so many evaluations, seed by seed.

    Parameters
    ----------
    rows : DataFrame
        Relaxations of one method on one template, in the order in which they ended.
    budgets : sequence of float, optional
        By default, steps of equal ratio over what all seeds have spent.

    Returns
    -------
    budgets : ndarray, shape (n,)
    energies : ndarray, shape (seeds, n)
        eV per formula unit; infinite before a seed's first relaxation has ended well. None where
        no budget is covered by all seeds.
    """
    seeds = []
    for _, part in rows.groupby("seed"):
        energies = part["energy_final"].fillna(np.inf).to_numpy(dtype=np.float64)
        seeds.append((np.cumsum(calls_of(part)), np.minimum.accumulate(energies)))
    if budgets is None:
        finite = [spent[np.isfinite(best)] for spent, best in seeds]
        if not seeds or not all(len(spent) for spent in finite):
            return None
        first, last = max(spent[0] for spent in finite), min(spent[-1] for spent, _ in seeds)
        if first > last:
            return None
        grid = np.geomspace(first, last, GRID)
        grid[[0, -1]] = first, last
    else:
        grid = np.asarray(budgets, dtype=np.float64)
    best_of = []
    for spent, best in seeds:
        place = np.searchsorted(spent, grid, side="right") - 1
        best_of.append(np.where(place >= 0, best[place.clip(0)], np.inf))
    return grid, np.array(best_of)


def calls_of(rows: pd.DataFrame) -> FloatArray:
    """Energy calls (N,) of relaxations, those spent on choosing the crystals included."""
    return (rows["evaluations"] + rows["screening"]).to_numpy(dtype=np.float64)


def words(found: tuple[Interval, bool] | None, digits: int) -> str:
    """``"120 (80 to 210)"``, ``"> 240"``, or a dash."""
    if found is None:
        return NOT_PRINTED
    (value, low, high), is_bound = found
    if is_bound:
        return f"> {value:.{digits}f}"
    ends = [f"{end:.{digits}f}" if math.isfinite(end) else "∞" for end in (low, high)]
    return f"{value:.{digits}f} ({ends[0]} to {ends[1]})"


def energy_data(study: EfficiencyStudy) -> dict[str, dict[str, dict[str, FloatArray]]]:
    """Energies before and after relaxation for `energy_boxes`: ``{template: {method: {"start" | "end": values}}}``.

    Values are meV per formula unit above alpha; relaxations that failed are left out.
    """
    groups: dict[str, dict[str, dict[str, FloatArray]]] = {}
    for template in study.templates:
        rows = groups.setdefault(template, {})
        for name, numbers in study.methods(template).items():
            frame = study.rows(template, name).dropna(subset=["energy_start", "energy_final"])
            if len(frame):
                rows[counted_label(name, numbers)] = {
                    stage: 1e3 * (frame[column].to_numpy(dtype=np.float64) - study.alpha)
                    for stage, column in (("start", "energy_start"), ("end", "energy_final"))
                }
    return groups


def validity_data(study: EfficiencyStudy) -> dict[str, dict[str, float]]:
    """Share of raw samples that pass both filters, per cent, for `count_bars`: ``{limits: {template: method}}``."""
    bars: dict[str, dict[str, float]] = {"full limits": {}, "limits × 0.7": {}}
    for template in study.templates:
        for name, numbers in study.methods(template).items():
            samples = numbers.get("samples")
            if samples:
                row = f"{template}: {method_label(name)} ({samples['drawn']} drawn)"
                bars["full limits"][row] = float(samples["valid_percent"])
                bars["limits × 0.7"][row] = float(samples["valid_percent_at_0.7"])
    return bars


def without_intervals(summary: Any) -> Any:
    """A summary without what its random resampling made: intervals and their number of resamples."""
    drop = {"interval", "saving_interval", "resamples"}
    if isinstance(summary, Mapping):
        return {key: without_intervals(value) for key, value in summary.items() if key not in drop}
    return summary
