"""Wyckoff sites of any of the 530 settings.

Representatives come from PyXtal's tables, which hold one setting a group (origin choice 2 where
there are two). They reach any other setting through a transformation that maps every operation
of the one onto the other; of the transformations that do, the first whose Wyckoff letters are
those of spglib's own table for the setting is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import spglib
from numpy.typing import NDArray

from nanh2lib.crystal.hall import (
    N_HALL,
    hall_operations,
    primitive_vectors,
    space_group_type,
    unique_operations,
)
from nanh2lib.crystal.origin import origin_shifts
from nanh2lib.crystal.symmetry_search import symmetry_dataset
from nanh2lib.errors import ComputationError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Representatives = tuple[tuple[str, int, FloatArray], ...]
GENERIC_POINT = np.array([0.1379, 0.2617, 0.4091])
"""Free parameters that land on no site of higher symmetry."""
SAME_POINT = 1e-5
"""Fractional coordinates closer than this are one point."""


@dataclass(frozen=True)
class WyckoffSite:
    """One Wyckoff position of a space group, through its representative.

    Attributes
    ----------
    letter : str
    multiplicity : int
        Sites per conventional cell.
    site_symmetry : str
        Hermann-Mauguin symbol of the site-symmetry point group, unoriented.
    projection, offset : ndarray, shapes (3, 3) and (3,)
        The representative's points are the fixed points of x -> projection @ x + offset.
    stabilizer_rotations, stabilizer_translations : ndarray, shapes (S, 3, 3) and (S, 3)
        Operations (with their lattice translations) that leave the representative in place,
        identity first.
    coset_rotations, coset_translations : ndarray, shapes (multiplicity, 3, 3) and (..., 3)
        One operation for each image of the representative, identity first.
    """

    letter: str
    multiplicity: int
    site_symmetry: str
    projection: FloatArray
    offset: FloatArray
    stabilizer_rotations: IntArray
    stabilizer_translations: FloatArray
    coset_rotations: IntArray
    coset_translations: FloatArray

    @property
    def degrees_of_freedom(self) -> int:
        """Free coordinates of the representative: 0 for a point, 3 for the general position."""
        return int(round(float(np.trace(self.projection))))

    @property
    def label(self) -> str:
        """Multiplicity and letter, e.g. ``"4e"``."""
        return f"{self.multiplicity}{self.letter}"


def distinct_points(points: FloatArray) -> IntArray:
    """Indices of the points (n, 3) that are no lattice translation of an earlier one."""
    kept: list[int] = []
    for i, point in enumerate(points):
        gaps = point - points[kept]
        if not kept or (np.abs(gaps - np.round(gaps)).max(1) > SAME_POINT).all():
            kept.append(i)
    return np.array(kept, dtype=np.int64)


def wyckoff_sites(hall_number: int) -> tuple[WyckoffSite, ...]:
    """Sites of a setting, from the most special (letter a) to the general position.

    Raises
    ------
    ComputationError
        PyXtal's and spglib's tables cannot be brought together (not seen for any of the 530).
    """
    operations = hall_operations(hall_number)
    return tuple(
        _wyckoff_site(letter, multiplicity, affine, *operations)
        for letter, multiplicity, affine in _representatives(hall_number)
    )


def _wyckoff_site(
    letter: str, multiplicity: int, affine: FloatArray, rotations: IntArray, translations: FloatArray
) -> WyckoffSite:
    point = affine[:, :3] @ GENERIC_POINT + affine[:, 3]
    images = rotations @ point + translations
    difference = images - point
    stable = np.abs(difference - np.round(difference)).max(1) < SAME_POINT
    stabilizer_rotations = rotations[stable]
    stabilizer_translations = translations[stable] - np.round(difference[stable])
    cosets = distinct_points(images)
    if len(cosets) != multiplicity or len(cosets) * len(stabilizer_rotations) != len(rotations):
        raise ComputationError(
            f"Wyckoff site {multiplicity}{letter}: {len(cosets)} images found; the setting transformation is wrong"
        )
    return WyckoffSite(
        letter=letter,
        multiplicity=multiplicity,
        site_symmetry=str(spglib.get_pointgroup(stabilizer_rotations)[0]).strip(),
        projection=stabilizer_rotations.mean(0),
        offset=stabilizer_translations.mean(0),
        stabilizer_rotations=stabilizer_rotations,
        stabilizer_translations=stabilizer_translations,
        coset_rotations=rotations[cosets],
        coset_translations=translations[cosets],
    )


@lru_cache(maxsize=N_HALL)
def _representatives(hall_number: int) -> Representatives:
    """Letter, multiplicity and 3x4 affine representative of each site of a setting."""
    from pyxtal.symmetry import Group

    group = Group(int(space_group_type(hall_number).number))
    source = int(group.hall_number)
    ratio = len(hall_operations(hall_number)[0]) / len(hall_operations(source)[0])
    table = [
        (
            str(position.letter),
            int(round(position.multiplicity * ratio)),
            np.asarray(position.ops[0].affine_matrix, dtype=np.float64)[:3],
        )
        for position in reversed(list(group))
    ]
    if source == hall_number:
        return tuple(table)
    first: Representatives | None = None
    for linear, shift in setting_transformations(source, hall_number):
        moved = tuple((letter, count, _transformed(affine, linear, shift)) for letter, count, affine in table)
        if _letters_agree(hall_number, moved):
            return moved
        first = first or moved
    if first is None:
        raise ComputationError(f"no transformation from PyXtal's setting (Hall {source}) to Hall {hall_number}")
    return first


def _transformed(affine: FloatArray, linear: FloatArray, shift: FloatArray) -> FloatArray:
    return np.concatenate([linear @ affine[:, :3], (linear @ affine[:, 3] + shift)[:, None]], axis=1)


def setting_transformations(source_hall: int, target_hall: int) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Changes of coordinates that carry one setting's operations into another's.

    Parameters
    ----------
    source_hall, target_hall : int
        Settings of one space-group type.

    Yields
    ------
    linear : ndarray, shape (3, 3)
    shift : ndarray, shape (3,)
        x_target = linear @ x_source + shift. Those of PyXtal's table come first; for monoclinic
        groups they are followed by their products with shears of the plane across the unique
        axis, which permute Wyckoff letters too.
    """
    from pyxtal.symmetry import HALL_TABLE, abc2matrix

    source, target = hall_operations(source_hall), unique_operations(target_hall)
    table = [
        np.asarray(abc2matrix(HALL_TABLE[column][target_hall - 1])[0], dtype=np.float64) for column in ("P", "P^-1")
    ]
    listed = [np.eye(3), *table, *(np.linalg.inv(m) for m in table), *(m.T for m in table)]
    monoclinic = 3 <= int(space_group_type(target_hall).number) <= 15
    sheared = (shear @ m for m in listed[:3] for shear in _normalizing_shears(target[0]))
    for linear in itertools.chain(listed, sheared if monoclinic else ()):
        shifts = _setting_shifts(linear, source, target, primitive_vectors(target_hall))
        if shifts is not None:
            for i in np.abs(shifts).sum(1).argsort(kind="stable"):
                yield linear, shifts[i]


