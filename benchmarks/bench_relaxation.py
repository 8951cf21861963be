"""Energy calls of our relaxation against ASE's FrechetCellFilter + FixSymmetry with FIRE and LBFGS.

    python -m benchmarks.bench_relaxation [--count 20] [--potential chgnet] [--fresh]

One entry of each setting of the shipped dataset, at energies spread from the lowest to the highest,
each as the search left it. Ours: rigid units, then all atoms, free cell, space group kept; all calls
counted. ASE: all atoms of the primitive cell, same convergence (0.02 eV/A on every atom, 0.1 GPa on
every stress component). LBFGS may take 1000 calls. FIRE is stopped at three times our calls: where
it has not converged by then, its calls are a lower bound and its energy is not compared. Calls count,
not seconds. Results are written after each descent; a rerun does the missing ones.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand_tensors
from nanh2lib.crystal.primitive import AtomOrbits, atom_orbits, primitive_crystals
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.files import write_atomically
from nanh2lib.records import Candidate
from nanh2lib.relaxation import AtomsSettings, RelaxationSettings, relax
from nanh2lib.report.scaling import ATOMS_PER_FORMULA_UNIT, relaxation_summary
from nanh2lib.store.dataset import load_dataset

RESULT = Path(__file__).parent / "results" / "relaxation.json"
LIMITS = AtomsSettings()
LBFGS_LIMIT = 1000
FIRE_FACTOR = 3
"""FIRE may take this many times our calls: when it has not converged by then, ours are below a third of its."""


def chosen_entries(entries: Sequence[Candidate], count: int) -> list[Candidate]:
    """Entries of different settings whose ranks in raw energy are spread over their settings.

    The k-th setting gives its entry at the fraction (7 k mod n) / (n - 1) of its energies, so that
    neighbouring settings do not give neighbouring energies.
    """
    by_setting: dict[int, list[Candidate]] = {}
    for entry in entries:
        if entry.asymmetric_unit is not None:
            by_setting.setdefault(entry.asymmetric_unit.hall_number, []).append(entry)
    halls = sorted(by_setting)
    wanted = [halls[i] for i in np.unique(np.linspace(0, len(halls) - 1, min(count, len(halls))).round().astype(int))]
    chosen = []
    for k, hall in enumerate(wanted):
        members = sorted(by_setting[hall], key=lambda entry: (entry.energies["chgnet"], entry.id))
        place = (7 * k % len(wanted)) / max(len(wanted) - 1, 1)
        chosen.append(members[round(place * (len(members) - 1))])
    return chosen


class OrbitCalculator(Calculator):
    """A potential that computes one atom of each orbit, for relaxations with FixSymmetry.

    Its forces and stress are right once FixSymmetry has averaged them over the group, and only then;
    that is what ASE's optimisers see. Fewer seconds, the same calls.
    """

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, potential: str, orbits: AtomOrbits) -> None:
        super().__init__()
        self.inner, self.orbits = get_calculator(potential), orbits

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        found = self.inner.orbit_gradient(self.atoms, self.orbits)
        stress = full_3x3_to_voigt_6_stress(found.strain / self.atoms.get_volume())
        self.results = {"energy": found.energy, "forces": -found.positions, "stress": stress}


def relax_with_ase(unit: AsymmetricUnit, potential: str, optimiser: str, limit: int) -> dict[str, Any]:
    from ase import optimize
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.units import GPa

    crystal = primitive_crystals(expand_tensors(unit), unit.template)
    cell, frac = crystal.lattice[0].numpy(), crystal.frac_coords[0].numpy()
    atoms = Atoms(list(crystal.species), scaled_positions=frac, cell=cell, pbc=True)
    atoms.calc = OrbitCalculator(potential, atom_orbits(unit.template))
    atoms.set_constraint(FixSymmetry(atoms))
    run = getattr(optimize, optimiser)(FrechetCellFilter(atoms), logfile=None)
    start = time.perf_counter()
    calls, fmax, stress = 0, float("inf"), float("inf")
    for _ in run.irun(fmax=0.0, steps=limit - 1):  # the start is a call too
        calls += 1
        fmax = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        stress = float(np.abs(atoms.get_stress()).max() / GPa)
        if fmax <= LIMITS.fmax and stress <= LIMITS.max_stress:
            break
    return {
        "calls": calls,
        "ev_per_fu": float(atoms.get_potential_energy() / (len(atoms) // ATOMS_PER_FORMULA_UNIT)),
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


def descent(name: str, unit: AsymmetricUnit, potential: str, row: Mapping[str, Any]) -> dict[str, Any]:
    if name == "ours":
        return relax_with_ours(unit, potential)
    limit = LBFGS_LIMIT if name == "LBFGS" else FIRE_FACTOR * row["ours"]["calls"]
    return relax_with_ase(unit, potential, name, limit)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="structures, of as many settings")
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--fresh", action="store_true", help="compute again what the file holds")
    options = parser.parse_args(arguments)
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() and not options.fresh else {}
    rows: dict[str, Any] = kept["rows"] if kept.get("potential") == options.potential else {}
    data = {
        "command": f"python -m benchmarks.bench_relaxation --potential {options.potential}",
        "potential": options.potential,
        "fire_factor": FIRE_FACTOR,
        "lbfgs_limit": LBFGS_LIMIT,
        "rows": rows,
    }
    for entry in chosen_entries(load_dataset(), options.count):
        unit = entry.asymmetric_unit
        if unit is None:
            continue
        template = unit.template
        row = rows.setdefault(
            entry.id,
            {
                "setting": template.space_group.symbol,
                "hall": template.hall_number,
                "atoms": template.n_atoms // template.space_group.centering_order,
                "raw_ev_per_fu": entry.energies[options.potential],
            },
        )
        for name in ("ours", "LBFGS", "FIRE"):
            if name not in row:
                row[name] = {**descent(name, unit, options.potential, row), "date": datetime.date.today().isoformat()}
                write_atomically(options.out, (json.dumps(data, indent=1) + "\n").encode())
        shown = (f"{name} {row[name]['calls']} {row[name]['ev_per_fu']:.4f}" for name in ("ours", "LBFGS", "FIRE"))
        print(row["setting"], *shown, flush=True)
    for key, value in relaxation_summary(data).items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
