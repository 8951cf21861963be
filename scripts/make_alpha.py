"""Place and relax the hydrogens of alpha-NaNH2 and write nanh2lib/data/alpha.json.

Cell, space group and sites of the heavy atoms are experimental (Zalkin and Templeton,
J. Phys. Chem. 60, 821 (1956)); every coordinate is computed here, in three runs inside that fixed cell:

1. rigid NH2 (three numbers: y of Na, z of N, angle of the NH2 plane) with CHGNet,
2. the same with SevenNet-0,
3. all atoms free within Fddd with SevenNet-0: the coordinates that the package ships.

Run from the root of the repository: ``python scripts/make_alpha.py`` (about two minutes on one core).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixSymmetry
from ase.optimize import BFGS
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]

HALL_NUMBER = 335  # Fddd, origin choice 1
CELL = (8.964, 10.456, 8.073)  # A, experimental
N_H = 1.03  # A, supplement
H_N_H = 104.0  # degrees, supplement
START = (0.144, 0.236, 120.0)  # y of Na, z of N, plane angle from a in degrees
FMAX = 0.001  # eV/A
PACKAGES = {"chgnet": "chgnet", "sevennet-0": "sevenn"}


def calculator(name: str) -> Calculator:
    """ASE calculator whose weights ship inside its wheel."""
    if name == "chgnet":
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(use_device="cpu", verbose=False)
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator("7net-0", device="cpu")


def hydrogen_offsets(angle: float) -> Array:
    """Offsets (2, 3) in A of the two H from N: bisector along +c, plane at ``angle`` degrees from a."""
    half, plane = math.radians(H_N_H / 2), math.radians(angle)
    across = N_H * math.sin(half) * np.array([math.cos(plane), math.sin(plane), 0.0])
    along = N_H * math.cos(half) * np.array([0.0, 0.0, 1.0])
    return np.stack([along + across, along - across])


def rigid_sites(parameters: Array) -> list[tuple[str, Array]]:
    """Na, N and one H of the asymmetric unit, fractional, from (y, z, plane angle)."""
    y, z, angle = parameters
    nitrogen = np.array([0.0, 0.0, z])
    hydrogen = nitrogen + hydrogen_offsets(angle)[0] / np.array(CELL)
    return [("H", hydrogen), ("N", nitrogen), ("Na", np.array([0.0, y, 0.0]))]


def crystal(sites: list[tuple[str, Array]]) -> Atoms:
    """All 64 atoms of the conventional cell, orbit by orbit, in the order of ``sites``."""
    operations = spglib.get_symmetry_from_database(HALL_NUMBER)
    symbols: list[str] = []
    positions: list[Array] = []
    for symbol, site in sites:
        orbit: list[Array] = []
        for rotation, translation in zip(operations["rotations"], operations["translations"], strict=True):
            image = np.mod(rotation @ site + translation, 1.0)
            if all(np.abs(image - other - np.round(image - other)).max() > 1e-4 for other in orbit):
                orbit.append(image)
        symbols += [symbol] * len(orbit)
        positions += orbit
    return Atoms(symbols, scaled_positions=np.array(positions), cell=np.diag(CELL), pbc=True)


def relax_rigid(name: str) -> dict[str, Any]:
    """Minimise the energy over (y, z, plane angle); the gradient is minus forces times d(positions)/d(parameters)."""
    calc = calculator(name)
    count = {"evaluations": 0}
    scale = np.array([0.01, 0.01, 5.0])  # about 0.1 A each

    def positions(parameters: Array) -> Array:
        return np.asarray(crystal(rigid_sites(parameters)).get_positions())

    def energy_and_gradient(scaled: Array) -> tuple[float, Array]:
        parameters = scaled * scale
        atoms = crystal(rigid_sites(parameters))
        atoms.calc = calc
        count["evaluations"] += 1
        gradient = np.zeros(3)
        for i in range(3):
            step = np.zeros(3)
            step[i] = 1e-4 * scale[i]
            moved = positions(parameters + step) - positions(parameters - step)
            fractional = moved / np.array(CELL)
            moved -= np.round(fractional) * np.array(CELL)
            gradient[i] = -np.sum(atoms.get_forces() * moved) / 2e-4
        return float(atoms.get_potential_energy()), gradient

    result = minimize(
        energy_and_gradient,
        np.array(START) / scale,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-10, "gtol": 1e-3},
    )
    y, z, angle = result.x * scale
    return {
        "method": "rigid NH2, fixed cell, Fddd kept",
        "potential": name,
        "package": f"{PACKAGES[name]} {version(PACKAGES[name])}",
        "na_y": round(float(y), 4),
        "n_z": round(float(z), 4),
        "plane_angle_degrees": round(float(angle), 1),
        "energy_ev_per_formula_unit": round(float(result.fun) / 16, 4),
        "evaluations": count["evaluations"],
        "converged": bool(result.success),
    }


def relax_all_atoms(name: str, start: Array) -> tuple[dict[str, Any], Atoms]:
    """Relax every atom in the fixed cell with the space group held by ASE's FixSymmetry."""
    atoms = crystal(rigid_sites(start))
    atoms.set_constraint(FixSymmetry(atoms, symprec=1e-4))
    atoms.calc = calculator(name)
    optimiser = BFGS(atoms, logfile=None)
    converged = bool(optimiser.run(fmax=FMAX, steps=300))
    record = {
        "method": "all atoms, fixed cell, Fddd kept (ASE FixSymmetry)",
        "potential": name,
        "package": f"{PACKAGES[name]} {version(PACKAGES[name])}",
        "fmax_ev_per_angstrom": FMAX,
        "energy_ev_per_formula_unit": round(float(atoms.get_potential_energy()) / 16, 4),
        "evaluations": int(optimiser.nsteps) + 1,
        "converged": converged,
    }
    return record, atoms


