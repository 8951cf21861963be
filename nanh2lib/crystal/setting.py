"""The space-group setting that a crystal is already written in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.origin import origin_shifts
from nanh2lib.crystal.space_group import SpaceGroup, hall_numbers_for
from nanh2lib.errors import ComputationError, InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A Hall number and the shift p that brings a crystal to its origin, x_hall = x + p."""

    space_group: SpaceGroup
    origin_shift: FloatArray


def checked_structure(structure: Structure) -> Structure:
    """A copy in a right-handed cell; refuses what is not a crystal.

    Raises
    ------
    InputError
        No atoms, coordinates or cell not finite, or a cell without volume.
    """
    if not isinstance(structure, Structure) or len(structure) == 0:
        raise InputError("expected a pymatgen Structure with at least one atom")
    matrix, frac = np.array(structure.lattice.matrix), np.array(structure.frac_coords)
    if not (np.isfinite(matrix).all() and np.isfinite(frac).all()):
        raise InputError(f"structure {structure.formula}: cell or coordinates are not finite numbers")
    if abs(np.linalg.det(matrix)) < 1e-3:
        raise InputError(f"structure {structure.formula}: the cell has no volume")
    if np.linalg.det(matrix) < 0:
        # -L spans the same lattice with the other handedness.
        matrix, frac = -matrix, -frac
    return Structure(Lattice(matrix), structure.species, frac)


def standardized(structure: Structure, symprec: float = 1e-2) -> Structure:
    """The crystal in spglib's standard setting, idealised within ``symprec`` (A)."""
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    result = spglib.standardize_cell(cell, to_primitive=False, no_idealize=False, symprec=symprec)
    if result is None:
        raise ComputationError(f"spglib cannot standardise {structure.formula} at symprec {symprec} A")
    lattice, frac, numbers = result
    return checked_structure(Structure(Lattice(lattice), [int(n) for n in numbers], frac))


def find_setting(structure: Structure, symprec: float = 1e-2) -> Setting:
    """Which of the 530 settings a crystal is written in, allowing for a shift of the origin.

    Parameters
    ----------
    structure : Structure
        Right-handed (see `checked_structure`).
    symprec : float
        A.

    Returns
    -------
    Setting
        The one with the smallest origin shift; free (polar) components of the shift are zero.

    Raises
    ------
    ComputationError
        spglib finds no symmetry.
    InputError
        The cell is not one of the tabulated settings (a primitive or unusual cell).
    """
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    dataset = spglib.get_symmetry_dataset(cell, symprec=symprec)
    if dataset is None:
        raise ComputationError(
            f"spglib finds no space group for {structure.formula} at symprec {symprec} A; "
            "check for overlapping atoms or change symprec"
        )
    rotations = np.asarray(dataset.rotations, dtype=np.int64)
    translations = np.asarray(dataset.translations, dtype=np.float64)
    best: Setting | None = None
    for hall_number in hall_numbers_for(int(dataset.number)):
        group = SpaceGroup.from_hall(hall_number)
        shift = _shift_to(group, rotations, translations, structure.lattice.abc, symprec)
        if shift is not None and (best is None or np.abs(shift).sum() < np.abs(best.origin_shift).sum() - 1e-6):
            best = Setting(group, shift)
    if best is None:
        raise InputError(
            f"{structure.formula}: the cell {np.round(structure.lattice.parameters, 3).tolist()} is none of the tabulated "
            f"settings of space group {dataset.international} ({dataset.number}), for instance because it is primitive; "
            "use standardize=True"
        )
    return best


def _shift_to(
    group: SpaceGroup,
    rotations: NDArray[np.int64],
    translations: FloatArray,
    lengths: tuple[float, float, float],
    symprec: float,
) -> FloatArray | None:
    if len(rotations) != group.order:
        return None
    wanted, wanted_translations = group.unique_rotations
    found = {r.tobytes(): w for r, w in zip(rotations, translations, strict=True)}
    if {r.tobytes() for r in wanted} != set(found):
        return None
    given = np.array([found[r.tobytes()] for r in wanted])
    tolerance = max(1e-3, 8 * symprec / min(lengths))
    solved = origin_shifts(wanted, given, wanted_translations, group.primitive, min(tolerance, 0.06))
    if solved is None:
        return None
    shifts = solved.shifts - np.round(solved.shifts)
    shift = shifts[np.abs(shifts).sum(1).argmin()]
    return np.asarray(_refined(shift, group, wanted, given, wanted_translations))


def _refined(
    shift: FloatArray, group: SpaceGroup, rotations: NDArray[np.int64], given: FloatArray, wanted: FloatArray
) -> FloatArray:
    """Least-squares polish of a shift against the translations of all operations."""
    matrix = (rotations - np.eye(3)).reshape(-1, 3)
    inverse = np.linalg.inv(group.primitive)
    misfit = (given - wanted).reshape(-1, 3) - (rotations - np.eye(3)) @ shift
    primitive = misfit @ inverse.T
    residual = (primitive - np.round(primitive)) @ group.primitive.T
    correction = np.linalg.lstsq(matrix, residual.reshape(-1), rcond=1e-6)[0]
    return np.asarray(shift + correction)
