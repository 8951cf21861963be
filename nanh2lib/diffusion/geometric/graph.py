"""Neighbours of the asymmetric unit's members among all symmetry images of all members.

Nothing but relative positions enters, so lattice translations, origin shifts of the space group,
the choice of symmetry image and the order of the units cannot matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.crystal.rigid_unit import RigidUnit
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
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
class Edges:
    """Directed neighbour pairs: an image of unit ``source`` lies within the cutoff of unit ``target``.

    Attributes
    ----------
    target, source : Tensor of int, shape (E,)
        Rows of `FlatUnits`; sorted by target.
    rotation : Tensor, shape (E, 3, 3)
        Fractional operation that makes the image.
    translation : Tensor, shape (E, 3)
        Its translation, lattice shift included.
    """

    target: Tensor
    source: Tensor
    rotation: Tensor
    translation: Tensor


def find_edges(flat: FlatUnits, cutoff: float) -> Edges:
    """All neighbours within a distance of the units' reference points.

    Parameters
    ----------
    flat : FlatUnits
    cutoff : float
        A.

    Returns
    -------
    Edges
        Without gradients.
    """
    with torch.no_grad():
        target, source, rotation, translation, itself, crystal = _all_candidates(flat)
        frac = (rotation @ flat.frac_origins[source, :, None])[..., 0] + translation - flat.frac_origins[target]
        nearest = -torch.round(frac)
        base = (frac + nearest)[:, None] @ flat.lattice[crystal]  # (P, 1, 3)
        shifts = image_shifts(flat.lattice, cutoff)
        steps = shifts @ flat.lattice  # (C, S, 3)
        pairs, images = [], []
        for number, shift in enumerate(shifts):
            vector = base[:, 0] + steps[crystal, number]
            near = (vector**2).sum(-1) < cutoff**2
            # The unit is not its own neighbour: same operation, and total shift zero.
            same = itself & ((nearest + shift).abs().amax(-1) == 0)
            chosen = (near & ~same).nonzero().squeeze(-1)
            pairs.append(chosen)
            images.append(nearest[chosen] + shift)
        pair, image = torch.cat(pairs), torch.cat(images)
        order = torch.argsort(target[pair], stable=True)
        pair, image = pair[order], image[order]
        return Edges(target[pair], source[pair], rotation[pair], translation[pair] + image)


def _all_candidates(flat: FlatUnits) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Candidate pairs of all crystals; rows of `flat` in the first two."""
    sizes = torch.tensor([table.n_units for table in flat.tables])
    starts = torch.cumsum(sizes, 0) - sizes
    tables = [table.candidates for table in flat.tables]
    lengths = torch.tensor([len(table.target) for table in tables])
    offset = starts.repeat_interleave(lengths)
    crystal = torch.arange(flat.n_crystals).repeat_interleave(lengths)
    dtype = flat.frac_origins.dtype
    if len({id(table) for table in tables}) == 1:
        table, count = tables[0], len(tables)
        return (
            table.target.repeat(count) + offset,
            table.source.repeat(count) + offset,
            table.rotation.to(dtype).repeat(count, 1, 1),
            table.translation.to(dtype).repeat(count, 1),
            table.itself.repeat(count),
            crystal,
        )
    return (
        torch.cat([table.target for table in tables]) + offset,
        torch.cat([table.source for table in tables]) + offset,
        torch.cat([table.rotation for table in tables]).to(dtype),
        torch.cat([table.translation for table in tables]).to(dtype),
        torch.cat([table.itself for table in tables]),
        crystal,
    )


@dataclass(frozen=True)
class EdgeGeometry:
    """Cartesian geometry of edges; differentiable with respect to origins, rotations and lattice.

    Attributes
    ----------
    vector : Tensor, shape (E, 3)
        From the target's reference point to the image's, A.
    operation : Tensor, shape (E, 3, 3)
        Cartesian form of the operation.
    """

    vector: Tensor
    operation: Tensor


def edge_geometry(flat: FlatUnits, edges: Edges) -> EdgeGeometry:
    """Vectors and Cartesian operations of edges."""
    crystal = flat.crystal[edges.target]
    moved = (edges.rotation @ flat.frac_origins[edges.source, :, None])[..., 0] + edges.translation
    frac = moved - flat.frac_origins[edges.target]
    vector = (frac[:, None] @ flat.lattice[crystal])[:, 0]
    transpose, inverse = flat.lattice.transpose(-1, -2), torch.linalg.inv(flat.lattice).transpose(-1, -2)
    return EdgeGeometry(vector, transpose[crystal] @ edges.rotation @ inverse[crystal])


def atom_offsets(flat: FlatUnits, kinds: UnitKinds) -> list[tuple[Tensor, Tensor]]:
    """For each kind the rows (n,) of its units and their atoms' offsets (n, atoms, 3), A."""
    result = []
    numbers = unit_kinds(flat, kinds)
    handedness = flat.handedness()
    for kind, unit in enumerate(kinds.units):
        rows = (numbers == kind).nonzero().squeeze(-1)
        body = torch.as_tensor(unit.body, dtype=flat.rotations.dtype)
        bodies = body[None] * handedness[rows, None, None]
        result.append((rows, bodies @ flat.rotations[rows].transpose(-1, -2)))
    return result


def unit_kinds(flat: FlatUnits, kinds: UnitKinds) -> Tensor:
    """Kind (N,) of each unit."""
    numbers: dict[int, Tensor] = {}
    for table in flat.tables:
        if id(table) not in numbers:
            numbers[id(table)] = kinds.numbers(table.template)
    return torch.cat([numbers[id(table)] for table in flat.tables])
