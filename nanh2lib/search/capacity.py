"""How many units a Wyckoff site can hold in a given cell: a bound that no arrangement can beat."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nanh2lib.crystal.pair_limits import PairLimits
from nanh2lib.crystal.rigid_unit import RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup, WyckoffSite
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix

UNBOUNDED = 1_000_000
_GENERIC = np.array([0.1379, 0.2617, 0.4091])
_SLACK = 1e-6
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Room:
    """A fixed cell and the contact limits that its contents must keep.

    Attributes
    ----------
    lattice_parameters : tuple of 6 floats
        A and degrees.
    limits : PairLimits
    """

    lattice_parameters: tuple[float, ...]
    limits: PairLimits

    @property
    def lattice(self) -> FloatArray:
        """Lattice matrix (3, 3), rows, A."""
        given = torch.tensor(self.lattice_parameters, dtype=torch.float64)
        return np.asarray(lattice_parameters_to_matrix(given).numpy())


def site_capacity(group: SpaceGroup, site: WyckoffSite, units: Sequence[RigidUnit], room: Room | None) -> int:
    """Most units of the given kinds that a site can hold.

    Parameters
    ----------
    group : SpaceGroup
    site : WyckoffSite
    units : sequence of RigidUnit
        Kinds whose symmetry fits the site.
    room : Room or None
        Without it only the rule that a point holds one unit counts.

    Returns
    -------
    int
        Points hold at most one unit. On a line the reference atoms of the units and of their images
        on the same line follow each other at no less than the smallest limit between them, so
        their number per period is bounded; in a plane each needs the area of a hexagonal packing
        (Thue). An own image closer than the smallest limit makes the capacity zero.
    """
    dof = site.degrees_of_freedom
    if room is None or dof == 3 or any(np.abs(unit.body[0]).max() > 1e-6 for unit in units) or not units:
        return 1 if dof == 0 else UNBOUNDED
    species = sorted({unit.species[0] for unit in units})
    closest = min(room.limits.limit(a, b) for a, b in itertools.combinations_with_replacement(species, 2))
    images, vectors = _images_on_manifold(group, site)
    lattice = room.lattice
    if dof == 0:
        return 1 if _nearest_image(site, lattice) >= min(room.limits.limit(s, s) for s in species) - _SLACK else 0
    if dof == 1:
        period = float(np.linalg.norm(vectors[0] @ lattice))
        return math.floor(period / (images * closest) + _SLACK)
    first, second = vectors @ lattice
    area = float(np.linalg.norm(np.cross(first, second)))
    return math.floor(area / (images * math.sqrt(0.75) * closest**2) + _SLACK)


def _nearest_image(site: WyckoffSite, lattice: FloatArray) -> float:
    """Distance from a point site to its nearest own image, A."""
    points = site.coset_rotations @ site.offset + site.coset_translations
    gaps = points - site.offset
    gaps -= np.round(gaps)
    shifts = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    distances = np.linalg.norm((gaps[:, None] + shifts) @ lattice, axis=-1)
    return float(distances[distances > 1e-6].min())


def _images_on_manifold(group: SpaceGroup, site: WyckoffSite) -> tuple[int, FloatArray]:
    """Images of a generic point on the site's own line or plane per period, and the period vectors.

    Period vectors are the shortest lattice vectors along the line, or a primitive pair in the
    plane, in conventional fractions.
    """
    shifts = np.array(list(itertools.product(range(-2, 3), repeat=3)), dtype=float)
    centring = np.unique(group.translations[[np.array_equal(r, np.eye(3)) for r in group.rotations]], axis=0)
    translations = (shifts[:, None] + centring).reshape(-1, 3)
    inside = translations[np.abs(translations @ site.projection.T - translations).max(1) < 1e-6]
    inside = inside[np.abs(inside).max(1) > 1e-6]
    vectors = _shortest_basis(inside, site.degrees_of_freedom)
    if len(vectors) == 0:
        return 1, vectors
    point = site.projection @ _GENERIC + site.offset
    images = site.coset_rotations @ point + site.coset_translations
    gaps = (images[:, None] + shifts - point).reshape(-1, 3)
    on_it = gaps[np.abs(gaps @ site.projection.T - gaps).max(1) < 1e-6]
    coefficients = on_it @ np.linalg.pinv(vectors)
    coefficients -= np.floor(coefficients + 1e-6)
    return len(np.unique(np.round(coefficients, 4), axis=0)), vectors


def _shortest_basis(vectors: FloatArray, dimension: int) -> FloatArray:
    """Primitive basis of the one- or two-dimensional lattice that the vectors generate."""
    ordered = vectors[np.argsort((vectors**2).sum(1), kind="stable")] if len(vectors) else vectors
    if dimension == 0 or len(ordered) == 0:
        return np.zeros((0, 3))
    if dimension == 1:
        return ordered[:1]
    areas = np.linalg.norm(np.cross(ordered[:, None], ordered[None]), axis=-1)
    areas[areas < 1e-6] = np.inf
    i, j = np.unravel_index(int(areas.argmin()), areas.shape)
    return ordered[[i, j]]