def _normalizing_shears(rotations: IntArray) -> list[FloatArray]:
    """Integer matrices with entries -1, 0, 1 and determinant 1 that commute with a monoclinic point group."""
    grid = _small_unimodular()
    commuting = (grid[:, None] @ rotations == rotations @ grid[:, None]).all((1, 2, 3))
    grid = grid[commuting]
    return list(grid[np.abs(grid).sum((1, 2)).argsort(kind="stable")].astype(np.float64))


@lru_cache(maxsize=1)
def _small_unimodular() -> IntArray:
    grid = np.array(list(itertools.product((-1, 0, 1), repeat=9)), dtype=np.int64).reshape(-1, 3, 3)
    return np.asarray(grid[np.round(np.linalg.det(grid)) == 1])


def _setting_shifts(
    linear: FloatArray,
    source: tuple[IntArray, FloatArray],
    target: tuple[IntArray, FloatArray],
    primitive: FloatArray,
) -> FloatArray | None:
    moved = linear @ source[0] @ np.linalg.inv(linear)
    whole = np.round(moved).astype(np.int64)
    if np.abs(moved - whole).max() > SAME_POINT:
        return None
    lookup = {r.tobytes(): w for r, w in zip(whole, source[1] @ linear.T, strict=True)}
    rotations = np.ascontiguousarray(target[0])
    if {r.tobytes() for r in rotations} != set(lookup):
        return None
    given = np.array([lookup[r.tobytes()] for r in rotations])
    solved = origin_shifts(rotations, given, target[1], primitive)
    return None if solved is None else solved.shifts


def _letters_agree(hall_number: int, representatives: Representatives) -> bool:
    """Compare letters with spglib's, on a made-up crystal that occupies every site."""
    rotations, translations = hall_operations(hall_number)
    # Any positive definite metric, averaged over the group, is a lattice that fits it.
    metric = np.array([[82.8, -13.1, -12.9], [-13.1, 106.1, 18.9], [-12.9, 18.9, 136.9]])
    metric = np.einsum("gki,kl,glj->ij", rotations, metric, rotations) / len(rotations)
    general = (representatives[-1][0], representatives[-1][2], GENERIC_POINT[[1, 2, 0]] * 0.7)
    points = [(letter, affine, GENERIC_POINT) for letter, _, affine in representatives]
    positions: list[FloatArray] = []
    kinds: list[int] = []
    letters: list[str] = []
    for kind, (letter, affine, point) in enumerate([*points, general]):
        images = rotations @ (affine[:, :3] @ point + affine[:, 3]) + translations
        orbit = images[distinct_points(images)]
        positions += list(orbit)
        kinds += [kind] * len(orbit)
        letters += [letter] * len(orbit)
    cell = (np.linalg.cholesky(metric), np.array(positions), kinds)
    dataset = symmetry_dataset(cell, 1e-4, hall_number)
    return dataset is not None and list(dataset.wyckoffs) == letters
