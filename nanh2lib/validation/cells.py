"""Batches of full cells with known units, whatever they come from: the input of the contact checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Element, Structure
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.connectivity import Fragment, find_fragments
from nanh2lib.crystal.expansion import Crystals, expand_tensors
from nanh2lib.crystal.setting import checked_structure
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
    longest_unit : float
        No two atoms of one unit are farther apart, A.
    """

    lattice: Tensor
    frac_coords: Tensor
    species: tuple[str, ...]
    unit_index: Tensor
    rows: Tensor
    longest_unit: float

    def __len__(self) -> int:
        return len(self.lattice)

    def select(self, index: Tensor | slice) -> Cells:
        """Some of the cells."""
        return replace(self, lattice=self.lattice[index], frac_coords=self.frac_coords[index])

    def plain(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], list[int]]]:
        """Lattice, fractional coordinates and atomic numbers of each cell, as spglib takes them."""
        numbers = [int(Element(symbol).Z) for symbol in self.species]
        lattice, frac = self.lattice.to(torch.float64).numpy(), self.frac_coords.to(torch.float64).numpy()
        for i in range(len(self)):
            yield lattice[i], frac[i], numbers


def cells_of_asymmetric_units(units: AsymmetricUnit) -> Cells:
    """Cells of a batch on one template; contacts are then measured from its asymmetric unit only."""
    with torch.no_grad():
        crystals = expand_tensors(units)
    first = np.cumsum([0, *units.template.multiplicities])[:-1]
    rows = torch.cat([torch.nonzero(crystals.unit_index == int(image)).flatten() for image in first])
    longest = 2 * max(float(np.linalg.norm(unit.body, axis=1).max()) for unit in units.units)
    return Cells(crystals.lattice, crystals.frac_coords, crystals.species, crystals.unit_index, rows, longest)


def join_cells(parts: Sequence[Cells]) -> Cells:
    """One batch of cells that hold the same atoms in the same order, every atom taken as independent."""
    return Cells(
        torch.cat([part.lattice for part in parts]),
        torch.cat([part.frac_coords for part in parts]),
        parts[0].species,
        parts[0].unit_index,
        torch.arange(len(parts[0].species)),
        max(part.longest_unit for part in parts),
    )


def cells_of_crystals(crystals: Crystals) -> Cells:
    """Cells of expanded crystals, every atom taken as independent."""
    rows = torch.arange(len(crystals.species))
    lattice, frac = crystals.lattice.detach(), crystals.frac_coords.detach()
    longest = _longest_unit(lattice, frac, crystals.unit_index)
    return Cells(lattice, frac, crystals.species, crystals.unit_index, rows, longest)


def _longest_unit(lattice: Tensor, frac_coords: Tensor, unit_index: Tensor) -> float:
    """Upper bound of the distance between two atoms of one unit, A."""
    units, inverse = torch.unique(unit_index, return_inverse=True)
    first = torch.stack([torch.nonzero(unit_index == unit).flatten()[0] for unit in units])
    apart = (frac_coords - frac_coords[:, first[inverse]]) @ lattice
    return 2 * float(torch.linalg.vector_norm(apart, dim=-1).max())


def cells_of_structures(structures: Sequence[Structure]) -> list[tuple[list[int], Cells]]:
    """Cells of pymatgen structures, in batches of equal atoms, with the places they had in the input.

    Units are those of the ``unit_index`` site property where every site has it, else those that
    covalent bonds connect.

    Raises
    ------
    InputError
        A structure is empty, disordered, not finite, or bonded to its own images.
    """
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], list[tuple[int, UnitsOfStructure]]] = {}
    for place, structure in enumerate(structures):
        units = units_of_structure(structure)
        groups.setdefault((units.species, units.unit_index), []).append((place, units))
    return [([place for place, _ in members], cells_of_units([u for _, u in members])) for members in groups.values()]


@dataclass(frozen=True)
class UnitsOfStructure:
    """A crystal taken apart into whole units.

    Attributes
    ----------
    crystal : Structure
        Right-handed, same atoms in the same order.
    fragments : tuple of Fragment
    """

    crystal: Structure
    fragments: tuple[Fragment, ...]

    @property
    def species(self) -> tuple[str, ...]:
        """Element symbols in the order of the sites, deuterium as hydrogen."""
        table = {i: s for f in self.fragments for i, s in zip(f.indices, f.species, strict=True)}
        return tuple(table[i] for i in range(len(table)))

    @property
    def unit_index(self) -> tuple[int, ...]:
        """Number of the unit of each site."""
        table = {i: number for number, fragment in enumerate(self.fragments) for i in fragment.indices}
        return tuple(table[i] for i in range(len(table)))

    @property
    def frac_coords(self) -> NDArray[np.float64]:
        """Fractional coordinates (N, 3) with the units whole."""
        frac = np.zeros((len(self.crystal), 3))
        for fragment in self.fragments:
            frac[list(fragment.indices)] = fragment.frac_coords
        return frac


def cells_of_units(units: Sequence[UnitsOfStructure]) -> Cells:
    """Cells of crystals with equal species and units."""
    lattice = torch.as_tensor(np.array([unit.crystal.lattice.matrix for unit in units]))
    frac_coords = torch.as_tensor(np.array([unit.frac_coords for unit in units]))
    unit_index = torch.tensor(units[0].unit_index)
    longest = _longest_unit(lattice, frac_coords, unit_index)
    species = units[0].species
    return Cells(lattice, frac_coords, species, unit_index, torch.arange(len(species)), longest)


def units_of_structure(structure: Structure) -> UnitsOfStructure:
    """Units of a crystal: by ``unit_index`` where every site has it, else by covalent bonds.

    Raises
    ------
    InputError
        See `cells_of_structures`.
    """
    if isinstance(structure, Structure) and not structure.is_ordered:
        raise InputError(f"{structure.formula}: mixed or partial occupancy; give an ordered structure")
    crystal = checked_structure(structure)
    given = [site.properties.get(UNIT_PROPERTY) for site in structure]
    # A unit_index on some sites only would hide contacts: then bonds decide.
    units = np.array([i for i in given if isinstance(i, (int, np.integer)) and not isinstance(i, bool)])
    if len(units) < len(crystal):
        return UnitsOfStructure(crystal, tuple(find_fragments(crystal)))
    frac = _gathered(np.array(crystal.frac_coords), np.asarray(crystal.lattice.matrix), units)
    symbols = [str(site.specie.symbol) for site in crystal]
    species = ["H" if symbol in ("D", "T") else symbol for symbol in symbols]
    fragments = []
    for unit in np.unique(units):
        members = [int(i) for i in np.flatnonzero(units == unit)]
        fragments.append(Fragment(tuple(members), tuple(species[i] for i in members), frac[members]))
    return UnitsOfStructure(crystal, tuple(fragments))


def _gathered(frac: NDArray[np.float64], lattice: NDArray[np.float64], units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each atom of a unit at its image nearest to the unit's first atom."""
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    apart = frac - frac[first[inverse]]
    apart -= np.round(apart)
    around = np.array([(i, j, k) for i in (0, -1, 1) for j in (0, -1, 1) for k in (0, -1, 1)])
    squared = (((apart[:, None] + around) @ lattice) ** 2).sum(-1)
    return np.asarray(frac[first[inverse]] + apart + around[squared.argmin(1)])
