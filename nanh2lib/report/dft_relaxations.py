"""Crystals relaxed from first principles: read from a committed file, not computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand
from nanh2lib.report.book import project_root
from nanh2lib.report.committed import read_committed
from nanh2lib.report.reference_energies import ALPHA, above, committed_dft_energies, reference_crystals

COMMITTED = Path("benchmarks", "results", "gpaw_relaxed.json")
RELAXED_CONVERGENCE = Path("benchmarks", "results", "gpaw_relaxed_convergence.json")
"""Single points of the relaxed crystals at other settings; see `convergence_table`."""
ATOMS_PER_FORMULA_UNIT = 4

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class DftRelaxation:
    """One crystal after GPAW (PBE) relaxed its cell and atoms with the space group kept.

    Attributes
    ----------
    key : str
        Of the published structure, or ``"alpha"``.
    structure : Structure
        Conventional cell as relaxed.
    space_group : int
        Number that spglib finds for it.
    ev_per_fu, start_ev_per_fu : float
        At the end and at the start (the crystal relaxed with SevenNet-0), eV per formula unit.
    evaluations : int
        Energies computed, those of the Pulay stress and of the curve among them.
    converged : bool
    fmax, max_stress : float
        eV/A and GPa at the end.
    cutoff : float
        eV.
    mesh : tuple of int
        Of k-points in the reduced primitive cell, the same throughout.
    left_over_ev_per_fu : float
        Energy that the forces and stresses still there are expected to be worth, eV per formula unit.
    pulay_stress : ndarray, shape (6,)
        GPa, Voigt's order; slopes of the energy at fixed cutoff less the computed stress where the last
        descent begins. In proportion to 1/volume it is added to every stress.
    curve : ndarray, shape (n, 2)
        Volume (A^3) and energy (eV) per formula unit of the relaxed crystal swollen and shrunk; empty
        where it was not computed yet.
    """

    key: str
    structure: Structure
    space_group: int
    ev_per_fu: float
    start_ev_per_fu: float
    evaluations: int
    converged: bool
    fmax: float
    max_stress: float
    cutoff: float
    mesh: tuple[int, ...]
    left_over_ev_per_fu: float
    pulay_stress: FloatArray
    curve: FloatArray

    @property
    def volume(self) -> float:
        """A^3 per formula unit."""
        return float(self.structure.volume / (len(self.structure) / ATOMS_PER_FORMULA_UNIT))

    @property
    def curve_minimum(self) -> float:
        """Volume (A^3 per formula unit) where the cubic through the curve is lowest; NaN without a curve."""
        if len(self.curve) < 4:
            return float("nan")
        volumes, energies = self.curve.T
        fit = np.polynomial.Polynomial.fit(volumes, energies, 3)
        flat = fit.deriv().roots()
        inside = [x.real for x in flat if abs(x.imag) < 1e-9 and fit.deriv(2)(x.real) > 0]
        inside = [x for x in inside if volumes.min() <= x <= volumes.max()]
        return float(min(inside, key=fit)) if inside else float("nan")


def dft_relaxations(path: str | Path | None = None) -> dict[str, DftRelaxation]:
    """What ``scripts/gpaw_relaxations.py`` has finished, alpha first.

    Parameters
    ----------
    path : path, optional
        ``benchmarks/results/gpaw_relaxed.json`` of the checkout by default.

    Returns
    -------
    dict
        By key; empty where there is no file.

    Raises
    ------
    InputError
        The file is of another form.
    """
    path = project_root() / COMMITTED if path is None else Path(path)
    nothing: dict[str, DftRelaxation] = {}
    found = read_committed(
        path,
        "a file of DFT relaxations",
        lambda rows: {key: _relaxation(key, row) for key, row in rows.items()},
        nothing,
    )
    order = list(reference_crystals())
    return {key: found[key] for key in sorted(found, key=lambda key: order.index(key) if key in order else len(order))}


def _relaxation(key: str, row: Mapping[str, Any]) -> DftRelaxation:
    return DftRelaxation(
        key=key,
        structure=expand(AsymmetricUnit.from_dict(row["asymmetric_unit"]))[0],
        space_group=int(row["space_group"]),
        ev_per_fu=float(row["ev_per_fu"]),
        start_ev_per_fu=float(row["start_ev_per_fu"]),
        evaluations=int(row["evaluations"]),
        converged=row["stopped"] == "converged",
        fmax=float(row["fmax"]),
        max_stress=float(row["max_stress_gpa"]),
        cutoff=float(row["gpaw"]["cutoff"]),
        mesh=tuple(row["gpaw"]["mesh"]),
        left_over_ev_per_fu=float(row["left_over_ev_per_fu"]),
        pulay_stress=np.array(row["pulay"][-1]["correction_gpa"]),
        curve=np.array(row.get("curve", [])).reshape(-1, 2),
    )


def dft_relaxation_table(path: str | Path | None = None) -> pd.DataFrame:
    """Printed and relaxed, first principles only.

    Parameters
    ----------
    path : path, optional
        As for `dft_relaxations`.

    Returns
    -------
    DataFrame
        One row for each relaxed crystal: axes printed, relaxed and the difference in percent, and the
        largest change of an angle (alpha: measured instead of printed); volumes in A^3 per formula
        unit as printed, relaxed and at the minimum of the curve; energies in meV above alpha, as
        printed (single points of the printed crystal above the shipped alpha) and relaxed (both
        relaxed, at the relaxation's cutoff; NaN without a relaxed alpha); force and stress left, and
        what they are expected to be worth; space group; energies computed.
    """
    relaxed = dft_relaxations(path)
    printed = above(committed_dft_energies().energies)
    zero = relaxed[ALPHA].ev_per_fu if ALPHA in relaxed else float("nan")
    rows = {}
    for key, item in relaxed.items():
        before = reference_crystals()[key]
        rows[key] = {
            **_cells(before, item.structure),
            "volume, printed": before.volume / (len(before) / ATOMS_PER_FORMULA_UNIT),
            "volume, relaxed": item.volume,
            "volume, minimum of the curve": item.curve_minimum,
            "meV above alpha, printed": printed.get(key, float("nan")),
            "meV above alpha, relaxed": 1000 * (item.ev_per_fu - zero),
            "largest force, eV/A": item.fmax,
            "largest stress, GPa": item.max_stress,
            "left over, meV": 1000 * item.left_over_ev_per_fu,
            "space group": item.space_group,
            "energies computed": item.evaluations,
            "converged": item.converged,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _cells(before: Structure, after: Structure) -> dict[str, Any]:
    old, new = np.array(before.lattice.parameters), np.array(after.lattice.parameters)
    return {
        "a, b, c printed, A": ", ".join(f"{x:.3f}" for x in old[:3]),
        "a, b, c relaxed, A": ", ".join(f"{x:.3f}" for x in new[:3]),
        "difference, %": ", ".join(f"{x:+.1f}" for x in 100 * (new / old - 1)[:3]),
        "largest change of an angle, degrees": float(abs(new - old)[3:].max()),
    }


def energy_volume_data(
    relaxations: Mapping[str, DftRelaxation],
) -> tuple[dict[str, tuple[FloatArray, FloatArray]], dict[str, tuple[float, float]]]:
    """Input of `nanh2lib.report.plots.energy_volume_curve`.

    Parameters
    ----------
    relaxations : mapping
        From `dft_relaxations`; those without a curve are left out.

    Returns
    -------
    curves : dict
        Volumes and energies, A^3 and meV per formula unit above relaxed alpha (or the lowest relaxed
        crystal, where alpha is missing).
    relaxed : dict
        Where each relaxation ended.
    """
    energies = {key: item.ev_per_fu for key, item in relaxations.items()}
    if not energies:
        return {}, {}
    zero = energies.get(ALPHA, min(energies.values()))
    curves = {
        key: (item.curve[:, 0], 1000 * (item.curve[:, 1] - zero))
        for key, item in relaxations.items()
        if len(item.curve)
    }
    return curves, {key: (relaxations[key].volume, 1000 * (energies[key] - zero)) for key in curves}
