"""What became of a structure: symmetry gained or lost, fragments broken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import Template

FloatArray = NDArray[np.float64]
SYMPREC = 1e-2
"""A, for the space group before and after (supplement)."""


def formula_units(template: Template) -> int:
    """Formula units in the conventional cell: the greatest common divisor of the numbers of each kind of unit."""
    counts: dict[str, int] = {}
    for site, multiplicity in zip(template.sites, template.multiplicities, strict=True):
        counts[site.unit.name] = counts.get(site.unit.name, 0) + multiplicity
    return math.gcd(*counts.values())


def symmetry_of(structure: Structure, symprec: float = SYMPREC) -> tuple[int, int]:
    """International number and number of operations (lattice translations of the cell excluded).

    Returns ``(1, 1)`` where spglib gives up.
    """
    import spglib

    numbers = [site.specie.Z for site in structure]
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    dataset: Any = spglib.get_symmetry_dataset(cell, symprec=symprec)
    if dataset is None:
        return 1, 1
    return int(dataset.number), len(dataset.rotations)


def symmetry_flags(before: tuple[int, int], after: tuple[int, int]) -> tuple[str, ...]:
    """``("symmetry_gained",)``, ``("symmetry_lost",)`` or nothing, from two answers of `symmetry_of` on one cell."""
    if after == before:
        return ()
    return ("symmetry_gained",) if after[1] > before[1] else ("symmetry_lost",)
