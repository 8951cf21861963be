"""Random search for the published structures: cell free, or clamped to the printed one; and from near them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.published_tables.relaxations import shape_of, structure_of
from benchmarks.published_tables.settings import (
    QUICK,
    SEARCH_COLUMNS,
    SEARCHES,
    VOLUME_PER_FORMULA_UNIT,
    VOLUME_TOLERANCE,
    read_rows,
    search_relaxation,
    stamp,
    write_entries,
)
from benchmarks.search_efficiency.tables import append_row
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.energy.labels import formula_units
from nanh2lib.errors import ComputationError, InputError, Nanh2Error
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import rotation_vector_to_matrix
from nanh2lib.pipeline.comparison import ENERGY_WINDOW
from nanh2lib.pipeline.run import read_json, write_json
from nanh2lib.ranking import DuplicateSettings, matches
from nanh2lib.records import RelaxationResult, ValidationReport
from nanh2lib.relaxation import relax
from nanh2lib.relaxation.quality import symmetry_of
from nanh2lib.report.published import published_structure
from nanh2lib.search.lattice_prior import LatticePrior
from nanh2lib.search.push_apart import push_apart
from nanh2lib.search.random_search import SearchSettings, random_search
from nanh2lib.settings import config_hash
from nanh2lib.validation import ValidationSettings, validate

MATCHED_WITHIN = 0.02
"""eV per formula unit: further away no match is looked for."""
GROUP_SYMPREC = DuplicateSettings().symprec
SAME_END = 1e-3
"""eV per formula unit: a relaxation made again must end where its row says."""
COMMAND = "python -m benchmarks.published_tables"


def search_settings(key: str, cell: str, count: int, seed: int) -> SearchSettings:
    """Search in the setting of a published structure.

    Parameters
    ----------
    key : str
    cell : {"free", "printed"}
        Random cells about the measured volume of alpha and all site templates, or the printed cell
        and general positions alone.
    count : int
        Accepted candidates.
    seed : int
    """
    item = published_structure(key)
    group: tuple[int | str, ...] = (f"hall:{item.hall_number}",)
    common: dict[str, Any] = {"z": item.z, "space_groups": group, "per_setting": count, "seed": seed}
    common["max_draws_per_setting"] = 40 * count + 1000
    if cell == "free":
        volume = {"volume_per_formula_unit": VOLUME_PER_FORMULA_UNIT, "volume_tolerance": VOLUME_TOLERANCE}
        return SearchSettings(lattice=LatticePrior(kind="volume", **volume), **common)
    if cell != "printed":
        raise InputError(f"cell {cell!r}: choose 'free' or 'printed'")
    prior = LatticePrior(kind="fixed", parameters=tuple(item.corrected.lattice_parameters))
    return SearchSettings(lattice=prior, general_only=True, **common)


@dataclass(frozen=True)
class Task:
    """One series of relaxations.

    Attributes
    ----------
    key, cell, method : str
    seed : int
    folder, work : Path
        Tables; relaxed crystals.
    potential : str
        That relaxes.
    """

    key: str
    cell: str
    method: str
    seed: int
    folder: Path
    work: Path
    potential: str = QUICK

    @property
    def label(self) -> str:
        """Key and cell, and the potential where it is not the quick one."""
        return f"{self.key}-{self.cell}" + (f"-{self.potential}" if self.potential != QUICK else "")

    @property
    def table(self) -> Path:
        return self.folder / "searches.csv"

    def identity(self, number: int) -> str:
        """Name of a relaxation."""
        return f"{self.label}-{self.method}-s{self.seed}-{number:04d}"

    def done(self) -> set[str]:
        """Names of those that are in the table."""
        return set(read_searches(self.folder)["sample_id"])


def read_searches(folder: Path) -> pd.DataFrame:
    """All rows of the searches; a line that a kill left unfinished does not count."""
    path = folder / "searches.csv"
    if not path.exists():
        return pd.DataFrame(columns=list(SEARCH_COLUMNS))
    text = path.read_bytes()
    return pd.read_csv(io.BytesIO(text[: text.rfind(b"\n") + 1]), dtype={"flags": str})


def reference(task: Task) -> dict[str, Any]:
    """The published structure relaxed exactly as the finds of a search are; computed once."""
    path, settings = task.folder / "references.json", search_relaxation(task.cell, task.potential)
    rows, name = read_rows(path).get("rows", {}), task.label
    if name not in rows:
        printed = published_structure(task.key).structure
        results = relax(printed, settings, SODIUM_AMIDE)
        last = results[-1]
        if not last.usable:
            raise ComputationError(f"{name}: relaxed as in the search it is unusable ({', '.join(last.flags)})")
        rows[name] = {
            **shape_of(last.structure),
            "potential": task.potential,
            "rms_from_printed": rounded(matches(last.structure, printed)),
            "ev_per_fu": round(last.energy_final, 6),
            "converged": last.converged,
            "evaluations": sum(result.evaluations for result in results),
            "config_hash": config_hash(settings),
            **stamp(),
        }
        config = {cell: chosen.model_dump(mode="json") for cell, chosen in SEARCHES.items()}
        write_entries(path, f"{COMMAND} search", config, rows)
    if rows[name]["config_hash"] != config_hash(settings):
        raise InputError(f"{path}: {name} was relaxed with other settings; use another --results folder")
    return dict(rows[name])


def random_starts(task: Task, count: int) -> Iterator[tuple[int, AsymmetricUnit]]:
    """Accepted candidates of the search, numbered; the same ones whatever is asked for."""
    settings = search_settings(task.key, task.cell, count, task.seed)
    checks = ValidationSettings(stage="generated")

    def validator(units: Any) -> list[ValidationReport]:
        return validate(units, checks)

    number = 0
    for candidate in random_search(settings, SODIUM_AMIDE, validator=validator, progress=False):
        if candidate.accepted and candidate.asymmetric_unit is not None:
            yield number, candidate.asymmetric_unit
            number += 1


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def displaced_starts(task: Task, distance: float, count: int) -> Iterator[tuple[int, AsymmetricUnit]]:
    """The published structure with rigid units moved and turned at random, then pushed apart.

    Parameters
    ----------
    task : Task
    distance : float
        Root mean square displacement of each unit's origin, A; turns have the same number of radians.
    count : int
    """
    unit = extract_asymmetric_unit(published_structure(task.key).structure, compound=SODIUM_AMIDE)
    inverse = torch.linalg.inv(lattice_parameters_to_matrix(unit.lattice_parameters))
    oriented = torch.tensor([not kind.is_monatomic for kind in unit.units])
    limits = SearchSettings().limits()
    for number in range(count):
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([task.seed, number]).generate_state(1)[0]))
        noise = torch.randn(2, *unit.frac_origins.shape, generator=generator, dtype=torch.float64)
        shift, turn = noise * distance / np.sqrt(3)
        turned = rotation_vector_to_matrix(turn) @ unit.rotations
        moved = unit.replace(
            frac_origins=unit.frac_origins + shift @ inverse,
            rotations=torch.where(oriented[:, None, None], turned, unit.rotations),
        )
        pushed = push_apart([moved], limits)
        if pushed.converged[0]:
            yield number, pushed.units[0]


def run_series(task: Task, starts: Iterator[tuple[int, AsymmetricUnit]]) -> Iterator[str]:
    """Relax every start that has no row yet; one line each."""
    known, done = reference(task), task.done()
    for number, unit in starts:
        name = task.identity(number)
        if name in done:
            continue
        try:
            results: tuple[RelaxationResult, ...] = relax(
                unit, search_relaxation(task.cell, task.potential), SODIUM_AMIDE
            )
            row = find_row(task, number, unit, results, known)
            write_json(task.work / f"{name}.json", results[-1].to_dict())
        except Nanh2Error as error:
            row = failed_row(task, number, unit, str(error))
        append_row(task.table, SEARCH_COLUMNS, row)
        yield f"{name} {row['mev_from_published']} meV, {row['evaluations']} calls, found {row['found']}"


def relaxed_crystal(
    task: Task, number: int, start: Callable[[int], AsymmetricUnit], energy: float, *, same: bool = True
) -> RelaxationResult:
    """The end of a relaxation that has a row: as it was kept, or made again from its start.

    On another kind of processor a long descent may fork and end in a neighbouring minimum.

    Parameters
    ----------
    task : Task
    number : int
    start : callable
        Gives the start of a number.
    energy : float
        What its row says, eV per formula unit.
    same : bool
        Refuse another end; else it is returned, but not kept.

    Raises
    ------
    ComputationError
        Made again it ends elsewhere.
    """
    path = task.work / f"{task.identity(number)}.json"
    if path.exists():
        return RelaxationResult.from_dict(read_json(path))
    last = relax(start(number), search_relaxation(task.cell, task.potential), SODIUM_AMIDE)[-1]
    if ends_at(last, energy):
        write_json(path, last.to_dict())
    elif same:
        raise ComputationError(
            f"{path.stem}: made again it ends at {last.energy_final:.6f} eV per formula unit, its row says "
            f"{energy:.6f}; give the folder with the crystals as --work, or make a table of its own with --results"
        )
    return last


def ends_at(result: RelaxationResult, energy: float) -> bool:
    """Whether a relaxation ended where its row says (eV per formula unit)."""
    return abs(result.energy_final - energy) <= SAME_END


def failed_row(task: Task, number: int, unit: AsymmetricUnit, reason: str) -> dict[str, Any]:
    """A start whose relaxation gave nothing: a row with the reason."""
    empty = dict.fromkeys(SEARCH_COLUMNS)
    labels = {"key": task.key, "cell": task.cell, "method": task.method, "seed": task.seed, "number": number}
    found = {"sample_id": task.identity(number), "template": unit.template.label, "units": unit.template.n_units}
    return {
        **empty, **labels, **found, "evaluations": 0, "converged": False, "found": False,
        "flags": " ".join(reason.split()), "date": stamp()["date"], "potential": task.potential,
    }  # fmt: skip


def find_row(
    task: Task, number: int, unit: AsymmetricUnit, results: tuple[RelaxationResult, ...], known: dict[str, Any]
) -> dict[str, Any]:
    """Row of a relaxation, compared with the published structure."""
    last = results[-1]
    calls = sum(result.evaluations for result in results)
    flags = " ".join(last.flags)
    if not last.usable:
        return {**failed_row(task, number, unit, flags), "evaluations": calls}
    gap = last.energy_final - known["ev_per_fu"]
    target = structure_of(known)
    rms = matches(last.structure, target) if abs(gap) <= MATCHED_WITHIN else None
    group = symmetry_of(last.structure, GROUP_SYMPREC)[0]
    same = group == known["space_groups"][f"{GROUP_SYMPREC:g}"]
    return {
        **failed_row(task, number, unit, flags),
        "evaluations": calls,
        "energy_start": results[0].energy_start,
        "energy_final": last.energy_final,
        "volume_per_fu": last.structure.volume / formula_units(last.structure, SODIUM_AMIDE),
        "space_group": group,
        "converged": last.converged,
        "mev_from_published": 1e3 * gap,
        "rms": rms,
        "found": rms is not None and same and abs(gap) <= ENERGY_WINDOW,
    }
