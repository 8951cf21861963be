"""GPAW (PBE) relaxations of cell and atoms with the space group kept, resumable, kept in the project as JSON.

    python scripts/gpaw_relaxations.py                      # the small crystals of Table S1, and alpha
    python scripts/gpaw_relaxations.py S1-P21212 --cutoff 600

Each starts from the crystal relaxed with SevenNet-0, with SevenNet-0's Hessian, in the package's own
symmetry coordinates. The k-mesh is that of the start and stays. The stress of plane waves that shrink
with the cell is not the slope of energies at one cutoff; the difference is measured from cells strained
each way that the symmetry allows and added as a tensor that goes with 1/volume. Where the descent ends it is measured
again, and a second descent goes on with it. At the end energies of cells 2 and 4 % larger and
smaller (NH2 kept rigid) show whether the relaxed cell is where the curve has its minimum. Every energy
is written to benchmarks/results/gpaw_relaxations/KEY.json as it comes: a killed run goes on with the
next one. What the book needs goes to benchmarks/results/gpaw_relaxed.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.geometry import minkowski_reduce
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure
from scipy.linalg import expm

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand, expand_tensors
from nanh2lib.crystal.primitive import primitive_crystals
from nanh2lib.energy.gpaw_calculator import k_mesh
from nanh2lib.energy.kept_calculator import KeptCalculator
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.files import write_atomically
from nanh2lib.relaxation import AtomsSettings, relax_atoms
from nanh2lib.relaxation.coordinates import SymmetryCoordinates
from nanh2lib.relaxation.gradient import evaluate
from nanh2lib.relaxation.measured_hessian import measured_hessian
from nanh2lib.relaxation.minimise import minimise
from nanh2lib.relaxation.objective import GPA, Objective
from nanh2lib.relaxation.quality import symmetry_of
from nanh2lib.report.reference_energies import reference_crystals

FloatArray = NDArray[np.float64]
RESULTS = Path("benchmarks", "results")
STATES = RESULTS / "gpaw_relaxations"
SUMMARY = RESULTS / "gpaw_relaxed.json"
KEYS = ("S1-P21212", "alpha", "S1-P21c", "S1-Pcca")
START = "sevennet-0"
STRAIN = 0.015
"""Frobenius norm of the strains, up and down, with which the Pulay stress is measured."""
ROUNDS = 2
"""Times that the Pulay stress is measured, each followed by a descent."""
VOLUMES = (0.96, 0.98, 1.0, 1.02, 1.04)
LIMITS = AtomsSettings(fmax=0.02, max_stress=0.1, max_evaluations=30, max_step=0.2)
NOISE = 1e-4
"""eV per atom: energies at one cutoff jump by as much when the number of plane waves changes with the cell."""
N_H = 1.3
"""A: a hydrogen belongs to the nitrogen that is nearer than this."""


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def write(path: Path, data: dict[str, Any], indent: int | None = None) -> None:
    write_atomically(path, (json.dumps(data, indent=indent, sort_keys=True) + "\n").encode())


def primitive_cell(unit: AsymmetricUnit) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Species, lattice and fractional coordinates, as the descent hands them to the calculator."""
    crystals = primitive_crystals(expand_tensors(unit, project_sites=False), unit.template)
    return crystals.species, crystals.lattice[0].numpy(), crystals.frac_coords[0].numpy()


