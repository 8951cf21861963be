"""Shortest distances between different units, by element pair, against limits, in cells of any shape."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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
"""Pairs measured at a time: a few tensors of this size stay in the processor's cache."""
_SWEEP = 2**17
_NEAR = 1e-4
"""A^2: crystals whose verdict in float32 is closer than this are measured again in float64."""

Source = AsymmetricUnit | Crystals | Sequence[Structure]


@dataclass(frozen=True)
class ContactTable:
    """Shortest distances between atoms of different units, or of different images of one unit.

    Attributes
    ----------
    pairs : tuple of (element, element)
        All pairs of elements present.
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

    def tightest(self, index: int) -> int:
        """Place in `pairs` of the pair of one crystal with the smallest ratio of distance to limit."""
        return int((self.distances[index] / self.limits).argmin())


def shortest_contacts(
    source: Source,
    limits: PairLimits = REALISTIC_LIMITS,
    cutoff: float | None = None,
    *,
    independent: Tensor | None = None,
) -> ContactTable:
    """Shortest contacts by element pair, in float64.

    Parameters
    ----------
    source : AsymmetricUnit, Crystals or sequence of Structure
        Structures must hold the same atoms; their units come from the ``unit_index`` site property
        or from connectivity. From asymmetric units only A x N distances are measured.
    limits : PairLimits
    cutoff : float, optional
        Distances up to here are found, A; by default 1.25 times the largest limit.
    independent : Tensor of int, shape (A,), optional
        For Crystals: atoms whose contacts stand for all (`independent_atoms` of their template).

    Returns
    -------
    ContactTable
        Every lattice shift that can bring two atoms within the cutoff is visited, in a
        Minkowski-reduced basis, so skewed and small cells are right. Two atoms of one image of a
        unit are left out, two images of one unit are not.

    Raises
    ------
    InputError
        Structures hold different atoms or are not crystals.
    """
    with torch.no_grad():
        return contacts_of_cells(_as_cells(source, independent), limits, cutoff)


def _as_cells(source: Source, independent: Tensor | None) -> Cells:
    if isinstance(source, AsymmetricUnit):
        return cells_of_asymmetric_units(source)
    if isinstance(source, Crystals):
        return cells_of_crystals(source, independent)
    groups = cells_of_structures(list(source))
    if len(groups) != 1:
        raise InputError(f"contacts: the structures fall into {len(groups)} groups of different atoms; give one group")
    return groups[0][1]


def contacts_of_cells(cells: Cells, limits: PairLimits, cutoff: float | None = None) -> ContactTable:
    """`shortest_contacts` of prepared cells."""
    elements = sorted(set(cells.species))
    pairs = tuple(itertools.combinations_with_replacement(elements, 2))
    bounds = torch.tensor([limits.limit(*pair) for pair in pairs], dtype=torch.float64)
    reach = 1.25 * float(bounds.max()) if cutoff is None else float(cutoff)
    masks = _pair_masks(cells, pairs)
    size = max(1, _CHUNK // masks.shape[1] // masks.shape[2])
    distances, atoms = [], []
    for start in range(0, len(cells), size):
        squared = _nearest_squared(cells.select(slice(start, start + size)), reach)
        for mask in masks:
            best, place = squared.masked_fill(~mask, torch.inf).flatten(1).min(1)
            ends = torch.stack([cells.rows[place // mask.shape[1]], place % mask.shape[1]], -1)
            found = ~(best > reach**2)  # a NaN is kept, and passes no limit
            distances.append(torch.where(found, best.sqrt(), torch.full_like(best, torch.inf)))
            atoms.append(torch.where(found[:, None], ends, torch.full_like(ends, -1)))
    return ContactTable(pairs, _by_crystal(distances, len(pairs)), _by_crystal(atoms, len(pairs)), bounds)


def _by_crystal(parts: list[Tensor], n_pairs: int) -> Tensor:
    """(B, P, ...) from one tensor for each chunk and pair."""
    chunks = [torch.stack(parts[i : i + n_pairs], 1) for i in range(0, len(parts), n_pairs)]
    return torch.cat(chunks)


def _pair_masks(cells: Cells, pairs: Sequence[tuple[str, str]]) -> Tensor:
    """Which of the A x N distances are of which element pair, bool, shape (P, A, N)."""
    rows = [cells.species[int(i)] for i in cells.rows]
    masks = []
    for first, second in pairs:
        one = torch.tensor([s == first for s in rows])[:, None] & torch.tensor([s == second for s in cells.species])
        two = torch.tensor([s == second for s in rows])[:, None] & torch.tensor([s == first for s in cells.species])
        masks.append(one | two)
    return torch.stack(masks)


def _nearest_squared(cells: Cells, cutoff: float) -> Tensor:
    """Smallest squared distance (B, A, N), A^2, over all images of each pair that can be within the cutoff.

    Within one unit the image that belongs to the unit itself does not count.
    """
    lattice = cells.lattice.to(torch.float64)
    frac = cells.frac_coords.to(torch.float64)
    if float(cell_heights(lattice).min()) > 2 * cutoff + 1e-6:
        shifts = torch.zeros(1, 3, dtype=torch.float64)
    else:
        lattice, transform = minkowski_reduce(lattice)
        frac = frac @ torch.linalg.inv(transform)
        shifts = image_shifts(lattice, cutoff)
    difference = frac[:, cells.rows, None] - frac[:, None]
    own = torch.round(difference)
    difference = difference - own
    same_unit = cells.unit_index[cells.rows, None] == cells.unit_index
    nearest: Tensor | None = None
    for shift in shifts:
        vectors = torch.einsum("banf,bfc->banc", difference + shift, lattice)
        squared = (vectors**2).sum(-1)
        squared = squared.masked_fill(same_unit & (own == shift).all(-1), torch.inf)
        nearest = squared if nearest is None else torch.minimum(nearest, squared)
    assert nearest is not None  # there is always the zero shift
    return nearest


def contact_filter(
    source: Source, limits: PairLimits = REALISTIC_LIMITS, *, independent: Tensor | None = None
) -> Tensor:
    """Which crystals keep all contact limits, as fast as possible.

    Parameters
    ----------
    source : AsymmetricUnit, Crystals or sequence of Structure
        See `shortest_contacts`.
    limits : PairLimits
    independent : Tensor of int, shape (A,), optional
        See `shortest_contacts`.

    Returns
    -------
    Tensor of bool, shape (B,)
        The verdicts of ``shortest_contacts(...).passed``. Where one image of each pair is enough,
        each unordered pair is measured once in float32; crystals within 0.0001 A^2 of a limit, and
        cells that need more images, are measured in float64. Not finite means not passed.
    """
    with torch.no_grad():
        return filter_cells(_as_cells(source, independent), limits)


def filter_cells(cells: Cells, limits: PairLimits) -> Tensor:
    """`contact_filter` of prepared cells."""
    with torch.no_grad():
        largest = max(limits.limit(a, b) for a in set(cells.species) for b in set(cells.species))
        smallest_height = float(cell_heights(cells.lattice).min())
        # The image next to a wrapped difference is at least half the smallest height away.
        if not smallest_height > 2 * max(largest, cells.longest_unit) + 1e-3:
            return contacts_of_cells(cells, limits).passed
        table = _squared_limits(limits, cells.species)
        table = table.masked_fill(cells.unit_index[:, None] == cells.unit_index, -1.0)
        margin = _margins(cells, table)
        passed = margin > 0
        unclear = torch.nonzero(~(margin.abs() > _NEAR)).flatten()
        if len(unclear):
            passed[unclear] = contacts_of_cells(cells.select(unclear), limits).passed
        return passed


@lru_cache(maxsize=64)
def _squared_limits(limits: PairLimits, species: tuple[str, ...]) -> Tensor:
    return limits.matrix(species, species, torch.float32) ** 2


def _blocks(cells: Cells, table: Tensor) -> list[tuple[Tensor, int, Tensor]]:
    """Rows in blocks, the first column each needs (earlier pairs were met before), and their limits."""
    rows = cells.rows
    size = max(1, len(rows) // 8)
    blocks = []
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        # Units come in one piece, in the order of the rows: pairs with earlier units are done.
        first = int(torch.nonzero(cells.unit_index == cells.unit_index[block[0]]).min())
        blocks.append((block, first, table[block, first:]))
    return blocks


def _margins(cells: Cells, table: Tensor) -> Tensor:
    """Smallest ``r^2 - limit^2`` of each crystal, A^2, shape (B,), in float32.

    Crystals run along the last axis, so that every operation is one contiguous sweep.
    """
    frac = (cells.frac_coords - torch.floor(cells.frac_coords)).to(torch.float32).permute(2, 1, 0)  # (3, N, B)
    lattice = cells.lattice.to(torch.float32).permute(1, 2, 0)  # (3, 3, B)
    entries = [(i, j) for i in range(3) for j in range(3) if bool((lattice[i, j].abs() > 1e-6).any())]
    blocks = _blocks(cells, table)
    size = max(1, _SWEEP // max(limit.numel() for _, _, limit in blocks))
    margins = []
    for start in range(0, len(cells), size):
        part = frac[..., start : start + size].contiguous()
        scale = lattice[..., start : start + size].contiguous()
        found = [_block_margin(part, scale, entries, rows, first, limit) for rows, first, limit in blocks]
        margins.append(torch.stack(found).amin(0))
    return torch.cat(margins)


def _block_margin(
    frac: Tensor, lattice: Tensor, entries: Sequence[tuple[int, int]], rows: Tensor, first: int, limit: Tensor
) -> Tensor:
    wrapped = []
    for k in range(3):
        difference = frac[k, rows][:, None] - frac[k, first:]
        wrapped.append(difference.sub_(torch.round(difference)))
    squared: Tensor | None = None
    for column in range(3):
        used = [i for i, j in entries if j == column]
        # In right-angled cells each row is used once and may be overwritten.
        first_term = wrapped[used[0]]
        scale = lattice[used[0], column]
        component = first_term.mul_(scale) if len(entries) == 3 else first_term * scale
        for i in used[1:]:
            component.addcmul_(wrapped[i], lattice[i, column])
        squared = component.square_() if squared is None else squared.addcmul_(component, component)
    assert squared is not None  # there are three columns
    squared.sub_(limit[:, :, None])
    return squared.flatten(0, 1).amin(0)
