"""The committed study of what the supplement leaves open, as data for figures and tables.

``python -m benchmarks.paper_sensitivity`` makes it: one choice changed at a time, the paper's model trained anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nanh2lib.errors import InputError
from nanh2lib.report.book import project_root

COMMITTED = Path("benchmarks", "results", "paper_sensitivity.json")
COMMAND = "python -m benchmarks.paper_sensitivity"
SEEDS = "seed"
"""The group whose members differ by chance alone."""


@dataclass(frozen=True)
class SensitivityStudy:
    """Measures of each choice.

    Attributes
    ----------
    groups : mapping
        ``{group: {choice: {measure: value}}}``, in the order of the study. ``judged`` is the median
        energy of pushed-apart samples in meV per formula unit above alpha, at the judging potential.
    base : mapping
        The measures of the base, with which all others are compared.
    uniform : mapping
        ``judged`` and ``judged_error`` of uniform draws, pushed apart likewise.
    about : str
        Structures, epochs, samples, potential and seed in one line.
    """

    groups: Mapping[str, Mapping[str, Mapping[str, float]]]
    base: Mapping[str, float]
    uniform: Mapping[str, float]
    about: str

    def ranges(self, measures: Sequence[str]) -> pd.DataFrame:
        """Largest minus smallest value of each measure within a group; that of the seeds is the yardstick.

        Parameters
        ----------
        measures : sequence of str

        Returns
        -------
        DataFrame
            One row a group, one column a measure.
        """
        rows = {
            group: {
                m: max(row[m] for row in members.values()) - min(row[m] for row in members.values()) for m in measures
            }
            for group, members in self.groups.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")[list(measures)]

    def leads(self) -> dict[str, float]:
        """How far the samples of each choice lie below uniform draws, in standard errors of the difference.

        Returns
        -------
        dict
            By ``"group = choice"``; negative where samples lie higher.
        """
        zero, error = self.uniform["judged"], self.uniform["judged_error"]
        return {
            f"{group} = {name}": (zero - row["judged"]) / math.hypot(error, row["judged_error"])
            for group, members in self.groups.items()
            for name, row in members.items()
        }


def sensitivity_study(path: str | Path | None = None) -> SensitivityStudy:
    """Read the committed study.

    Parameters
    ----------
    path : path, optional
        ``benchmarks/results/paper_sensitivity.json`` of the checkout by default.

    Raises
    ------
    InputError
        It is missing or damaged; the command that makes it is named.
    """
    path = Path(path) if path is not None else project_root() / COMMITTED
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = {name: _measures(row, data["alpha_ev_per_fu"]) for name, row in data["results"].items()}
        base, uniform = data["base"], _measures(data["uniform"], data["alpha_ev_per_fu"])
        about = (
            f"{data['structures']['relaxed_fixed']} crystals, {base['training']['epochs']} epochs, "
            f"{base['sampling']['count']} samples, {data['potential']}, seed {base['training']['seed']}"
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path}: not the study of the paper's open choices ({error}); make it with {COMMAND}"
        ) from error
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for name, measures in rows.items():
        group, value = name.split(" = ", 1)
        groups.setdefault(group, {})[value] = measures
    try:
        (base_measures,) = groups.pop("base").values()
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: the base of the study is missing; make it with {COMMAND}") from error
    return SensitivityStudy(groups, base_measures, uniform, about)


def _measures(row: Mapping[str, Any], alpha: float) -> dict[str, float]:
    """Numbers of one choice; energies of samples in meV above alpha."""
    numbers = {name: math.nan if value is None else float(value) for name, value in row.items()}
    numbers["judged"] = 1e3 * (numbers.pop("judged_median") - alpha)
    numbers["judged_error"] *= 1e3
    return numbers