def new_state(key: str, cutoff: float, k_spacing: float) -> dict[str, Any]:
    """Start, Hessian, cell vectors and mesh of a relaxation that has not begun."""
    settings = AtomsSettings(fmax=0.005, max_stress=0.05, max_evaluations=400)
    relaxed = relax_atoms(reference_crystals()[key], START, settings)
    unit = relaxed.asymmetric_unit
    if unit is None or not relaxed.usable:
        raise SystemExit(f"{key}: {START} gave no start ({', '.join(relaxed.flags)})")
    coordinates = SymmetryCoordinates.of(unit, free_cell=True)
    reduced, change = minkowski_reduce(primitive_cell(coordinates.start)[1])
    mesh = list(k_mesh(reduced, k_spacing))
    return {
        "key": key,
        "start": coordinates.start.to_dict(),
        "hessian": measured_hessian(coordinates, get_calculator(START)).tolist(),
        "cell_change": np.asarray(change).tolist(),
        "gpaw": {"cutoff": cutoff, "mesh": mesh, "empty_bands": 8, "energy_tolerance": 1e-6, "density_tolerance": 2e-5},
        "k_spacing": k_spacing,
        "versions": {name: version(name) for name in ("nanh2lib", "gpaw", "gpaw-data", "sevenn")},
        "rounds": [],
        "evaluations": [],
    }


def swollen(species: tuple[str, ...], lattice: FloatArray, frac: FloatArray, ratio: float) -> tuple[Any, ...]:
    """The crystal at another volume: Na and N keep their fractions, N-H vectors stay as they are."""
    factor = ratio ** (1 / 3)
    crystal = Structure(Lattice(lattice), list(species), frac)
    moved = factor * (frac @ lattice)
    for i, name in enumerate(species):
        if name != "H":
            continue
        near = min(
            (n for n in crystal.get_neighbors(crystal[i], N_H) if n.specie.symbol == "N"), key=lambda n: n.nn_distance
        )
        home = np.asarray(near.coords)
        moved[i] = factor * home + (frac[i] @ lattice - home)
    return species, factor * lattice, moved @ np.linalg.inv(factor * lattice)


def pulay_stress(calculator: KeptCalculator, coordinates: SymmetryCoordinates) -> dict[str, list[float]]:
    """Slopes of the energy along the symmetric strains less the computed stress: tensors, GPa, Voigt's order."""
    species, lattice, frac = primitive_cell(coordinates.start)
    volume = abs(np.linalg.det(lattice))
    stress = evaluate(species, lattice, frac, calculator)[2]
    slopes = np.zeros((3, 3))
    for strain in coordinates.strain_basis.numpy():
        low, high = (evaluate(species, lattice @ expm(s * strain), frac, calculator)[0] for s in (-STRAIN, STRAIN))
        slopes += (high - low) / (2 * STRAIN * volume) * strain
    tensors = {"slope_gpa": slopes, "computed_gpa": stress, "correction_gpa": slopes - stress}
    return {name: (GPA * full_3x3_to_voigt_6_stress(tensor)).round(4).tolist() for name, tensor in tensors.items()}


def descent(state: dict[str, Any], calculator: KeptCalculator, path: Path, number: int) -> Objective:
    """One round: the Pulay stress where it begins, then downhill with it."""
    begin = state["start"] if number == 0 else state["rounds"][number - 1]["end"]
    coordinates = SymmetryCoordinates.of(AsymmetricUnit.from_dict(begin), free_cell=True)
    if len(state["rounds"]) == number:
        calculator.extra_virial = np.zeros(6)
        calculator.reset()
        state["rounds"].append({"pulay": pulay_stress(calculator, coordinates)})
    volume = abs(np.linalg.det(primitive_cell(coordinates.start)[1]))
    calculator.extra_virial = np.array(state["rounds"][number]["pulay"]["correction_gpa"]) / GPA * volume
    calculator.reset()
    objective = Objective(coordinates, calculator, LIMITS)
    minimise(objective, np.array(state["hessian"]), NOISE)
    end = coordinates.asymmetric_unit(torch.as_tensor(objective.best.x)).detach()
    state["rounds"][number].update(end=end.to_dict(), stopped=objective.stopped, steps=len(objective.path))
    write(path, state)
    return objective


def left_over(objective: Objective, hessian: FloatArray) -> float:
    """Energy (eV a cell) that the starting Hessian expects below the best point."""
    gradient = objective.best.gradient
    return float(0.5 * gradient @ np.linalg.solve(hessian, gradient))


