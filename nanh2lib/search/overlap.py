"""Overlap energy of packed crystals and its exact gradient, without automatic differentiation.

The energy of a crystal is ``E = sum over pairs of 1/2 max(0, limit - r)^2`` (A^2), over all pairs
of atoms of different images of units. It is invariant under the space group. So the force that
all atoms, held where they are, exert on the atoms of one image of a unit is minus the gradient of
E for moving that unit together with all its images, divided by its multiplicity: only distances
from the A atoms of the asymmetric unit to the N atoms of the cell are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.pair_limits import PairLimits
from nanh2lib.geometry.lattice import cell_heights
from nanh2lib.geometry.periodic import image_shifts, minkowski_reduce
from nanh2lib.search.packing import (
    PackedState,
    PackedTemplates,
    atom_positions,
    pack_state,
    pack_templates,
    pair_limits,
)

_TINY = 1e-8


@dataclass(frozen=True)
class Box:
    """Periodic images that matter for a batch of lattices.

    Attributes
    ----------
    basis : Tensor, shape (B, 3, 3)
        The lattice itself where one image of each pair is enough, else its reduced basis.
    to_basis : Tensor, shape (B, 3, 3), or None
        ``frac_in_basis = frac @ to_basis``.
    entries : tuple of (row, column)
        Entries of `basis` that are not zero in the whole batch (three for right-angled cells).
    shifts : tuple of integer triples
        Lattice shifts to visit for each wrapped difference.
    one_image : bool
        One shift only, and no unit is long enough to see itself in it: atoms of the same image
        are then left out by a zero limit alone.
    """

    basis: Tensor
    to_basis: Tensor | None
    entries: tuple[tuple[int, int], ...]
    shifts: tuple[tuple[int, int, int], ...]
    one_image: bool

    def select(self, index: Tensor) -> Box:
        """Some of the crystals."""
        moved = None if self.to_basis is None else self.to_basis[index]
        return Box(self.basis[index], moved, self.entries, self.shifts, self.one_image)


def make_box(lattice: Tensor, cutoff: float, longest_unit: float) -> Box:
    """Find the images that can hold contacts.

    Parameters
    ----------
    lattice : Tensor, shape (B, 3, 3)
        Rows, A.
    cutoff : float
        Largest distance of interest, A.
    longest_unit : float
        Largest distance between two atoms of one unit, A.
    """
    smallest_height = float(cell_heights(lattice).min())
    if smallest_height > 2 * cutoff + 1e-3 and smallest_height > 2 * longest_unit + 1e-3:
        return Box(lattice, None, _entries(lattice), ((0, 0, 0),), True)
    reduced, transform = minkowski_reduce(lattice.to(torch.float64))
    shifts = image_shifts(reduced, cutoff).to(torch.int64).tolist()
    triples = tuple((int(i), int(j), int(k)) for i, j, k in shifts)
    basis = reduced.to(lattice.dtype)
    to_basis = torch.linalg.inv(transform).to(lattice.dtype)
    return Box(basis, to_basis, _entries(basis), triples, False)


def _entries(lattice: Tensor) -> tuple[tuple[int, int], ...]:
    present = (lattice.abs() > 1e-6 * lattice.abs().max()).any(0)
    return tuple((int(i), int(j)) for i, j in torch.nonzero(present).tolist())


def longest_unit(packed: PackedTemplates) -> float:
    """Upper bound of the distance between two atoms of one unit in the batch, A."""
    return 2 * float(torch.linalg.vector_norm(packed.body, dim=-1).max())


def pair_vectors(
    box: Box, independent: Tensor, everything: Tensor, same_image: Tensor
) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    """Vectors from all atoms to those of the asymmetric unit, one periodic shift after the other.

    Parameters
    ----------
    box : Box
    independent, everything : Tensor, shapes (B, A, 3) and (B, N, 3)
        Fractional coordinates in the original lattice, not wrapped.
    same_image : Tensor of bool, shape (B, A, N)

    Yields
    ------
    vectors : list of three Tensors, shape (B, A, N)
        Cartesian components, A.
    own : Tensor of bool, shape (B, A, N), or None
        The pair lies within one image of a unit. None where `box.one_image` leaves that to the limits.
    """
    if box.to_basis is not None:
        independent, everything = independent @ box.to_basis, everything @ box.to_basis
    wrapped, cells = [], []
    for k in range(3):
        difference = independent[:, :, None, k] - everything[:, None, :, k]
        cell = torch.round(difference)
        wrapped.append(difference.sub_(cell))
        cells.append(cell)
    for shift in box.shifts:
        components: list[Tensor | None] = [None, None, None]
        for row, column in box.entries:
            scale = box.basis[:, row, column, None, None]
            term = (wrapped[row] + shift[row]) if shift[row] else wrapped[row]
            present = components[column]
            components[column] = term * scale if present is None else present.addcmul_(term, scale)
        vectors = [c if c is not None else torch.zeros_like(wrapped[0]) for c in components]
        if box.one_image:
            yield vectors, None
        else:
            inside = same_image.clone()
            for cell, s in zip(cells, shift, strict=True):
                inside &= cell == s
            yield vectors, inside


@dataclass(frozen=True)
class Overlap:
    """Forces of the overlap energy on the atoms of the asymmetric unit.

    Attributes
    ----------
    forces : Tensor, shape (B, A, 3)
        A (minus the gradient of an energy in A^2).
    contacts : Tensor, shape (B, A)
        Number of overlapping neighbours of each atom.
    offsets : Tensor, shape (B, A, 3)
        Atoms about their unit's reference point, A.
    deepest : Tensor, shape (B,)
        Largest ``limit / r - 1``, at least zero.
    """

    forces: Tensor
    contacts: Tensor
    offsets: Tensor
    deepest: Tensor


def overlap_forces(packed: PackedTemplates, state: PackedState, limits: Tensor, box: Box) -> Overlap:
    """Overlap forces of a packed state.

    Parameters
    ----------
    packed : PackedTemplates
    state : PackedState
    limits : Tensor, shape (B, A, N)
        A. With ``box.one_image`` zero between atoms of one image of a unit.
    box : Box
    """
    offsets, independent, everything = atom_positions(packed, state)
    forces: Tensor | None = None
    contacts = deepest = torch.zeros(())
    for vectors, own in pair_vectors(box, independent, everything, packed.same_image):
        depth = _squared(vectors).clamp_min_(_TINY).rsqrt_().mul_(limits).sub_(1.0).clamp_min_(0.0)
        if own is not None:
            depth.masked_fill_(own, 0.0)
        here = torch.stack([v.mul_(depth).sum(-1) for v in vectors], -1)
        count, worst = (depth > 0).sum(-1).to(depth.dtype), depth.amax((1, 2))
        if forces is None:
            forces, contacts, deepest = here, count, worst
        else:
            forces, contacts, deepest = forces + here, contacts + count, torch.maximum(deepest, worst)
    assert forces is not None  # there is always the zero shift
    return Overlap(forces, contacts, offsets, deepest)


def _squared(vectors: Sequence[Tensor]) -> Tensor:
    x, y, z = vectors
    return (x * x).addcmul_(y, y).addcmul_(z, z)


def on_units(packed: PackedTemplates, overlap: Overlap) -> tuple[Tensor, Tensor]:
    """Forces (A) and torques (A^2) about the reference points, both (B, U, 3), of atomic forces."""
    torques = torch.linalg.cross(overlap.offsets, overlap.forces)
    return packed.atoms_of_unit @ overlap.forces, packed.atoms_of_unit @ torques


def masked_limits(packed: PackedTemplates, limits: PairLimits, box: Box, dtype: torch.dtype) -> Tensor:
    """Limits (B, A, N), A, set to zero within a unit where the box asks for it."""
    table = pair_limits(packed, limits, dtype)
    return table.masked_fill(packed.same_image, 0.0) if box.one_image else table


def overlap_energy_and_gradient(units: Sequence[AsymmetricUnit], limits: PairLimits) -> tuple[Tensor, Tensor, Tensor]:
    """Overlap energy of crystals and its gradient with respect to their independent units.

    Parameters
    ----------
    units : sequence of AsymmetricUnit
        Batches of one, exactly on their sites; templates may differ.
    limits : PairLimits

    Returns
    -------
    energy : Tensor, shape (B,)
        Per conventional cell, A^2.
    position_gradient : Tensor, shape (B, U, 3)
        dE / d(Cartesian displacement) of each unit with all its images, A; zero for padding.
    rotation_gradient : Tensor, shape (B, U, 3)
        dE / d(rotation vector) likewise, A^2 per radian.
    """
    packed, state = pack_templates([unit.template for unit in units]), pack_state(units)
    box = box_for(packed, state, limits)
    table = masked_limits(packed, limits, box, state.lattice.dtype)
    _, independent, everything = atom_positions(packed, state)
    energy = torch.zeros(len(units), dtype=state.lattice.dtype)
    rows = torch.arange(len(units))[:, None]
    weight = packed.multiplicity.to(energy.dtype)[rows, packed.unit_of_atom]
    for vectors, own in pair_vectors(box, independent, everything, packed.same_image):
        depth = (table - _squared(vectors).clamp_min(_TINY).sqrt()).clamp_min(0.0)
        if own is not None:
            depth = depth.masked_fill(own, 0.0)
        # Half a pair for each of its two ends.
        energy = energy + 0.25 * (weight * (depth**2).sum(-1)).sum(-1)
    forces, torques = on_units(packed, overlap_forces(packed, state, table, box))
    scale = packed.multiplicity.to(energy.dtype)[..., None]
    return energy, -scale * forces, -scale * torques


def box_for(packed: PackedTemplates, state: PackedState, limits: PairLimits, enlarge: float = 1.0) -> Box:
    """Box of a packed state that holds every contact below the (enlarged) limits."""
    largest = float(pair_limits(packed.select(torch.arange(1)), limits, torch.float64).max())
    if len(packed.body) > 1:
        largest = max(largest, float(pair_limits(packed, limits, torch.float64).max()))
    return make_box(state.lattice, largest * enlarge, longest_unit(packed))
