"""Orbits of rigid units under a space group, averaged over their members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from nanh2lib.crystal.connectivity import Fragment
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import ComputationError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class FragmentOrbit:
    """Symmetry-equivalent fragments.

    Attributes
    ----------
    fragment : Fragment
        The first member, each atom averaged over the images of all members, so that it has the
        site symmetry exactly.
    rotations, translations : ndarray, shapes (m, 3, 3) and (m, 3)
        For each member one operation that makes it from ``fragment``.
    first_indices : ndarray of int, shape (m,)
        Lowest site index of each member.
    """

    fragment: Fragment
    rotations: IntArray
    translations: FloatArray
    first_indices: IntArray

    def images(self, point: FloatArray) -> FloatArray:
        """Images (m, 3) of a fractional point that belongs to ``fragment``."""
        return np.asarray(self.rotations @ point + self.translations)


def fragment_orbits(
    fragments: Sequence[Fragment], group: SpaceGroup, lattice: FloatArray, tolerance: float
) -> list[FragmentOrbit]:
    """Fragments gathered into orbits, in the order of their first members.

    Parameters
    ----------
    fragments : sequence of Fragment
        In the origin of ``group``.
    group : SpaceGroup
    lattice : ndarray, shape (3, 3)
        Rows, A.
    tolerance : float
        How far (A) a fragment's centre may lie from the image of another's.

    Raises
    ------
    ComputationError
        An image of a fragment meets no fragment of its kind.
    """
    centres = np.array([fragment.frac_coords.mean(0) for fragment in fragments])
    formulas = np.array(["-".join(sorted(fragment.species)) for fragment in fragments])
    left = np.ones(len(fragments), dtype=bool)
    orbits = []
    for start in range(len(fragments)):
        if not left[start]:
            continue
        same = np.flatnonzero(formulas == formulas[start])
        images = group.rotations @ centres[start] + group.translations
        difference = images[:, None] - centres[same]
        shifts = np.round(difference)
        distances = np.linalg.norm((difference - shifts) @ lattice, axis=-1)
        nearest = distances.argmin(1)
        rows = np.arange(len(images))
        if (worst := float(distances[rows, nearest].max())) > tolerance:
            raise ComputationError(
                f"an image of unit {start} ({fragments[start].formula}) under {group.symbol} has no partner within "
                f"{tolerance:g} A (nearest {worst:.3f} A); use a smaller symprec"
            )
        partners = same[nearest]
        members, first = np.unique(partners, return_index=True)
        left[members] = False
        averaged = _averaged(start, fragments, partners, shifts[rows, nearest], group, lattice)
        lowest = np.array([min(fragments[m].indices) for m in members], dtype=np.int64)
        orbits.append(FragmentOrbit(averaged, group.rotations[first], group.translations[first], lowest))
    return orbits


def _averaged(
    start: int,
    fragments: Sequence[Fragment],
    partners: IntArray,
    shifts: FloatArray,
    group: SpaceGroup,
    lattice: FloatArray,
) -> Fragment:
    """The fragment with each atom at the mean of what all operations bring onto it."""
    fragment = fragments[start]
    species = np.array(fragment.species)
    kinds = np.array([fragments[p].species for p in partners])  # (G, n)
    targets = np.array([fragments[p].frac_coords for p in partners]) + shifts[:, None]
    images = fragment.frac_coords @ group.rotations.transpose(0, 2, 1) + group.translations[:, None]
    gaps = np.linalg.norm((images[:, :, None] - targets[:, None]) @ lattice, axis=-1)
    gaps[species[None, :, None] != kinds[:, None, :]] = np.inf
    order = gaps.argmin(-1)
    for g in np.flatnonzero((np.sort(order, -1) != np.arange(len(species))).any(-1)):
        order[g] = linear_sum_assignment(np.where(np.isfinite(gaps[g]), gaps[g], 1e6))[1]
    matched = np.take_along_axis(targets, order[..., None], axis=1) - group.translations[:, None]
    inverse = np.linalg.inv(group.rotations.astype(np.float64))
    back = matched @ inverse.transpose(0, 2, 1)
    return Fragment(fragment.indices, fragment.species, back.mean(0))
