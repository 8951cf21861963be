"""Rotation-invariant and vector features of neighbouring rigid units, from distances between their atoms.

For an edge (unit i, image of unit j) and every pair of atom classes the radial features are
sum_ab g_k(|r_ab|); a network's vectors are sums over the atom pairs of weights times
u_ab = r_ab / |r_ab| (a "force" on i) and (r_a - r_i) x u_ab (a "torque"). Atoms that the unit's
point group exchanges share a class, so its symmetry cannot show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.graph import (
    UnitKinds,
    edge_vectors,
    find_edges,
    kind_atoms,
    unit_images,
    unit_kinds,
)


@dataclass(frozen=True)
class RadialBasis:
    """Gaussians on distances, denser where atoms touch.

    Attributes
    ----------
    count : int
        Functions.
    start, end : float
        Range of distances, A.
    """

    count: int = 16
    start: float = 0.7
    end: float = 7.0

    def __call__(self, distance: Tensor) -> Tensor:
        """Basis (..., count) of distances (...), A."""
        # Centres spread evenly in the square root of the distance.
        low, high = math.sqrt(self.start), math.sqrt(self.end)
        width = (high - low) / (self.count - 1)
        centres = torch.linspace(low, high, self.count, dtype=distance.dtype) / (width * math.sqrt(2))
        scaled = distance.clamp_min(1e-4).sqrt() / (width * math.sqrt(2))
        return torch.exp(-((scaled[..., None] - centres) ** 2))


@dataclass(frozen=True)
class EdgeBlock:
    """Features of all edges between units of two kinds; A atom pairs in C classes.

    Attributes
    ----------
    rows : slice
        Which edges.
    classes : Tensor of int, shape (A,)
        Class of each atom pair.
    basis : Tensor, shape (A, E', K)
    radial : Tensor, shape (E', C * K)
        Sums of the basis over the pairs of each class.
    direction : Tensor, shape (A, E', 3)
        Unit vectors between atoms.
    lever : Tensor, shape (A, E', 3), or None
        Lever arm times direction; None where the target is a single atom.
    """

    rows: slice
    classes: Tensor
    basis: Tensor
    radial: Tensor
    direction: Tensor
    lever: Tensor | None

    def pair_weights(self, weights: Tensor) -> Tensor:
        """One scalar (A, E', 1) for each atom pair from weights (E', C * K) of the basis."""
        by_class = weights.unflatten(1, (-1, self.basis.shape[-1]))
        pairs = [(by_class[:, c] * self.basis[a]).sum(-1) for a, c in enumerate(self.classes.tolist())]
        return torch.stack(pairs)[..., None]


@dataclass(frozen=True)
class CrystalGeometry:
    """Everything that networks read of a set of crystals.

    Attributes
    ----------
    target, source : Tensor of int, shape (E,)
        Edges of one block stand together.
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
    return int(_pair_classes(kinds, target, source).max()) + 1


def _pair_classes(kinds: UnitKinds, target: int, source: int) -> Tensor:
    first, second = kinds.classes(target), kinds.classes(source)
    return (first[:, None] * (int(second.max()) + 1) + second).flatten()


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
    images = unit_images(flat)
    edges = find_edges(flat, images, cutoff)
    numbers = unit_kinds(flat, kinds)
    # Edges between units of the same two kinds stand together, so that blocks are slices.
    block = numbers[edges.target] * len(kinds.units) + numbers[images.source[edges.image]]
    edges = edges.select(torch.argsort(block, stable=True))
    ends = torch.cumsum(torch.bincount(block, minlength=len(kinds.units) ** 2), 0).tolist()
    vector = edge_vectors(flat, images, edges)
    atoms = kind_atoms(flat, images, kinds, numbers)
    blocks = {}
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if end == start:
            continue
        p, q = divmod(number, len(kinds.units))
        rows = slice(start, end)
        first = atoms[p].units[atoms[p].unit_place[edges.target[rows]]]
        second = atoms[q].images[atoms[q].image_place[edges.image[rows]]]
        blocks[p, q] = _block(rows, vector[rows], first, second, _pair_classes(kinds, p, q), basis)
    distance = torch.sqrt((vector**2).sum(-1)).clamp_min(1e-6)
    source = images.source[edges.image]
    return CrystalGeometry(edges.target, source, distance, vector / distance[:, None], blocks, numbers)


def _block(
    rows: slice, vector: Tensor, on_target: Tensor, on_source: Tensor, classes: Tensor, basis: RadialBasis
) -> EdgeBlock:
    first, second = on_target.transpose(0, 1), on_source.transpose(0, 1)  # (atoms, E, 3)
    difference = ((vector + second)[None] - first[:, None]).flatten(0, 1)  # (A, E, 3)
    distance = torch.sqrt((difference**2).sum(-1) + 1e-8)
    direction = difference / distance[..., None]
    lever = None
    if len(first) > 1:
        arms = first[:, None].expand(-1, len(second), -1, -1).flatten(0, 1)
        lever = torch.linalg.cross(arms, direction)
    values = basis(distance)
    pairs = classes.tolist()
    sums = [
        torch.stack([values[a] for a, c in enumerate(pairs) if c == k]).sum(0) if pairs.count(k) > 1
        else values[pairs.index(k)]
        for k in range(max(pairs) + 1)
    ]  # fmt: skip
    return EdgeBlock(rows, classes, values, torch.cat(sums, 1), direction, lever)
