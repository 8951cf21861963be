"""Energy calls of our relaxation against ASE's FrechetCellFilter + FixSymmetry with FIRE and LBFGS.

    python benchmarks/bench_relaxation.py --store runs/full/candidates.db --count 20

Every structure starts as the search left it. Ours: rigid units, then all atoms, free cell, space
group kept; all calls counted. ASE: all atoms, same convergence (0.02 eV/A on every atom, 0.1 GPa
on every stress component). Results are written after each structure; a rerun goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand
from nanh2lib.energy.labels import formula_units
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.relaxation import AtomsSettings, RelaxationSettings, relax

LIMITS = AtomsSettings()


def relax_with_ase(unit: AsymmetricUnit, potential: str, optimiser: str, limit: int) -> dict[str, Any]:
    from ase import optimize
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.units import GPa

    structure = expand(unit)[0]
    atoms = structure.to_ase_atoms(msonable=False)
    atoms.calc = get_calculator(potential)
    atoms.set_constraint(FixSymmetry(atoms))
    run = getattr(optimize, optimiser)(FrechetCellFilter(atoms), logfile=None)
    start = time.perf_counter()
    calls, fmax, stress = 0, float("inf"), float("inf")
    for _ in run.irun(fmax=0.0, steps=limit):
        calls += 1
        fmax = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        stress = float(np.abs(atoms.get_stress()).max() / GPa)
        if fmax <= LIMITS.fmax and stress <= LIMITS.max_stress:
            break
    return {
        "calls": calls,
        "ev_per_fu": float(atoms.get_potential_energy() / formula_units(structure)),
        "fmax": fmax,
        "max_stress": stress,
        "converged": fmax <= LIMITS.fmax and stress <= LIMITS.max_stress,
        "seconds": time.perf_counter() - start,
    }


def relax_with_ours(unit: AsymmetricUnit, potential: str) -> dict[str, Any]:
    start = time.perf_counter()
    results = relax(unit, RelaxationSettings(potential=potential))
    last = results[-1]
    return {
        "calls": sum(result.evaluations for result in results),
        "by_stage": {result.stage: result.evaluations for result in results},
        "ev_per_fu": last.energy_final,
        "fmax": last.fmax,
        "max_stress": last.max_stress,
        "converged": last.converged,
        "flags": list(last.flags),
        "seconds": time.perf_counter() - start,
    }


def summary(rows: dict[str, Any], atoms_per_fu: float) -> str:
    """Medians over all structures: ratio of calls, and energy difference in meV per atom."""
    lines = []
    for name in ("FIRE", "LBFGS"):
        both = [row for row in rows.values() if name in row]
        ratio = statistics.median(row["ours"]["calls"] / row[name]["calls"] for row in both)
        gaps = [1e3 * (row["ours"]["ev_per_fu"] - row[name]["ev_per_fu"]) / atoms_per_fu for row in both]
        unfinished = sum(not row[name]["converged"] for row in both)
        lines.append(
            f"{name}: {len(both)} structures, calls ours/{name} {ratio:.2f}, energy ours-{name} "
            f"{statistics.median(gaps):+.2f} meV per atom, {name} did not converge for {unfinished}"
        )
    return "\n".join(lines)


def units_of(store: Path, count: int) -> dict[str, AsymmetricUnit]:
    """Accepted candidates of a store, spread evenly over it."""
    from nanh2lib.store import CandidateStore

    accepted = [c for c in CandidateStore(store).candidates() if c.accepted and c.asymmetric_unit is not None]
    accepted.sort(key=lambda candidate: candidate.id)
    chosen = np.unique(np.linspace(0, len(accepted) - 1, count).round().astype(int))
    return {accepted[i].id: accepted[i].asymmetric_unit for i in chosen if accepted[i].asymmetric_unit is not None}


def write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="store of a run, with accepted candidates")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--limit", type=int, default=1000, help="most calls of an ASE optimiser")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/relaxation.json"))
    arguments = parser.parse_args()
    kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    same = kept.get("potential") == arguments.potential and kept.get("limit") == arguments.limit
    rows: dict[str, Any] = kept["rows"] if same else {}
    units = units_of(arguments.store, arguments.count)
    for key, unit in units.items():
        row = rows.setdefault(key, {"template": unit.template.label, "atoms": unit.template.n_atoms})
        for name in ("ours", "LBFGS", "FIRE"):
            if name in row:
                continue
            if name == "ours":
                row[name] = relax_with_ours(unit, arguments.potential)
            else:
                row[name] = relax_with_ase(unit, arguments.potential, name, arguments.limit)
            write(arguments.out, {"potential": arguments.potential, "limit": arguments.limit, "rows": rows})
        shown = (f"{name} {row[name]['calls']} {row[name]['ev_per_fu']:.4f}" for name in ("ours", "LBFGS", "FIRE"))
        print(row["template"], *shown)
    structure = expand(next(iter(units.values())))[0]
    print(summary(rows, len(structure) / formula_units(structure)))


if __name__ == "__main__":
    main()
