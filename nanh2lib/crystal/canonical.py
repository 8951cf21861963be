"""One representative of each orbit and one order of them, the same for every description of a crystal.

Coordinates are compared with a tolerance (0.99999999 counts as 0), x before y before z. The
anchors (units of the first kind) come first: by Wyckoff letter, then by coordinates, each inside
the cell where its site allows it. The other units are paired with them by minimal-distance
one-to-one assignment, each through the image nearest to its anchor.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from nanh2lib.crystal.space_group import SpaceGroup, WyckoffSite
from nanh2lib.crystal.wyckoff import distinct_points
from nanh2lib.errors import ComputationError
from nanh2lib.geometry.ordering import ordered_rows, smallest_row, smallest_rows
from nanh2lib.geometry.periodic import minkowski_reduce

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
TIE = 1e-4
"""Fractional coordinates closer than this count as equal."""
DISTANCE_TIE = 1e-3
"""Distances (A) closer than this count as equal."""
ON_SITE = 1e-5
"""Fractional distance to a site below which a (symmetrised) point lies on it."""
_CELLS = np.array(sorted(itertools.product((-1, 0, 1), repeat=3), key=lambda n: sum(map(abs, n))), dtype=np.float64)


@dataclass(frozen=True)
class OrbitPoints:
    """Reference points of all members of an orbit.

    Attributes
    ----------
    kind : int
        Kind of unit; kind 0 gives the anchors.
    points : ndarray, shape (m, 3)
        Fractional, exactly related by the group's operations.
    first_indices : ndarray of int, shape (m,)
        Lowest site index of each member.
    """

    kind: int
    points: FloatArray
    first_indices: IntArray


@dataclass(frozen=True)
class Representative:
    """Which member stands for an orbit, where, and on which site.

    Attributes
    ----------
    orbit, member : int
        Number of the orbit, and of the member in it.
    point : ndarray, shape (3,)
        Fractional.
    site : WyckoffSite
        The point lies on its representative.
    """

    orbit: int
    member: int
    point: FloatArray
    site: WyckoffSite


@dataclass(frozen=True)
class _OnSite:
    """All members of an orbit that lie on the representative of its Wyckoff site.

    ``points`` (K, 3) hold them at lattice translations around the cell, ``members`` (K,) name them.
    """

    orbit: int
    site: WyckoffSite
    points: FloatArray
    members: IntArray
    chosen: int

    @property
    def representative(self) -> Representative:
        return self.pick(self.points[self.chosen], self.chosen)

    def pick(self, point: FloatArray, row: int) -> Representative:
        return Representative(self.orbit, int(self.members[row]), point, self.site)


def canonical_representatives(
    orbits: Sequence[OrbitPoints],
    group: SpaceGroup,
    lattice: FloatArray,
    *,
    by_site_index: bool = False,
    any_origin: bool = False,
) -> list[Representative]:
    """A representative of each orbit, in canonical order: the first of `equal_descriptions`."""
    return equal_descriptions(orbits, group, lattice, by_site_index=by_site_index, any_origin=any_origin)[0]


def equal_descriptions(
    orbits: Sequence[OrbitPoints],
    group: SpaceGroup,
    lattice: FloatArray,
    *,
    by_site_index: bool = False,
    any_origin: bool = False,
) -> list[list[Representative]]:
    """Representatives of the orbits in canonical order, from each origin that gives the same smallest points.

    Parameters
    ----------
    orbits : sequence of OrbitPoints
    group : SpaceGroup
    lattice : ndarray, shape (3, 3)
        Rows, A.
    by_site_index : bool
        The supplement's rule: of each orbit the member with the lowest site index, orbits in
        that order.
    any_origin : bool
        Choose the origin too, among those that leave the operations unchanged: the one with the
        smallest anchors (letters, then coordinates), then the smallest other units. Several
        origins can tie where the points have a translation that the whole crystal has not.

    Returns
    -------
    list of list of Representative
        One description for each such origin, at least one; their points are equal, the members
        that stand for the orbits, and so the orientations, may differ.

    Raises
    ------
    ComputationError
        An orbit lies on no Wyckoff site of the group.
    """
    anchors = [i for i, orbit in enumerate(orbits) if orbit.kind == min(o.kind for o in orbits)]
    shifts = _origin_candidates([orbits[i] for i in anchors], group) if any_origin else np.zeros((1, 3))
    described = []
    for shift in shifts:
        placed = [_on_site(i, orbits[i], shift, group, by_site_index) for i in anchors]
        described.append((shift, _ordered(placed, orbits, by_site_index)))
    keep = _lowest([[item.representative for item in placed] for _, placed in described])
    complete = [
        [item.representative for item in described[i][1]]
        + _followers(described[i][1], orbits, described[i][0], group, lattice, by_site_index)
        for i in keep
    ]
    return [complete[i] for i in _lowest(complete)]


def _origin_candidates(anchors: Sequence[OrbitPoints], group: SpaceGroup) -> FloatArray:
    """Origin shifts to compare: discrete ones, each slid so that some anchor sits at zero along free axes."""
    free = group.free_origin_shifts()
    if len(free.directions) == 0:
        return free.shifts
    onto_free = free.directions.T @ np.linalg.pinv(free.directions.T)
    points = np.concatenate([orbit.points for orbit in anchors])
    slid = free.shifts[:, None] - (points + free.shifts[:, None]) @ onto_free.T
    # A lattice translation of the anchor slides further where it is oblique to the free directions (rhombohedral axes).
    steps = _CELLS @ onto_free.T
    steps = steps[distinct_points(steps)]
    return np.asarray(slid.reshape(-1, 1, 3) + steps).reshape(-1, 3)


def _lowest(described: Sequence[Sequence[Representative]]) -> list[int]:
    """Descriptions with the smallest letters, then coordinates (within the tolerance, so maybe several)."""
    letters = [tuple(item.site.letter for item in items) for items in described]
    keep = [i for i, word in enumerate(letters) if word == min(letters)]
    rows = np.array([[item.point for item in described[i]] for i in keep]).reshape(len(keep), -1)
    return [keep[i] for i in smallest_rows(rows, TIE)]


def _on_site(number: int, orbit: OrbitPoints, shift: FloatArray, group: SpaceGroup, by_site_index: bool) -> _OnSite:
    """Where an orbit lies, and which of its members is the smallest."""
    wrapped = orbit.points + shift
    wrapped = wrapped - np.floor(wrapped + TIE)
    members = np.arange(len(wrapped))
    for site in group.wyckoff_sites:
        if site.multiplicity != len(wrapped):
            continue
        if len(site.stabilizer_rotations) == 1:
            return _OnSite(number, site, wrapped, members, _first(wrapped, orbit, members, by_site_index))
        cells = (wrapped[:, None] + _CELLS).reshape(-1, 3)
        on = np.abs(cells @ site.projection.T + site.offset - cells).max(1) < ON_SITE
        if on.any():
            points, owners = cells[on], np.repeat(members, len(_CELLS))[on]
            points = points @ site.projection.T + site.offset
            return _OnSite(number, site, points, owners, _first(points, orbit, owners, by_site_index))
    raise ComputationError(
        f"an orbit of {len(wrapped)} units lies on no Wyckoff site of {group.symbol} (Hall {group.hall_number}); "
        "use a smaller symprec"
    )


def _first(points: FloatArray, orbit: OrbitPoints, members: IntArray, by_site_index: bool) -> int:
    """The point to take: inside the cell (or least outside it), then lowest index or smallest coordinates."""
    outside = np.abs(np.floor(points + TIE))
    rows = np.concatenate([outside.sum(1, keepdims=True), outside, points], axis=1)
    if by_site_index:
        rows = np.concatenate([rows[:, :1], orbit.first_indices[members][:, None], rows[:, 1:]], axis=1)
    return smallest_row(rows, TIE)


def _ordered(placed: list[_OnSite], orbits: Sequence[OrbitPoints], by_site_index: bool) -> list[_OnSite]:
    """Orbits in order: by lowest site index, or by Wyckoff letter and then coordinates."""
    if by_site_index:
        return sorted(placed, key=lambda item: int(orbits[item.orbit].first_indices.min()))
    rows = np.array([[ord(item.site.letter), *item.points[item.chosen]] for item in placed])
    return [placed[i] for i in ordered_rows(rows, TIE)]


def _followers(
    anchors: Sequence[_OnSite],
    orbits: Sequence[OrbitPoints],
    shift: FloatArray,
    group: SpaceGroup,
    lattice: FloatArray,
    by_site_index: bool,
) -> list[Representative]:
    """Representatives of the orbits that are not anchors, kind by kind."""
    targets = np.array([item.points[item.chosen] for item in anchors])
    result = []
    for kind in sorted({orbit.kind for orbit in orbits})[1:]:
        members = [i for i, orbit in enumerate(orbits) if orbit.kind == kind]
        placed = [_on_site(i, orbits[i], shift, group, by_site_index) for i in members]
        result += _paired(targets, _ordered(placed, orbits, by_site_index), lattice)
    return result


def _paired(targets: FloatArray, placed: Sequence[_OnSite], lattice: FloatArray) -> list[Representative]:
    """Each orbit's image nearest to the anchor it is assigned to; orbits in the order of their anchors.

    More orbits than anchors are assigned in rounds.
    """
    nearest = [_nearest(targets, item, lattice) for item in placed]
    distances = np.round(np.array([[gap for gap, _ in row] for row in nearest]), 4)  # (orbits, anchors)
    left = list(range(len(placed)))
    result: list[Representative] = []
    while left:
        rows, columns = linear_sum_assignment(distances[left])
        chosen = sorted(zip(columns.tolist(), rows.tolist(), strict=True))
        result += [nearest[left[row]][column][1] for column, row in chosen]
        used = {left[row] for _, row in chosen}
        left = [i for i in left if i not in used]
    return result


def _nearest(targets: FloatArray, item: _OnSite, lattice: FloatArray) -> list[tuple[float, Representative]]:
    """For each target (A, 3) the nearest image of an orbit on its site, and its distance (A)."""
    basis = _reduced(site_translations(item.site.projection.tobytes()), lattice)
    rank = len(basis)
    points, members = item.points, item.members
    gaps = targets[:, None] - points  # (A, K, 3)
    if rank:
        # All copies of the points around the closest one; the sublattice basis is reduced.
        steps = np.array(list(itertools.product((0, -1, 1), repeat=rank)), dtype=np.float64)
        coefficients = np.round((gaps @ lattice) @ np.linalg.pinv(basis @ lattice))[:, :, None] + steps
        copies = points[:, None] + coefficients @ basis
    else:
        copies = np.broadcast_to(points[:, None], (len(targets), len(points), 1, 3))
    distances = np.linalg.norm((copies - targets[:, None, None]) @ lattice, axis=-1)
    result = []
    for target_copies, target_distances in zip(copies, distances, strict=True):
        low = float(target_distances.min())
        rows, columns = np.nonzero(target_distances < low + DISTANCE_TIE)
        candidates = target_copies[rows, columns]
        best = smallest_row(candidates, TIE)
        point = candidates[best]
        result.append((low, Representative(item.orbit, int(members[rows[best]]), point, item.site)))
    return result


@lru_cache(maxsize=512)
def site_translations(projection: bytes) -> FloatArray:
    """Basis (r, 3) of the lattice translations that keep a site's representative: its integer fixed vectors.

    Parameters
    ----------
    projection : bytes
        `WyckoffSite.projection` (3x3, float64) as bytes.
    """
    matrix = np.frombuffer(projection, dtype=np.float64).reshape(3, 3)
    rank = int(round(float(np.trace(matrix))))
    if rank == 3:
        return np.eye(3)
    grid = np.array(list(itertools.product(range(-2, 3), repeat=3)), dtype=np.float64)
    fixed = grid[(np.abs(grid @ matrix.T - grid).max(1) < 1e-9) & (np.abs(grid).max(1) > 0)]
    fixed = fixed[np.linalg.norm(fixed, axis=1).argsort(kind="stable")]
    if rank < 2:
        return np.asarray(fixed[:rank])
    areas = np.linalg.norm(np.cross(fixed[:, None], fixed[None]), axis=-1)
    areas[areas < 1e-9] = np.inf
    first, second = np.unravel_index(int(areas.argmin()), areas.shape)
    return np.asarray(fixed[[int(first), int(second)]])


@lru_cache(maxsize=16)
def _reduced_cell(lattice: bytes) -> FloatArray:
    matrix = np.frombuffer(lattice, dtype=np.float64).reshape(1, 3, 3).copy()
    return np.asarray(minkowski_reduce(torch.as_tensor(matrix))[1][0].numpy())


def _reduced(basis: FloatArray, lattice: FloatArray) -> FloatArray:
    """Shortest basis of the same translations in a given cell."""
    if len(basis) == 3:
        return _reduced_cell(lattice.tobytes())
    if len(basis) == 2:
        first, second = basis
        while True:
            if np.linalg.norm(first @ lattice) > np.linalg.norm(second @ lattice):
                first, second = second, first
            a, b = first @ lattice, second @ lattice
            steps = np.round((a @ b) / (a @ a))
            if steps == 0:
                return np.array([first, second])
            second = second - steps * first
    return basis
