"""Neighbours of the asymmetric unit's members among all symmetry images of all members.

Nothing but relative positions enters, so lattice translations, origin shifts of the space group,
the choice of symmetry image and the order of the units cannot matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.crystal.rigid_unit import RigidUnit
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.geometry.lattice import cell_heights
from nanh2lib.geometry.periodic import image_shifts


@dataclass(frozen=True)
class UnitKinds:
    """The kinds of rigid units that a network knows.

    Attributes
    ----------
    units : tuple of RigidUnit
    """

    units: tuple[RigidUnit, ...]

    @classmethod
    def of(cls, templates: Sequence[Template]) -> UnitKinds:
        """Kinds that occur in some templates, by size and name."""
        found = {site.unit for template in templates for site in template.sites}
        return cls(tuple(sorted(found, key=lambda unit: (unit.n_atoms, unit.name, unit.coords))))

    def classes(self, kind: int) -> Tensor:
        """For each atom of a kind, the number of its orbit under the unit's point group."""
        return _atom_classes(self.units[kind])

    def numbers(self, template: Template) -> Tensor:
        """Kind (U,) of each unit of a template."""
        return torch.tensor([self.units.index(site.unit) for site in template.sites])


@lru_cache(maxsize=256)
def _atom_classes(unit: RigidUnit) -> Tensor:
    body = torch.as_tensor(unit.body)
    symbol, operations = unit.point_group
    group = torch.as_tensor(operations.copy())
    if symbol == "D_inf_h":
        group = torch.stack([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    centre = body.mean(0)
    labels = [-1] * unit.n_atoms
    for atom in range(unit.n_atoms):
        if labels[atom] >= 0:
            continue
        label = max(labels) + 1
        images = (group @ (body[atom] - centre)) + centre
        for other in range(unit.n_atoms):
            close = (torch.linalg.vector_norm(images - body[other], dim=-1) < 0.1).any()
            if bool(close) and unit.species[other] == unit.species[atom]:
                labels[other] = label
    return torch.tensor(labels)


@dataclass(frozen=True)
class UnitImages:
    """All symmetry images of the units in one conventional cell, and which pairs may be neighbours.

    Attributes
    ----------
    source : Tensor of int, shape (I,)
        Row of `FlatUnits` that an image is made of; images of one crystal are contiguous.
    rotation : Tensor, shape (I, 3, 3)
        Fractional operation.
    frac_origins : Tensor, shape (I, 3)
        Differentiable.
    pair_target, pair_image : Tensor of int, shape (P,)
        Every unit with every image of its crystal, by rows; sorted by unit.
    itself : Tensor of bool, shape (P,)
        The image is the unit.
    """

    source: Tensor
    rotation: Tensor
    frac_origins: Tensor
    pair_target: Tensor
    pair_image: Tensor
    itself: Tensor


def unit_images(flat: FlatUnits) -> UnitImages:
    """Images of the units of all crystals."""
    sizes = torch.tensor([table.n_units for table in flat.tables])
    first_unit = torch.cumsum(sizes, 0) - sizes
    tables = [table.images for table in flat.tables]
    counts = torch.tensor([len(table.source) for table in tables])
    first_image = torch.cumsum(counts, 0) - counts
    pairs = torch.tensor([len(table.pair_target) for table in tables])
    to_unit, to_image = first_unit.repeat_interleave(pairs), first_image.repeat_interleave(pairs)

    def joined(name: str) -> Tensor:
        if len({id(table) for table in tables}) == 1:
            value: Tensor = getattr(tables[0], name)
            return value.repeat(len(tables), *(1,) * (value.dim() - 1))
        return torch.cat([getattr(table, name) for table in tables])

    source = joined("source") + first_unit.repeat_interleave(counts)
    rotation = joined("rotation").to(flat.frac_origins.dtype)
    moved = (rotation * flat.frac_origins[source][:, None]).sum(-1) + joined("translation").to(rotation.dtype)
    return UnitImages(
        source, rotation, moved, joined("pair_target") + to_unit, joined("pair_image") + to_image, joined("itself")
    )


@dataclass(frozen=True)
class Edges:
    """Directed neighbour pairs: an image of a unit lies within the cutoff of unit ``target``.

    Attributes
    ----------
    target : Tensor of int, shape (E,)
        Rows of `FlatUnits`.
    image : Tensor of int, shape (E,)
        Rows of `UnitImages`.
    shift : Tensor, shape (E, 3)
        Lattice translation that is added to the image.
    """

    target: Tensor
    image: Tensor
    shift: Tensor

    def select(self, rows: Tensor) -> Edges:
        """Some of the edges, in the order given."""
        return Edges(self.target[rows], self.image[rows], self.shift[rows])


def find_edges(flat: FlatUnits, images: UnitImages, cutoff: float) -> Edges:
    """All neighbours within a distance of the units' reference points.

    Parameters
    ----------
    flat : FlatUnits
    images : UnitImages
    cutoff : float
        A.

    Returns
    -------
    Edges
        Without gradients.
    """
    with torch.no_grad():
        frac = images.frac_origins[images.pair_image] - flat.frac_origins[images.pair_target]
        nearest = -torch.round(frac)
        frac = frac + nearest
        crystal = flat.crystal[images.pair_target]
        heights = cell_heights(flat.lattice)
        if float(heights.min()) < cutoff:
            shifts = image_shifts(flat.lattice, cutoff).to(frac.dtype)
            tries = [(torch.arange(len(frac)), shift.expand(len(frac), 3)) for shift in shifts]
        else:
            tries = _other_sides(frac, heights[crystal], cutoff)
        pairs, moves = [], []
        for rows, shift in tries:
            vector = ((frac[rows] + shift)[..., None] * flat.lattice[crystal[rows]]).sum(-2)
            move = nearest[rows] + shift
            # The unit is not its own neighbour: same operation, and total shift zero.
            same = images.itself[rows] & (move == 0).all(-1)
            near = (((vector**2).sum(-1) < cutoff**2) & ~same).nonzero().squeeze(-1)
            pairs.append(rows[near])
            moves.append(move[near])
        pair = torch.cat(pairs)
        return Edges(images.pair_target[pair], images.pair_image[pair], torch.cat(moves))


def _other_sides(frac: Tensor, heights: Tensor, cutoff: float) -> list[tuple[Tensor, Tensor]]:
    """Rows of differences (P, 3) in [-1/2, 1/2] and shifts (rows, 3) that can bring them near.

    In a cell that is higher than the cutoff only the other side of each axis can, and only for
    differences close to half the cell.
    """
    other = torch.where(frac > 0, -torch.ones_like(frac), torch.ones_like(frac))
    possible = (1 - frac.abs()) * heights < cutoff
    result = []
    for axes in itertools.product((False, True), repeat=3):
        chosen = torch.tensor(axes)
        rows = possible[:, chosen].all(-1).nonzero().squeeze(-1) if any(axes) else torch.arange(len(frac))
        result.append((rows, other[rows] * chosen))
    return result


def edge_vectors(flat: FlatUnits, images: UnitImages, edges: Edges) -> Tensor:
    """Vectors (E, 3), A, from each target's reference point to the image's; differentiable."""
    frac = images.frac_origins[edges.image] + edges.shift - flat.frac_origins[edges.target]
    lattice = flat.lattice[flat.crystal[edges.target]]
    return (frac[..., None] * lattice).sum(-2)


@dataclass(frozen=True)
class KindAtoms:
    """Atoms of all units and images of one kind, A, from their reference points.

    Attributes
    ----------
    unit_place : Tensor of int, shape (N,)
        Row in ``units`` of each unit of this kind.
    image_place : Tensor of int, shape (I,)
        Row in ``images`` of each image of this kind.
    units : Tensor, shape (n, atoms, 3)
    images : Tensor, shape (i, atoms, 3)
    """

    unit_place: Tensor
    image_place: Tensor
    units: Tensor
    images: Tensor


def kind_atoms(flat: FlatUnits, images: UnitImages, kinds: UnitKinds, numbers: Tensor) -> list[KindAtoms]:
    """Atoms by kind; differentiable with respect to rotations and lattices.

    Parameters
    ----------
    flat : FlatUnits
    images : UnitImages
    kinds : UnitKinds
    numbers : Tensor of int, shape (N,)
        Kind of each unit.
    """
    handedness = flat.handedness()
    of_image = numbers[images.source]
    result = []
    for kind, unit in enumerate(kinds.units):
        rows, copies = (numbers == kind).nonzero().squeeze(-1), (of_image == kind).nonzero().squeeze(-1)
        unit_place, image_place = torch.zeros_like(numbers), torch.zeros_like(of_image)
        unit_place[rows], image_place[copies] = torch.arange(len(rows)), torch.arange(len(copies))
        body = torch.as_tensor(unit.body, dtype=flat.rotations.dtype)
        offsets = (body[None] * handedness[rows, None, None]) @ flat.rotations[rows].transpose(-1, -2)
        source = unit_place[images.source[copies]]
        lattice = flat.lattice[flat.crystal[images.source[copies]]]
        frac = offsets @ torch.linalg.inv(flat.lattice)[flat.crystal[rows]]
        moved = frac[source] @ images.rotation[copies].transpose(-1, -2) @ lattice
        result.append(KindAtoms(unit_place, image_place, offsets, moved))
    return result


def unit_kinds(flat: FlatUnits, kinds: UnitKinds) -> Tensor:
    """Kind (N,) of each unit."""
    numbers: dict[int, Tensor] = {}
    for table in flat.tables:
        if id(table) not in numbers:
            numbers[id(table)] = kinds.numbers(table.template)
    return torch.cat([numbers[id(table)] for table in flat.tables])