def summary_of(state: dict[str, Any], objective: Objective, curve: list[tuple[float, float]]) -> dict[str, Any]:
    """What the book shows of a relaxation; energies and volumes per formula unit."""
    best = objective.best
    first = state["evaluations"][0]
    unit = objective.coordinates.asymmetric_unit(torch.as_tensor(best.x)).detach()
    crystal = expand(unit)[0]
    units = len(crystal) // 4
    number, operations = symmetry_of(crystal)
    result: dict[str, Any] = {
        "gpaw": state["gpaw"],
        "k_spacing": state["k_spacing"],
        "versions": state["versions"],
        "start": f"relaxed with {START} from the printed coordinates",
        "atoms": len(primitive_cell(unit)[0]),
        "pulay": [part["pulay"] for part in state["rounds"]],
        "stopped": objective.stopped,
        "steps": [part["steps"] for part in state["rounds"]],
        "evaluations": len(state["evaluations"]),
        "start_ev_per_fu": first["energy"] / (len(first["positions"]) // 4),
        "left_over_ev_per_fu": left_over(objective, np.array(state["hessian"])) / units,
        "ev_per_fu": best.energy / units,
        "fmax": best.fmax,
        "max_stress_gpa": best.max_stress,
        "volume_per_fu": crystal.volume / units,
        "cell": [round(value, 5) for value in crystal.lattice.parameters],
        "asymmetric_unit": unit.to_dict(),
        "space_group": number,
        "operations": operations,
        "seconds": round(sum(row["seconds"] for row in state["evaluations"])),
        "date": datetime.date.today().isoformat(),
        "command": f"python scripts/gpaw_relaxations.py {state['key']} --cutoff {state['gpaw']['cutoff']:g} "
        f"--k-spacing {state['k_spacing']:g}",
    }
    if curve:
        result["curve"] = [list(point) for point in sorted(curve)]
    return result


def relaxation(key: str, cutoff: float, k_spacing: float) -> Iterator[str]:
    path = STATES / f"{key}.json"
    state = read(path) or new_state(key, cutoff, k_spacing)
    write(path, state)

    def keep(rows: list[dict[str, Any]]) -> None:
        state["evaluations"] = rows
        write(path, state)

    calculator = KeptCalculator(
        get_calculator("gpaw", **state["gpaw"]), state["evaluations"], keep, state["cell_change"]
    )
    for number in range(ROUNDS):
        objective = descent(state, calculator, path, number)
        yield f"{key} {state['rounds'][number]}"
    publish(key, summary_of(state, objective, []))
    final = AsymmetricUnit.from_dict(state["rounds"][-1]["end"])
    species, lattice, frac = primitive_cell(final)
    curve: list[tuple[float, float]] = []
    for ratio in VOLUMES:
        cell = (species, lattice, frac) if ratio == 1 else swollen(species, lattice, frac, ratio)
        energy = evaluate(*cell, calculator)[0]
        curve.append((abs(np.linalg.det(cell[1])) / (len(species) // 4), energy / (len(species) // 4)))
        yield f"{key} volume {curve[-1][0]:.3f} A^3 {curve[-1][1]:.5f} eV"
    publish(key, summary_of(state, objective, curve))


def publish(key: str, result: dict[str, Any]) -> None:
    write(SUMMARY, {**read(SUMMARY), key: result}, indent=1)


def main() -> None:
    """Go on with each relaxation that has no curve yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keys", nargs="*", default=list(KEYS), help=f"of {', '.join(KEYS)}; all of them by default")
    parser.add_argument("--cutoff", type=float, default=600.0, help="eV; used where the relaxation has not begun")
    parser.add_argument("--k-spacing", type=float, default=0.4, help="1/A, reciprocal lengths with 2 pi; likewise")
    options = parser.parse_args()
    for key in options.keys:
        if "curve" not in read(SUMMARY).get(key, {}):
            for line in relaxation(key, options.cutoff, options.k_spacing):
                print(line, flush=True)


if __name__ == "__main__":
    main()
