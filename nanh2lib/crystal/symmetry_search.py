"""spglib's search for the symmetry of a crystal: an answer or None, under both of its error conventions.

spglib used to return None and now raises, as the variable ``SPGLIB_OLD_ERROR_HANDLING`` says; other
packages of one process set it (ASE does and leaves it set), so neither can be relied on.
"""

from __future__ import annotations

from typing import Any

import spglib
from pymatgen.core import Structure
from spglib.error import SpglibError


def spglib_cell(structure: Structure) -> tuple[Any, Any, tuple[int, ...]]:
    """Lattice (rows, A), fractional coordinates and atomic numbers, as spglib takes them."""
    return structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers


def symmetry_dataset(cell: Structure | tuple[Any, Any, Any], symprec: float, hall_number: int = 0) -> Any | None:
    """Symmetry of a crystal.

    Parameters
    ----------
    cell : Structure or tuple
        A crystal, or lattice (rows, A), fractional coordinates and a number for each atom's kind.
    symprec : float
        Distance tolerance, A.
    hall_number : int
        Setting that letters and transformations refer to; 0 leaves the choice to spglib.

    Returns
    -------
    spglib.SpglibDataset or None
        None where spglib finds no symmetry.
    """
    plain = spglib_cell(cell) if isinstance(cell, Structure) else cell
    try:
        return spglib.get_symmetry_dataset(plain, symprec=symprec, hall_number=hall_number)
    except SpglibError:
        return None


def standard_cell(
    structure: Structure, symprec: float, *, to_primitive: bool, no_idealize: bool
) -> tuple[Any, Any, Any] | None:
    """Standardised cell (lattice, fractional coordinates, atomic numbers) of a crystal, or None.

    Parameters
    ----------
    structure : Structure
    symprec : float
        Distance tolerance, A.
    to_primitive, no_idealize : bool
        As for ``spglib.standardize_cell``.
    """
    try:
        found: tuple[Any, Any, Any] | None = spglib.standardize_cell(
            spglib_cell(structure), to_primitive=to_primitive, no_idealize=no_idealize, symprec=symprec
        )
    except SpglibError:
        return None
    return found