def representatives(atoms: Atoms) -> list[list[str]]:
    """One H, N and Na in their printed form: N on (0, 0, z), Na on (0, y, 0), H bound to that N, 5 decimals."""
    fractional = atoms.get_scaled_positions(wrap=True)
    symbols = np.array(atoms.get_chemical_symbols())
    first = {symbol: fractional[np.flatnonzero(symbols == symbol)[0]] for symbol in ("H", "N", "Na")}
    labels = {"H": "32h", "N": "16g", "Na": "16f"}
    rows = []
    for symbol, site in first.items():
        site = np.where(np.abs(site - np.round(site)) < 1e-4, np.round(site) % 1.0, site)
        near = site - np.round(site - np.array([0.0, 0.0, site[2]])) if symbol == "H" else site
        rows.append([symbol, labels[symbol], *(f"{value:.5f}" for value in near)])
    return rows


def main() -> None:
    """Run the three relaxations and write the file in one step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("nanh2lib/data/alpha.json"))
    out: Path = parser.parse_args().out
    warnings.filterwarnings("ignore")
    rigid = [relax_rigid("chgnet"), relax_rigid("sevennet-0")]
    start = np.array([rigid[1]["na_y"], rigid[1]["n_z"], rigid[1]["plane_angle_degrees"]])
    free, atoms = relax_all_atoms("sevennet-0", start)
    document = {
        "name": "alpha-NaNH2",
        "provenance": {
            "cell_and_sites": "Zalkin and Templeton, J. Phys. Chem. 60, 821 (1956): Fddd, origin choice 1, "
            "a = 8.964(3), b = 10.456(3), c = 8.073(3) A, Na on 16f (0, y, 0), N on 16g (0, 0, z)",
            "coordinates": "not experimental: y, z and the hydrogen atoms were placed and relaxed by us in the fixed "
            "experimental cell with SevenNet-0, all atoms free within Fddd",
            "made_by": "scripts/make_alpha.py",
            "start": {
                "na_y": START[0],
                "n_z": START[1],
                "plane_angle_degrees": START[2],
                "n_h": N_H,
                "h_n_h": H_N_H,
            },
            "relaxations": [*rigid, free],
        },
        "space_group": "Fddd",
        "space_group_number": 70,
        "hall_number": HALL_NUMBER,
        "z": 16,
        "lengths": [f"{length:.3f}" for length in CELL],
        "angles": ["90.000"] * 3,
        "rows": representatives(atoms),
    }
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, out)


if __name__ == "__main__":
    main()
