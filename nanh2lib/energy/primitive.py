"""The primitive cell of a crystal, and where each atom of the full cell is found in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.symmetry_search import standard_cell

SYMPREC = 1e-4
"""Atoms that a centring translation maps onto each other within this (A) count as equal."""


def primitive_with_map(structure: Structure) -> tuple[Structure, NDArray[np.int64]]:
    """Primitive cell in the same Cartesian frame.

    Parameters
    ----------
    structure : Structure
        Ordered.

    Returns
    -------
    primitive : Structure
        The structure itself where the cell is primitive already.
    index : ndarray of int, shape (N,)
        For each atom of the full cell, the atom of the primitive cell that it is a copy of: forces
        of the full cell are ``forces_of_primitive[index]``.
    """
    itself = structure, np.arange(len(structure), dtype=np.int64)
    numbers = np.array(structure.atomic_numbers)
    found = standard_cell(structure, SYMPREC, to_primitive=True, no_idealize=True)
    if found is None or len(found[2]) >= len(structure) or len(structure) % len(found[2]):
        return itself
    lattice, frac_coords, kinds = found
    here = structure.cart_coords @ np.linalg.inv(lattice)
    gaps = here[:, None, :] - np.asarray(frac_coords)[None, :, :]
    gaps -= np.round(gaps)
    distance = np.linalg.norm(gaps @ lattice, axis=-1)
    distance[numbers[:, None] != np.asarray(kinds)[None, :]] = np.inf
    index = distance.argmin(axis=1)
    counts = np.bincount(index, minlength=len(kinds))
    if distance.min(axis=1).max() > 10 * SYMPREC or (counts != len(structure) // len(kinds)).any():
        return itself
    return Structure(lattice, list(kinds), frac_coords), index.astype(np.int64)
