"""The lowest different crystals of each search, relaxed with the better potential as the published ones were."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.published_tables.modelling import starts_of
from benchmarks.published_tables.relaxations import COMMAND, relaxed_entry, structure_of
from benchmarks.published_tables.searching import GROUP_SYMPREC, Task, read_searches, relaxed_crystal, rounded
from benchmarks.published_tables.settings import BETTER, full_relaxation, read_rows, stamp, write_entries
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.errors import Nanh2Error
from nanh2lib.pipeline.comparison import ENERGY_WINDOW
from nanh2lib.ranking import DuplicateSettings, matches
from nanh2lib.ranking.library import CrystalLibrary
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation import relax
from nanh2lib.report.published import reference_structure

TOP = {"printed": 4, "free": 2}
"""So many different crystals of each search are confirmed, and with them the first that was found."""


def chosen_finds(rows: pd.DataFrame, crystal: Callable[[dict[str, Any]], RelaxationResult], top: int) -> list[str]:
    """Names of the first find and of the lowest different crystals, lowest first.

    Parameters
    ----------
    rows : DataFrame
        Of one published structure, cell and potential.
    crystal : callable
        The relaxed crystal of a row.
    top : int
    """
    usable = rows[rows["energy_final"].notna()].sort_values(["energy_final", "sample_id"])
    names = usable[usable["found"] == 1].sort_values("number")["sample_id"].head(1).tolist()
    library = CrystalLibrary(DuplicateSettings())
    for row in usable.to_dict("records"):
        if len(library) == top:
            break
        name, energy = str(row["sample_id"]), float(row["energy_final"])
        structure = crystal(row).structure
        if library.find(structure, energy) is None:
            library.add(name, structure, energy)
            names.append(name)
    return list(dict.fromkeys(names))


class Crystals:
    """Relaxed crystals of the searches, made again from their starts where they were not kept.

    Parameters
    ----------
    folder, work : Path
    rows : DataFrame
        Of the searches.
    """

    def __init__(self, folder: Path, work: Path, rows: pd.DataFrame) -> None:
        self.folder, self.work = folder, work
        self._counts = rows.groupby(["key", "cell", "method", "seed", "potential"])["number"].max() + 1
        self._starts: dict[Task, dict[int, AsymmetricUnit]] = {}

    def __call__(self, row: dict[str, Any]) -> RelaxationResult:
        labels = tuple(row[name] for name in ("key", "cell", "method", "seed", "potential"))
        key, cell, method, seed, potential = labels
        task = Task(str(key), str(cell), str(method), int(seed), self.folder, self.work, str(potential))

        def start(number: int) -> AsymmetricUnit:
            if task not in self._starts:
                self._starts[task] = dict(starts_of(task, int(self._counts[labels])))
            return self._starts[task][number]

        return relaxed_crystal(task, int(row["number"]), start, float(row["energy_final"]))


def confirm(folder: Path, work: Path, keys: tuple[str, ...] = ()) -> Iterator[str]:
    """Relax what is missing; one line each."""
    path = folder / "confirmed.json"
    published = read_rows(folder / "relaxed.json").get("rows", {})
    settings = full_relaxation(BETTER)
    searches = read_searches(folder)
    searches = searches[~searches["method"].str.startswith("displaced")]
    crystal = Crystals(folder, work, searches)
    for (key, cell, potential), rows in searches.groupby(["key", "cell", "potential"], sort=True):
        known = published.get(str(key), {}).get(BETTER, {})
        if (keys and key not in keys) or "ev_per_fu" not in known:
            continue
        for name in chosen_finds(rows, crystal, TOP[str(cell)]):
            entries = read_rows(path).get("rows", {})
            if name in entries:
                continue
            row = rows[rows["sample_id"] == name].iloc[0].to_dict()
            start = crystal(row)
            labels = {"key": str(key), "method": str(row["method"]), "seed": int(row["seed"])}
            labels |= {"searched_cell": str(cell), "searched_with": str(potential)}
            entries[name] = {**labels, **confirmed_entry(start, settings, known, published.get("alpha", {}))}
            write_entries(path, f"{COMMAND} confirm", settings.model_dump(mode="json"), entries)
            yield f"{name} {entries[name].get('mev_from_published')} found {entries[name].get('found')}"


def confirmed_entry(
    start: RelaxationResult, settings: Any, known: dict[str, Any], alpha: dict[str, Any]
) -> dict[str, Any]:
    """A find relaxed again, its energy beside that of the published structure and of alpha."""
    begin = time.perf_counter()
    try:
        results = relax(start.asymmetric_unit or start.structure, settings, SODIUM_AMIDE)
        last = results[-1]
        entry = relaxed_entry(start.structure, results, time.perf_counter() - begin)
    except Nanh2Error as error:
        return {"failure": str(error), **stamp()}
    gap = last.energy_final - known["ev_per_fu"]
    rms = matches(last.structure, structure_of(known))
    tolerance = f"{GROUP_SYMPREC:g}"
    same = entry["space_groups"][tolerance] == known["space_groups"][tolerance]
    zero = alpha.get(BETTER, {}).get("ev_per_fu")
    return {
        **entry,
        "mev_from_published": round(1e3 * gap, 2),
        "mev_above_alpha": None if zero is None else round(1e3 * (last.energy_final - zero), 2),
        "rms": rounded(rms),
        "rms_from_alpha": rounded(matches(last.structure, reference_structure("alpha"))),
        "found": rms is not None and same and abs(gap) <= ENERGY_WINDOW and last.usable,
    }
