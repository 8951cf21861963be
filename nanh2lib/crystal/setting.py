"""The space-group setting that a crystal is already written in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure

from nanh2lib.crystal.hall import hall_numbers_for, hall_operations, primitive_vectors, unique_operations
from nanh2lib.crystal.origin import origin_shifts
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.crystal.symmetry_search import standard_cell, symmetry_dataset
from nanh2lib.errors import ComputationError, InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A Hall number and the shift p that brings a crystal to its origin, x_hall = x + p.

    Attributes
    ----------
    space_group : SpaceGroup
        In the setting of its Hall number.
    origin_shift : ndarray, shape (3,)
        Fractional, p.
    """

    space_group: SpaceGroup
    origin_shift: FloatArray


def checked_structure(structure: Structure) -> Structure:
    """A copy in a right-handed cell; refuses what is not a crystal.

    Raises
    ------
    InputError
        No atoms, partial occupancy, coordinates or cell not finite, or a cell without volume.
    """
    if not isinstance(structure, Structure) or len(structure) == 0:
        raise InputError("expected a pymatgen Structure with at least one atom")
    if not structure.is_ordered:
        site = next(i for i, s in enumerate(structure) if not s.is_ordered)
        raise InputError(
            f"site {site} ({structure[site].species_string}): mixed or partial occupancy; give an ordered structure"
        )
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
    result = standard_cell(structure, symprec, to_primitive=False, no_idealize=False)
    if result is None:
        raise ComputationError(f"spglib cannot standardise {structure.formula} at symprec {symprec} A")
    lattice, frac, numbers = result
    species = [Element.from_Z(int(n)).symbol for n in numbers]
    return checked_structure(Structure(Lattice(lattice), species, frac))


def find_setting(structure: Structure, symprec: float = 1e-2, *, any_origin: bool = False) -> Setting:
    """Which of the 530 settings a crystal is written in, allowing for a shift of the origin.

    Parameters
    ----------
    structure : Structure
        Right-handed (see `checked_structure`).
    symprec : float
        A.
    any_origin : bool
        Take the lowest Hall number that fits these axes, whatever the origin. Otherwise one whose
        origin the crystal already has (so that origin choice 2 stays origin choice 2) goes first.

    Returns
    -------
    Setting
        Free (polar) components of its shift are zero.

    Raises
    ------
    ComputationError
        spglib finds no symmetry.
    InputError
        The cell is not one of the tabulated settings (a primitive or unusual cell).
    """
    dataset = symmetry_dataset(structure, symprec)
    if dataset is None:
        raise ComputationError(
            f"spglib finds no space group for {structure.formula} at symprec {symprec} A; "
            "check for overlapping atoms or change symprec"
        )
    rotations = np.asarray(dataset.rotations, dtype=np.int64)
    translations = np.asarray(dataset.translations, dtype=np.float64)
    near = max(0.05, 5 * symprec)
    best: tuple[int, FloatArray] | None = None
    for hall_number in hall_numbers_for(int(dataset.number)):
        shift = _shift_to(hall_number, rotations, translations, structure.lattice.abc, symprec)
        if shift is None:
            continue
        at_home = bool(np.linalg.norm(shift @ structure.lattice.matrix) < near)
        if best is None or (at_home and not any_origin):
            best = (hall_number, shift)
        if at_home or any_origin:
            break
    if best is None:
        raise InputError(
            f"{structure.formula}: the cell {np.round(structure.lattice.parameters, 3).tolist()} is none of the "
            f"tabulated settings of space group {dataset.international} ({dataset.number}), for instance because it "
            "is primitive or a supercell; use standardize=True"
        )
    return Setting(SpaceGroup.from_hall(best[0]), best[1])


def _shift_to(
    hall_number: int,
    rotations: NDArray[np.int64],
    translations: FloatArray,
    lengths: tuple[float, float, float],
    symprec: float,
) -> FloatArray | None:
    all_rotations, all_translations = hall_operations(hall_number)
    if len(rotations) != len(all_rotations):
        return None
    wanted, wanted_translations = unique_operations(hall_number)
    found = {r.tobytes(): w for r, w in zip(rotations, translations, strict=True)}
    if {r.tobytes() for r in wanted} != set(found):
        return None
    given = np.array([found[r.tobytes()] for r in wanted])
    tolerance = min(max(1e-3, 8 * symprec / min(lengths)), 0.06)
    primitive = primitive_vectors(hall_number)
    solved = origin_shifts(wanted, given, wanted_translations, primitive, tolerance)
    if solved is None:
        return None
    centring = all_translations[(all_rotations == np.eye(3)).all((1, 2))]
    shifts = (solved.shifts[:, None] + centring).reshape(-1, 3)
    shifts = shifts - np.round(shifts)
    shift = shifts[np.abs(shifts).sum(1).argmin()]
    return np.asarray(_refined(shift, primitive, wanted, given, wanted_translations))


def _refined(
    shift: FloatArray, primitive: FloatArray, rotations: NDArray[np.int64], given: FloatArray, wanted: FloatArray
) -> FloatArray:
    """Least-squares polish of a shift against the translations of all operations."""
    matrix = (rotations - np.eye(3)).reshape(-1, 3)
    misfit = (given - wanted).reshape(-1, 3) - (rotations - np.eye(3)) @ shift
    fractions = misfit @ np.linalg.inv(primitive).T
    residual = (fractions - np.round(fractions)) @ primitive.T
    correction = np.linalg.lstsq(matrix, residual.reshape(-1), rcond=1e-6)[0]
    return np.asarray(shift + correction)
