"""Batches of full cells with known units, whatever they come from: the input of the contact checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Element, Structure
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.connectivity import find_fragments
from nanh2lib.crystal.expansion import Crystals, expand_tensors
from nanh2lib.errors import InputError

UNIT_PROPERTY = "unit_index"


@dataclass(frozen=True)
class Cells:
    """B cells with the same atoms in the same order.

    Attributes
    ----------
    lattice : Tensor, shape (B, 3, 3)
        Rows, A.
    frac_coords : Tensor, shape (B, N, 3)
        Not wrapped: the atoms of one unit lie together.
    species : tuple of str, length N
    unit_index : Tensor of int, shape (N,)
        Which unit of the cell each atom belongs to.
    rows : Tensor of int, shape (A,)
        Atoms whose contacts stand for all: those of the asymmetric unit where it is known.
    """

    lattice: Tensor
    frac_coords: Tensor
    species: tuple[str, ...]
    unit_index: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.lattice)

    def select(self, index: Tensor | slice) -> Cells:
        """Some of the cells."""
        return Cells(self.lattice[index], self.frac_coords[index], self.species, self.unit_index, self.rows)


def cells_of_asymmetric_units(units: AsymmetricUnit) -> Cells:
    """Cells of a batch on one template; contacts are then measured from its asymmetric unit only."""
    with torch.no_grad():
        crystals = expand_tensors(units)
    first = np.cumsum([0, *units.template.multiplicities])[:-1]
    rows = torch.cat([torch.nonzero(crystals.unit_index == int(image)).flatten() for image in first])
    return Cells(crystals.lattice, crystals.frac_coords, crystals.species, crystals.unit_index, rows)


def cells_of_crystals(crystals: Crystals) -> Cells:
    """Cells of expanded crystals, every atom taken as independent."""
    rows = torch.arange(len(crystals.species))
    return Cells(crystals.lattice.detach(), crystals.frac_coords.detach(), crystals.species, crystals.unit_index, rows)


def cells_of_structures(structures: Sequence[Structure]) -> list[tuple[list[int], Cells]]:
    """Cells of pymatgen structures, in batches of equal atoms, with the places they had in the input.

    Units are those of the ``unit_index`` site property where every site has it, else those that
    covalent bonds connect.

    Raises
    ------
    InputError
        A structure is empty, disordered, not finite, or bonded to its own images.
    """
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], list[tuple[int, Structure, NDArray[np.float64]]]] = {}
    for place, structure in enumerate(structures):
        species, index, frac = whole_units(structure)
        groups.setdefault((species, index), []).append((place, structure, frac))
    result = []
    for (species, index), members in groups.items():
        lattice = torch.as_tensor(np.array([structure.lattice.matrix for _, structure, _ in members]))
        frac_coords = torch.as_tensor(np.array([frac for _, _, frac in members]))
        rows = torch.arange(len(species))
        cells = Cells(lattice, frac_coords, species, torch.tensor(index), rows)
        result.append(([place for place, _, _ in members], cells))
    return result


def whole_units(structure: Structure) -> tuple[tuple[str, ...], tuple[int, ...], NDArray[np.float64]]:
    """Element symbols, unit of each atom, and fractional coordinates with the units whole.

    Raises
    ------
    InputError
        See `cells_of_structures`.
    """
    if len(structure) == 0:
        raise InputError("the structure has no atoms")
    if not structure.is_ordered:
        raise InputError(f"{structure.formula}: mixed or partial occupancy; give an ordered structure")
    frac = np.array(structure.frac_coords, dtype=np.float64)
    lattice = np.asarray(structure.lattice.matrix)
    if not (np.isfinite(frac).all() and np.isfinite(lattice).all() and abs(np.linalg.det(lattice)) > 1e-6):
        raise InputError(f"{structure.formula}: coordinates or lattice are not finite, or the cell has no volume")
    species = tuple(Element(site.specie.symbol).symbol for site in structure)
    # A wrong unit_index would hide contacts, so a partial one is not used.
    index = [site.properties.get(UNIT_PROPERTY) for site in structure]
    if all(isinstance(i, (int, np.integer)) for i in index):
        units = tuple(int(i) for i in index if i is not None)
        return species, units, _gathered(frac, lattice, np.array(units))
    numbers = np.zeros(len(structure), dtype=np.int64)
    for number, fragment in enumerate(find_fragments(structure)):
        numbers[list(fragment.indices)] = number
        frac[list(fragment.indices)] = fragment.frac_coords
    return species, tuple(int(i) for i in numbers), frac


def _gathered(frac: NDArray[np.float64], lattice: NDArray[np.float64], units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each atom of a unit at its image nearest to the unit's first atom."""
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    apart = frac - frac[first[inverse]]
    apart -= np.round(apart)
    around = np.array([(i, j, k) for i in (0, -1, 1) for j in (0, -1, 1) for k in (0, -1, 1)])
    squared = (((apart[:, None] + around) @ lattice) ** 2).sum(-1)
    return np.asarray(frac[first[inverse]] + apart + around[squared.argmin(1)])
