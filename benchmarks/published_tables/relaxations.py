"""The published structures and alpha, relaxed from where they stand; and kicked, to see whether they come back."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from benchmarks.published_tables.settings import (
    BETTER,
    FULL_ATOMS,
    KICK,
    SYMPRECS,
    full_relaxation,
    read_rows,
    stamp,
    write_entries,
)
from nanh2lib.crystal.deviation import deviation
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.energy.labels import formula_units
from nanh2lib.errors import ComputationError, Nanh2Error
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation import relax, release
from nanh2lib.relaxation.quality import symmetry_of
from nanh2lib.report.reference_energies import reference_crystals
from nanh2lib.report.tables import StructureTable, structure_table

COMMAND = "python -m benchmarks.published_tables"
SUPERCELLS = {"S1-P21212": (2, 2, 2), "S1-P21c": (2, 1, 2), "S1-Pcca": (1, 2, 1)}
"""Cells that are kicked; the others hold 64 atoms as they are. A kick tests the waves that fit the cell."""

SAME_MEV = 1.0
"""Energies closer than this, per formula unit, are the same after a kick."""


def crystals_by_size() -> dict[str, Structure]:
    """Alpha and the published structures, errata applied, smallest primitive cell first."""
    crystals = reference_crystals()
    return dict(sorted(crystals.items(), key=lambda pair: len(pair[1].get_primitive_structure())))


def groups_of(structure: Structure) -> dict[str, int]:
    """International number of the space group by tolerance (A)."""
    return {f"{symprec:g}": symmetry_of(structure, symprec)[0] for symprec in SYMPRECS}


def shape_of(structure: Structure) -> dict[str, Any]:
    """A crystal as it is committed: in the form of the paper's tables, and its cell on the axes given."""
    return {
        "cell": [round(value, 4) for value in structure.lattice.parameters],
        "volume_per_fu": round(structure.volume / formula_units(structure, SODIUM_AMIDE), 4),
        "table": structure_table(structure).to_dict(),
        "space_groups": groups_of(structure),
    }


def structure_of(entry: dict[str, Any]) -> Structure:
    """The crystal of a committed entry, to the four decimals of its table."""
    return StructureTable.from_dict(entry["table"]).structure()


def without_drift(after: Structure, before: Structure) -> Structure:
    """A relaxed crystal less its mean displacement: along a polar axis the origin is free. Same order of sites."""
    moved = after.frac_coords - before.frac_coords
    moved -= np.round(moved)
    return Structure(after.lattice, after.species, after.frac_coords - moved.mean(0))


def relaxed_entry(before: Structure, results: tuple[RelaxationResult, ...], seconds: float) -> dict[str, Any]:
    """What a relaxation changed."""
    last = results[-1]
    if not math.isfinite(last.energy_final) or not math.isfinite(results[0].energy_start):
        raise ComputationError(f"no energy ({', '.join(last.flags) or 'no reason given'})")
    moved = deviation(without_drift(last.structure, before), before)
    old, new = before.lattice.parameters, last.structure.lattice.parameters
    return {
        **shape_of(last.structure),
        "space_groups_before": groups_of(before),
        "lengths_change_percent": [round(100 * (b / a - 1), 3) for a, b in zip(old[:3], new[:3], strict=True)],
        "angles_change_degrees": [round(b - a, 3) for a, b in zip(old[3:], new[3:], strict=True)],
        "volume_change_percent": round(100 * (last.structure.volume / before.volume - 1), 3),
        "rms_displacement_a": round(moved.rms, 4),
        "max_displacement_heavy_a": round(moved.max_heavy, 4),
        "max_displacement_h_a": round(moved.max_hydrogen, 4),
        "ev_per_fu_start": round(results[0].energy_start, 6),
        "ev_per_fu": round(last.energy_final, 6),
        "energy_change_mev": round(1e3 * (last.energy_final - results[0].energy_start), 2),
        "evaluations": sum(result.evaluations for result in results),
        "converged": last.converged,
        "fmax": round(last.fmax, 5),
        "max_stress_gpa": round(last.max_stress, 4),
        "flags": list(last.flags),
        "seconds": round(seconds, 1),
        **stamp(),
    }


def relax_published(folder: Path, potential: str, keys: tuple[str, ...] = ()) -> Iterator[str]:
    """Relax what is missing; one line each."""
    path = folder / "relaxed.json"
    config = {"stage": "all atoms and cell, space group kept", **FULL_ATOMS.model_dump(mode="json")}
    for key, crystal in crystals_by_size().items():
        rows = read_rows(path).get("rows", {})
        if (keys and key not in keys) or potential in rows.get(key, {}):
            continue
        begin = time.perf_counter()
        try:
            results = relax(crystal, full_relaxation(potential), SODIUM_AMIDE)
            entry = relaxed_entry(crystal, results, time.perf_counter() - begin)
        except Nanh2Error as error:
            entry = {"failure": str(error), **stamp()}
        rows.setdefault(key, {})[potential] = entry
        write_entries(path, f"{COMMAND} relax --potential NAME", config, rows)
        yield f"{key} {potential} {entry.get('ev_per_fu', entry.get('failure'))} {entry.get('evaluations')} calls"


def kick_published(folder: Path, keys: tuple[str, ...] = ()) -> Iterator[str]:
    """Kick the relaxed crystals and relax them in P1; one line each."""
    relaxed, path = read_rows(folder / "relaxed.json").get("rows", {}), folder / "kicks.json"
    config = {"potential": BETTER, "start": "relaxed.json", **KICK.model_dump(mode="json")}
    for key in crystals_by_size():
        rows = read_rows(path).get("rows", {})
        start = relaxed.get(key, {}).get(BETTER, {})
        if (keys and key not in keys) or key in rows or "table" not in start:
            continue
        cell = SUPERCELLS.get(key, (1, 1, 1))
        crystal = structure_of(start) * cell
        begin = time.perf_counter()
        result = release(crystal, BETTER, KICK, SODIUM_AMIDE)
        rows[key] = kicked_entry(crystal, cell, start, result, time.perf_counter() - begin)
        write_entries(path, f"{COMMAND} kick", config, rows)
        yield f"{key} {rows[key]['energy_change_mev']} meV, {rows[key]['flags']}, {result.evaluations} calls"


def kicked_entry(
    crystal: Structure, cell: tuple[int, ...], start: dict[str, Any], result: RelaxationResult, seconds: float
) -> dict[str, Any]:
    """Whether a kicked crystal came back."""
    change = 1e3 * (result.energy_final - start["ev_per_fu"])
    return {
        "supercell": list(cell),
        "atoms": len(crystal),
        "energy_change_mev": round(change, 2),
        "space_groups_before": groups_of(crystal),
        "space_groups_after": groups_of(result.structure),
        "rms_displacement_a": round(deviation(without_drift(result.structure, crystal), crystal).rms, 4),
        "evaluations": result.evaluations,
        "converged": result.converged,
        "fmax": round(result.fmax, 5),
        "flags": list(result.flags),
        "verdict": verdict(change, result),
        "seconds": round(seconds, 1),
        **stamp(),
    }


def verdict(change: float, result: RelaxationResult) -> str:
    """A minimum comes back to its group and its energy; a saddle falls by more than 1 meV per formula unit.

    Parameters
    ----------
    change : float
        Energy after the kick and the relaxation in P1 minus that before, meV per formula unit.
    """
    if change < -SAME_MEV:
        return "not a minimum"
    back = result.converged and "symmetry_lost" not in result.flags and change < SAME_MEV
    return "minimum" if back and result.usable else "undecided"
