"""Shortest distances between different units, by element pair, against limits, in cells of any shape."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pymatgen.core import Structure
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import Crystals
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import cell_heights
from nanh2lib.geometry.periodic import image_shifts, minkowski_reduce
from nanh2lib.validation.cells import Cells, cells_of_asymmetric_units, cells_of_crystals, cells_of_structures

_CHUNK = 2**18
_NEAR = 2e-3

Source = AsymmetricUnit | Crystals | Sequence[Structure]


@dataclass(frozen=True)
class ContactTable:
    """Shortest distances between atoms of different units (or of different images of one unit).

    Attributes
    ----------
    pairs : tuple of (element, element)
        Sorted; all pairs of elements present.
    distances : Tensor, shape (B, P)
        A; infinite where no contact is shorter than the cutoff.
    atoms : Tensor of int, shape (B, P, 2)
        The two atoms, as indices into the cell; -1 where there is none.
    limits : Tensor, shape (P,)
        A.
    """

    pairs: tuple[tuple[str, str], ...]
    distances: Tensor
    atoms: Tensor
    limits: Tensor

    @property
    def passed(self) -> Tensor:
        """Whether every pair keeps its limit, shape (B,)."""
        return (self.distances >= self.limits).all(-1)

    def worst(self, index: int) -> tuple[int, float]:
        """Place in `pairs` and ratio of distance to limit of the tightest pair of one crystal."""
        ratio = self.distances[index] / self.limits
        place = int(ratio.argmin())
        return place, float(ratio[place])


def shortest_contacts(
    source: Source, limits: PairLimits = REALISTIC_LIMITS, cutoff: float | None = None
) -> ContactTable:
    """Shortest contacts by element pair, in float64.

    Parameters
    ----------
    source : AsymmetricUnit, Crystals or sequence of Structure
        Structures must hold the same atoms; their units come from the ``unit_index`` site property
        or from connectivity. From asymmetric units only A x N distances are measured.
    limits : PairLimits
    cutoff : float, optional
        Distances up to here are exact, A; by default 1.25 times the largest limit.

    Returns
    -------
    ContactTable
        Every lattice shift that can bring two atoms within the cutoff is visited, in a
        Minkowski-reduced basis, so skewed and small cells are right; two atoms of one image of a
        unit are left out, two images of one unit are not.

    Raises
    ------
    InputError
        Structures hold different atoms or are not crystals.
    """
    cells = _as_cells(source)
    with torch.no_grad():
        return contacts_of_cells(cells, limits, cutoff)


def _as_cells(source: Source) -> Cells:
    if isinstance(source, AsymmetricUnit):
        return cells_of_asymmetric_units(source)
    if isinstance(source, Crystals):
        return cells_of_crystals(source)
    groups = cells_of_structures(list(source))
    if len(groups) != 1:
        raise InputError(f"shortest_contacts: the structures form {len(groups)} groups of different atoms; give one")
    return groups[0][1]


def contacts_of_cells(cells: Cells, limits: PairLimits, cutoff: float | None = None) -> ContactTable:
    """`shortest_contacts` of prepared cells."""
    elements = sorted(set(cells.species))
    pairs = tuple(itertools.combinations_with_replacement(elements, 2))
    bounds = torch.tensor([limits.limit(*pair) for pair in pairs], dtype=torch.float64)
    reach = 1.25 * float(bounds.max()) if cutoff is None else float(cutoff)
    size = max(1, _CHUNK // (len(cells.rows) * len(cells.species)))
    parts = [_shortest(cells.select(slice(start, start + size)), pairs, reach) for start in range(0, len(cells), size)]
    distances, atoms = (torch.cat(column) for column in zip(*parts, strict=True))
    return ContactTable(pairs, distances, atoms, bounds)


def _shortest(cells: Cells, pairs: Sequence[tuple[str, str]], cutoff: float) -> tuple[Tensor, Tensor]:
    squared = _nearest_squared(cells, cutoff)
    species = cells.species
    distances, atoms = [], []
    for first, second in pairs:
        row = torch.tensor([species[int(i)] for i in cells.rows])
        is_first = (
            torch.tensor([species[int(i)] == first for i in cells.rows]),
            torch.tensor([s == second for s in species]),
        )
        del row
        mask = is_first[0][:, None] & is_first[1][None]
        if first != second:
            other = torch.tensor([species[int(i)] == second for i in cells.rows])
            mask |= other[:, None] & torch.tensor([s == first for s in species])[None]
        best, place = squared.masked_fill(~mask, torch.inf).flatten(1).min(1)
        found = best <= cutoff**2
        ends = torch.stack([cells.rows[place // len(species)], place % len(species)], -1)
        distances.append(torch.where(found, best.sqrt(), torch.full_like(best, torch.inf)))
        atoms.append(torch.where(found[:, None], ends, torch.full_like(ends, -1)))
    return torch.stack(distances, 1), torch.stack(atoms, 1)
