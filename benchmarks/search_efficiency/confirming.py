"""The best finds of each method, relaxed and ranked once more with a potential that did not judge the search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Structure
from scipy.stats import spearmanr

from benchmarks.search_efficiency.judged import GROUP, RELAXATION_COLUMNS, is_short
from benchmarks.search_efficiency.study import Study
from benchmarks.search_efficiency.tables import append_row, read_rows
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation.batch import relax_many
from nanh2lib.report.published import reference_structure

POTENTIAL = "sevennet-0"
TOP = 30
"""So many different finds of each method and template, lowest energy of the judging potential first."""
FILE = "confirmed.csv"
COLUMNS = (
    "method", "variant", "held_out", "template", "sample_id", "energy_judged", "evaluations", "energy_final",
    "converged", "flags",
)  # fmt: skip
"""One row a find, and one for alpha. ``energy_judged`` (CHGNet) and ``energy_final`` (SevenNet-0): eV per formula
unit, both of rigid units in the fixed cell; empty where there is none. ``flags``: why a relaxation is not usable."""
ALPHA = "alpha"


def best_finds(rows: pd.DataFrame, top: int = TOP) -> pd.DataFrame:
    """The lowest different relaxations (rows of relaxations.csv) of each method on each judged template."""
    short = [is_short(*pair) for pair in zip(rows["template"], rows["variant"], strict=True)]
    usable = rows[(rows["duplicate_of"] == "") & rows["energy_final"].notna() & ~np.array(short, dtype=bool)]
    ordered = usable.sort_values(["template", *GROUP, "energy_final", "sample_id"])
    return ordered.groupby(["template", *GROUP], sort=False).head(top)


def confirm(study: Study, top: int = TOP, executor: Executor | None = None, progress: bool = True) -> int:
    """Relax what confirmed.csv lacks, from where the judging potential left it; the same relaxer but for the potential.

    Parameters
    ----------
    study : Study
    top : int
        Finds of each method and template.
    executor : Executor, optional
        Default: this process.
    progress : bool

    Returns
    -------
    int
        Rows added.

    Raises
    ------
    ComputationError
        The study's store lacks a crystal.
    """
    path = study.results / FILE
    done = set(read_rows(path, COLUMNS)["sample_id"])
    finds = best_finds(read_rows(study.relaxations, RELAXATION_COLUMNS), top)
    rows = {str(row["sample_id"]): {str(k): v for k, v in row.items()} for row in finds.to_dict("records")}
    missing = {name: _start(study, name) for name in [ALPHA, *rows] if name not in done}
    alpha = {"method": "reference", "variant": ALPHA, "held_out": 0, "template": ALPHA, "energy_final": None}

    def write(name: str, outcome: tuple[RelaxationResult, ...] | str) -> None:
        append_row(path, COLUMNS, confirmed_row(name, rows.get(name, alpha), outcome))

    settings = study.relaxation.model_copy(update={"potential": POTENTIAL, "options": {}})
    relax_many(missing, settings, executor, write, compound=SODIUM_AMIDE, progress=progress)
    return len(missing)


def confirmed_row(name: str, judged: Mapping[str, Any], outcome: tuple[RelaxationResult, ...] | str) -> dict[str, Any]:
    """A row of confirmed.csv; an unusable relaxation has no energy, but its reason."""
    last = None if isinstance(outcome, str) else outcome[-1]
    good = last is not None and last.usable and np.isfinite(last.energy_final)
    reason = str(outcome) if last is None else " ".join(last.flags)
    return {
        **{column: judged[column] for column in (*GROUP, "template")},
        "held_out": int(judged["held_out"]),
        "sample_id": name,
        "energy_judged": judged["energy_final"],
        "evaluations": 0 if last is None else last.evaluations,
        "energy_final": last.energy_final if last is not None and good else None,
        "converged": bool(last is not None and last.converged),
        "flags": " ".join(reason.split()),
    }


def _start(study: Study, name: str) -> AsymmetricUnit | Structure:
    if name == ALPHA:
        return reference_structure(ALPHA)
    try:
        result = study.run.store.get(name).relaxed_fixed
    except InputError as error:
        raise ComputationError(f"{name}: not in {study.run.directory}; fill it from {study.crystals}") from error
    if result is None:
        raise ComputationError(f"{name}: {study.run.directory} holds no relaxed crystal of it; run refresh")
    return result.asymmetric_unit or result.structure


@dataclass(frozen=True)
class Confirmation:
    """What confirmed.csv says.

    Attributes
    ----------
    alpha : float
        Energy of alpha, eV per formula unit.
    rows : DataFrame
        Of the finds.
    """

    alpha: float
    rows: pd.DataFrame

    def numbers(self, levels: Mapping[str, float]) -> Iterator[tuple[tuple[str, str, str, int], dict[str, Any]]]:
        """(template, method, variant, held_out) and the numbers of each group.

        Parameters
        ----------
        levels : mapping
            Heights above alpha, eV per formula unit, under which finds are counted.
        """
        for key, part in self.rows.groupby(["template", *GROUP], sort=True):
            above = 1e3 * (part["energy_final"].to_numpy(dtype=np.float64) - self.alpha)
            good = np.isfinite(above)
            if not good.any():
                continue
            judged = part["energy_judged"].to_numpy(dtype=np.float64)[good]
            rank = spearmanr(judged, above[good]).statistic if good.sum() > 2 else None
            yield (
                (str(key[0]), str(key[1]), str(key[2]), int(key[3])),
                {
                    "finds": len(part),
                    "unusable": int((~good).sum()),
                    "lowest_mev_above_alpha": round(float(above[good].min()), 1),
                    "median_mev_above_alpha": round(float(np.median(above[good])), 1),
                    **{f"within_{name}": int((above[good] <= 1e3 * level).sum()) for name, level in levels.items()},
                    "rank_correlation": None if rank is None or np.isnan(rank) else round(float(rank), 2),
                },
            )


def read_confirmation(folder: Path, relaxations: pd.DataFrame) -> Confirmation | None:
    """The confirmation of what are now the best finds among relaxations; None without one, or without alpha's."""
    rows = read_rows(folder / FILE, COLUMNS)
    alpha = rows[rows["sample_id"] == ALPHA]["energy_final"].to_numpy(dtype=np.float64)
    if not len(alpha) or not np.isfinite(alpha[0]):
        return None
    return Confirmation(float(alpha[0]), rows[rows["sample_id"].isin(best_finds(relaxations)["sample_id"])])
