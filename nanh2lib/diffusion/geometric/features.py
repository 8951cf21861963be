"""Rotation-invariant and vector features of neighbouring rigid units, from distances between their atoms.

For an edge (unit i, image of unit j) and every pair of atom classes the radial features are
sum_ab g_k(|r_ab|); the vector features sum_ab g_k(|r_ab|) r_ab / |r_ab| (a "force" on i) and
sum_ab g_k(|r_ab|) (r_a - r_i) x r_ab / |r_ab| (a "torque"). Atoms that the unit's point group
exchanges share a class, so its symmetry cannot show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.graph import (
    UnitKinds,
    atom_offsets,
    edge_geometry,
    find_edges,
    unit_kinds,
)


@dataclass(frozen=True)
class RadialBasis:
    """Gaussians on distances, denser where atoms touch.

    Attributes
    ----------
    count : int
        Functions for the invariant features.
    vector_count : int
        Functions for the vector features.
    start, end : float
        Range of distances, A.
    """

    count: int = 20
    vector_count: int = 8
    start: float = 0.7
    end: float = 7.0

    def radial(self, distance: Tensor) -> Tensor:
        """Invariant basis (..., count) of distances (...), A."""
        return self._gaussians(distance, self.count)

    def vector(self, distance: Tensor) -> Tensor:
        """Basis (..., vector_count) for vector features."""
        return self._gaussians(distance, self.vector_count)

    def _gaussians(self, distance: Tensor, count: int) -> Tensor:
        # Centres spread evenly in the square root of the distance.
        low, high = math.sqrt(self.start), math.sqrt(self.end)
        centres = torch.linspace(low, high, count, dtype=distance.dtype)
        width = (high - low) / (count - 1)
        return torch.exp(-0.5 * ((distance.clamp_min(1e-4).sqrt()[..., None] - centres) / width) ** 2)


@dataclass(frozen=True)
class EdgeBlock:
    """Features of all edges between units of two kinds.

    Attributes
    ----------
    rows : Tensor of int, shape (E',)
        Which edges.
    radial : Tensor, shape (E', classes * K)
    force : Tensor, shape (E', classes * Kv, 3)
    torque : Tensor, shape (E', classes * Kv, 3), or None
        None where the target is a single atom.
    """

    rows: Tensor
    radial: Tensor
    force: Tensor
    torque: Tensor | None


@dataclass(frozen=True)
class CrystalGeometry:
    """Everything that networks read of a set of crystals.

    Attributes
    ----------
    target, source : Tensor of int, shape (E,)
        Sorted by target.
    distance : Tensor, shape (E,)
        Between reference points, A.
    direction : Tensor, shape (E, 3)
    blocks : dict of (int, int) to EdgeBlock
        By kinds of target and source.
    kinds : Tensor of int, shape (N,)
    """

    target: Tensor
    source: Tensor
    distance: Tensor
    direction: Tensor
    blocks: dict[tuple[int, int], EdgeBlock]
    kinds: Tensor


def class_pairs(kinds: UnitKinds, target: int, source: int) -> int:
    """Pairs of atom classes between two kinds."""
    return (int(kinds.classes(target).max()) + 1) * (int(kinds.classes(source).max()) + 1)


def crystal_geometry(flat: FlatUnits, kinds: UnitKinds, cutoff: float, basis: RadialBasis) -> CrystalGeometry:
    """Edges and their features.

    Parameters
    ----------
    flat : FlatUnits
    kinds : UnitKinds
    cutoff : float
        Between reference points, A.
    basis : RadialBasis

    Returns
    -------
    CrystalGeometry
        Differentiable with respect to origins, rotations and lattices.
    """
    edges = find_edges(flat, cutoff)
    geometry = edge_geometry(flat, edges)
    numbers = unit_kinds(flat, kinds)
    offsets = atom_offsets(flat, kinds)
    place = torch.zeros(flat.n_units, dtype=torch.int64)
    for rows, _ in offsets:
        place[rows] = torch.arange(len(rows))
    target_kind, source_kind = numbers[edges.target], numbers[edges.source]
    blocks = {}
    for p in range(len(kinds.units)):
        for q in range(len(kinds.units)):
            rows = ((target_kind == p) & (source_kind == q)).nonzero().squeeze(-1)
            if len(rows) == 0:
                continue
            on_target = offsets[p][1][place[edges.target[rows]]]
            on_source = offsets[q][1][place[edges.source[rows]]] @ geometry.operation[rows].transpose(-1, -2)
            blocks[p, q] = _block(rows, geometry.vector[rows], on_target, on_source, kinds, (p, q), basis)
    distance = torch.linalg.vector_norm(geometry.vector, dim=-1).clamp_min(1e-6)
    direction = geometry.vector / distance[:, None]
    return CrystalGeometry(edges.target, edges.source, distance, direction, blocks, numbers)


def _block(
    rows: Tensor,
    vector: Tensor,
    on_target: Tensor,
    on_source: Tensor,
    kinds: UnitKinds,
    pair: tuple[int, int],
    basis: RadialBasis,
) -> EdgeBlock:
    difference = vector[:, None, None] + on_source[:, None] - on_target[:, :, None]  # (E, n, m, 3)
    distance = torch.sqrt((difference**2).sum(-1) + 1e-8)
    direction = difference / distance[..., None]
    radial, weights = basis.radial(distance), basis.vector(distance)
    single = on_target.shape[1] == 1
    turning = None if single else torch.linalg.cross(on_target[:, :, None].expand_as(direction), direction)
    classes_p, classes_q = kinds.classes(pair[0]), kinds.classes(pair[1])
    radials, forces, torques = [], [], []
    for c in range(int(classes_p.max()) + 1):
        a = (classes_p == c).nonzero().squeeze(-1)
        for d in range(int(classes_q.max()) + 1):
            b = (classes_q == d).nonzero().squeeze(-1)
            radials.append(radial[:, a][:, :, b].sum((1, 2)))
            weight = weights[:, a][:, :, b].flatten(1, 2).transpose(1, 2)  # (E, Kv, pairs)
            forces.append(weight @ direction[:, a][:, :, b].flatten(1, 2))
            if turning is not None:
                torques.append(weight @ turning[:, a][:, :, b].flatten(1, 2))
    return EdgeBlock(rows, torch.cat(radials, 1), torch.cat(forces, 1), None if single else torch.cat(torques, 1))
