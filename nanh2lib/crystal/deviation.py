"""How far two descriptions of one crystal, in one cell, lie apart atom by atom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure
from scipy.optimize import linear_sum_assignment

from nanh2lib.crystal.setting import checked_structure, find_setting, standardized
from nanh2lib.errors import InputError


@dataclass(frozen=True)
class Deviation:
    """Distances between matched atoms.

    Attributes
    ----------
    rms, max_heavy, max_hydrogen : float
        A; zero where there are no such atoms.
    """

    rms: float
    max_heavy: float
    max_hydrogen: float


def deviation(structure: Structure, reference: Structure) -> Deviation:
    """Compare two structures in the same cell and origin, atoms matched by minimal distance.

    Parameters
    ----------
    structure, reference : Structure
        Same composition and, up to rotation in space, same cell.

    Returns
    -------
    Deviation
        Minimum-image distances in the cell of ``reference``.

    Raises
    ------
    InputError
        The compositions differ.
    """
    if structure.composition != reference.composition:
        raise InputError(f"cannot compare {structure.formula} with {reference.formula}: different atoms")
    distances = reference.lattice.get_all_distances(structure.frac_coords, reference.frac_coords)
    first = np.array([site.specie.symbol for site in structure])
    second = np.array([site.specie.symbol for site in reference])
    distances[first[:, None] != second[None]] = 1e3
    rows, columns = linear_sum_assignment(distances)
    gaps = distances[rows, columns]
    heavy = first[rows] != "H"
    return Deviation(
        float(np.sqrt((gaps**2).mean())),
        float(gaps[heavy].max(initial=0.0)),
        float(gaps[~heavy].max(initial=0.0)),
    )


def in_tabulated_origin(structure: Structure, symprec: float = 1e-2, *, standardize: bool = False) -> Structure:
    """The structure with its origin moved to that of its space-group setting.

    This is the frame in which `extract_asymmetric_unit` describes it.
    """
    crystal = checked_structure(structure)
    if standardize:
        crystal = standardized(crystal, symprec)
    setting = find_setting(crystal, symprec)
    return Structure(crystal.lattice, crystal.species, np.array(crystal.frac_coords) + setting.origin_shift)
