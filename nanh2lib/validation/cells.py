"""Batches of full cells with known units, whatever they come from: the input of the contact checks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Element, Structure
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.connectivity import Fragment, find_fragments
from nanh2lib.crystal.expansion import Crystals, expand_tensors
from nanh2lib.crystal.setting import checked_structure
from nanh2lib.errors import InputError

FloatArray = NDArray[np.float64]
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

    def plain(self) -> Iterator[tuple[FloatArray, FloatArray, list[int]]]:
        """Lattice, fractional coordinates and atomic numbers of each cell, as spglib takes them."""
        numbers = [int(Element(symbol).Z) for symbol in self.species]
        lattice, frac = self.lattice.to(torch.float64).numpy(), self.frac_coords.to(torch.float64).numpy()
        for i in range(len(self)):
            yield lattice[i], frac[i], numbers


def cells_of_asymmetric_units(units: AsymmetricUnit) -> Cells:
    """Cells of a batch on one template; contacts are then measured from its asymmetric unit only."""
    with torch.no_grad():
        crystals = expand_tensors(units)
    rows = independent_atoms(units.template)
    longest = 2 * max(float(np.linalg.norm(unit.body, axis=1).max()) for unit in units.units)
    return Cells(crystals.lattice, crystals.frac_coords, crystals.species, crystals.unit_index, rows, longest)


def independent_atoms(template: Template) -> Tensor:
    """Indices (A,) of the asymmetric unit's atoms in an expanded crystal: the first image of each unit."""
    first = np.cumsum([0, *template.multiplicities])[:-1]
    images = template.layout.image_index
    return torch.cat([torch.nonzero(images == int(image)).flatten() for image in first])


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


def cells_of_crystals(crystals: Crystals, rows: Tensor | None = None) -> Cells:
    """Cells of expanded crystals; without ``rows`` every atom is taken as independent."""
    rows = torch.arange(len(crystals.species)) if rows is None else rows
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
    groups: dict[tuple[tuple[str, ...], tuple[int, ...], bool], list[tuple[int, FloatArray, FloatArray]]] = {}
    for place, structure in enumerate(structures):
        index = _given_units(structure)
        if index is not None:
            groups.setdefault((_species(structure), index, True), []).append((place, *_finite(structure)))
        else:
            units = units_of_structure(structure)
            row = (place, units.lattice, units.frac_coords)
            groups.setdefault((units.species, units.unit_index, False), []).append(row)
    result = []
    for (species, index, wrapped), members in groups.items():
        lattice = torch.as_tensor(np.array([matrix for _, matrix, _ in members]))
        frac_coords = torch.as_tensor(np.array([coords for _, _, coords in members]))
        if wrapped:
            frac_coords = _gathered(frac_coords, lattice, index)
        result.append(([place for place, _, _ in members], _cells(lattice, frac_coords, species, index)))
    return result


def _cells(lattice: Tensor, frac_coords: Tensor, species: tuple[str, ...], index: tuple[int, ...]) -> Cells:
    unit_index = torch.tensor(index)
    longest = _longest_unit(lattice, frac_coords, unit_index)
    return Cells(lattice, frac_coords, species, unit_index, torch.arange(len(species)), longest)


def _given_units(structure: Structure) -> tuple[int, ...] | None:
    """Units named by the site property; None unless every site has one (a partial one would hide contacts)."""
    given = [site.properties.get(UNIT_PROPERTY) for site in structure]
    if not given or any(isinstance(i, bool) or not isinstance(i, (int, np.integer)) for i in given):
        return None
    return tuple(int(i) for i in given if i is not None)


def _species(structure: Structure) -> tuple[str, ...]:
    if not structure.is_ordered:
        raise InputError(f"{structure.formula}: mixed or partial occupancy; give an ordered structure")
    symbols = (str(site.specie.symbol) for site in structure)
    return tuple("H" if symbol in ("D", "T") else symbol for symbol in symbols)


def _finite(structure: Structure) -> tuple[FloatArray, FloatArray]:
    lattice, frac = np.asarray(structure.lattice.matrix), np.asarray(structure.frac_coords)
    if not (np.isfinite(lattice).all() and np.isfinite(frac).all() and abs(np.linalg.det(lattice)) > 1e-3):
        raise InputError(f"{structure.formula}: cell or coordinates are not finite, or the cell has no volume")
    return lattice, frac


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
    def lattice(self) -> FloatArray:
        """Lattice rows (3, 3), A."""
        return np.asarray(self.crystal.lattice.matrix)

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
    def frac_coords(self) -> FloatArray:
        """Fractional coordinates (N, 3) with the units whole."""
        frac = np.zeros((len(self.crystal), 3))
        for fragment in self.fragments:
            frac[list(fragment.indices)] = fragment.frac_coords
        return frac


def units_of_structure(structure: Structure) -> UnitsOfStructure:
    """Units of a crystal: by ``unit_index`` where every site has it, else by covalent bonds.

    Raises
    ------
    InputError
        See `cells_of_structures`.
    """
    crystal = checked_structure(structure) if structure.is_ordered else structure
    species, units = _species(structure), _given_units(structure)
    if units is None:
        return UnitsOfStructure(crystal, tuple(find_fragments(crystal)))
    lattice, frac = (torch.as_tensor(a.copy())[None] for a in _finite(crystal))
    whole = _gathered(frac, lattice, units)[0].numpy()
    fragments = []
    for unit in sorted(set(units)):
        members = [i for i, number in enumerate(units) if number == unit]
        fragments.append(Fragment(tuple(members), tuple(species[i] for i in members), whole[members]))
    return UnitsOfStructure(crystal, tuple(fragments))


def cells_of_units(units: UnitsOfStructure) -> Cells:
    """One crystal as a batch."""
    lattice, frac = torch.as_tensor(units.lattice.copy())[None], torch.as_tensor(units.frac_coords)[None]
    return _cells(lattice, frac, units.species, units.unit_index)


def _gathered(frac_coords: Tensor, lattice: Tensor, index: tuple[int, ...]) -> Tensor:
    """Each atom (B, N, 3) of a unit at its image nearest to the unit's first atom."""
    first: dict[int, int] = {}
    for atom, unit in enumerate(index):
        first.setdefault(unit, atom)
    reference = frac_coords[:, [first[unit] for unit in index]]
    apart = frac_coords - reference
    apart = apart - torch.round(apart)
    nearest, smallest = apart, ((apart @ lattice) ** 2).sum(-1)
    for shift in itertools.product((0.0, 1.0, -1.0), repeat=3):
        trial = apart + torch.tensor(shift, dtype=apart.dtype)
        squared = ((trial @ lattice) ** 2).sum(-1)
        nearest = torch.where((squared < smallest - 1e-9)[..., None], trial, nearest)
        smallest = torch.minimum(smallest, squared)
    return reference + nearest
