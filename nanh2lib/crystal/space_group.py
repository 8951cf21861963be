"""Space groups in a definite setting, named by their Hall number, with their Wyckoff sites.

Operations come from spglib's database. Wyckoff letters come from PyXtal's tables, which use
origin choice 2; they reach any other setting through a transformation that is checked, operation
by operation, when a group is first used. Convention: x' = W x + w on fractional columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import spglib
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.origin import OriginShifts, origin_shifts
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import (
    lattice_parameters_to_matrix,
    metric_to_lattice_parameters,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
N_HALL = 530
_GENERIC = np.array([0.1379, 0.2617, 0.4091])
_TOLERANCE = 1e-5


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


@dataclass(frozen=True)
class SpaceGroup:
    """A space group in one setting.

    Attributes
    ----------
    hall_number : int
        1 to 530: the identity of the setting.
    number : int
        International number, 1 to 230.
    symbol : str
        Short Hermann-Mauguin symbol of this setting, e.g. ``"P2_1/c"``.
    choice : str
        Axis and origin choice as spglib names it (may be empty).
    rotations, translations : ndarray, shapes (M, 3, 3) and (M, 3)
        Operations of the conventional cell, identity first, translations in [0, 1).
    primitive : ndarray, shape (3, 3)
        Columns are primitive lattice vectors in conventional fractions.
    wyckoff_sites : tuple of WyckoffSite
        From the most special (letter a) to the general position.
    """

    hall_number: int
    number: int
    symbol: str
    choice: str
    rotations: IntArray
    translations: FloatArray
    primitive: FloatArray
    wyckoff_sites: tuple[WyckoffSite, ...]

    @classmethod
    def from_hall(cls, hall_number: int) -> SpaceGroup:
        """Space group of a Hall number (cached).

        Raises
        ------
        InputError
            The number is not in 1 to 530.
        """
        return _space_group(_checked_hall(hall_number))

    @classmethod
    def from_number(cls, number: int) -> SpaceGroup:
        """Space group of an international number, in spglib's default setting."""
        return cls.from_hall(default_hall_number(number))

    @property
    def order(self) -> int:
        """Operations in the conventional cell: multiplicity of the general position."""
        return len(self.rotations)

    @property
    def centering_order(self) -> int:
        return int(sum(np.array_equal(r, np.eye(3)) for r in self.rotations))

    @property
    def unique_rotations(self) -> tuple[IntArray, FloatArray]:
        """One operation for each rotation part."""
        _, index = np.unique(self.rotations.reshape(-1, 9), axis=0, return_index=True)
        index = np.sort(index)
        return self.rotations[index], self.translations[index]

    def site(self, letter: str) -> WyckoffSite:
        """Wyckoff site by letter.

        Raises
        ------
        InputError
            The group has no such letter.
        """
        for site in self.wyckoff_sites:
            if site.letter == letter:
                return site
        letters = ", ".join(site.label for site in self.wyckoff_sites)
        raise InputError(f"space group {self.symbol} (Hall {self.hall_number}) has no site {letter!r}; it has {letters}")

    def symmetrize_lattice(self, lattice_parameters: Tensor) -> Tensor:
        """Nearest lattices with the group's metric symmetry.

        Parameters
        ----------
        lattice_parameters : Tensor, shape (..., 6)
            A and degrees.

        Returns
        -------
        Tensor, shape (..., 6)
            Parameters of the metric tensor averaged over the point group, G = <W^T G W>.
        """
        lattice = lattice_parameters_to_matrix(lattice_parameters)
        metric = lattice @ lattice.transpose(-1, -2)
        rotations = torch.as_tensor(self.unique_rotations[0], dtype=metric.dtype, device=metric.device)
        average = torch.einsum("gki,...kl,glj->...ij", rotations, metric, rotations) / len(rotations)
        return metric_to_lattice_parameters(average)

    def allows_lattice(self, lattice_parameters: Any, tolerance: float = 1e-3) -> bool:
        """True when a cell has the metric symmetry of the group.

        Parameters
        ----------
        lattice_parameters : array_like, shape (6,)
            A and degrees.
        tolerance : float
            Largest change of a length (A) or angle (degrees) on symmetrisation.
        """
        given = torch.as_tensor(lattice_parameters, dtype=torch.float64)
        return bool((self.symmetrize_lattice(given) - given).abs().max() <= tolerance)

    def free_origin_shifts(self) -> OriginShifts:
        """Origin shifts that leave all operations as they are (translation part of the Euclidean normalizer)."""
        return _free_shifts(self.hall_number)


def _checked_hall(hall_number: int) -> int:
    if isinstance(hall_number, bool) or int(hall_number) != hall_number or not 1 <= hall_number <= N_HALL:
        raise InputError(f"Hall number {hall_number!r} does not exist; give a whole number from 1 to {N_HALL}")
    return int(hall_number)


@lru_cache(maxsize=1)
def _halls_by_number() -> dict[int, tuple[int, ...]]:
    table: dict[int, list[int]] = {}
    for hall in range(1, N_HALL + 1):
        kind = spglib.get_spacegroup_type(hall)
        if kind is None:
            raise ComputationError(f"spglib knows no Hall number {hall}; check its installation")
        table.setdefault(int(kind.number), []).append(hall)
    return {number: tuple(halls) for number, halls in table.items()}


def hall_numbers_for(number: int) -> tuple[int, ...]:
    """All Hall numbers (settings) of an international space-group number.

    Raises
    ------
    InputError
        The number is not in 1 to 230.
    """
    try:
        return _halls_by_number()[number]
    except KeyError as error:
        raise InputError(f"space group number {number!r} does not exist; give a whole number from 1 to 230") from error


def default_hall_number(number: int) -> int:
    """spglib's default setting of an international number (its smallest Hall number)."""
    return hall_numbers_for(number)[0]


def hall_number_from_symbol(symbol: str) -> int:
    """First Hall number whose short, full or Schoenflies-free symbol matches, ignoring spaces and underscores.

    Raises
    ------
    InputError
        No setting has that symbol.
    """
    wanted = _squeeze(symbol)
    for hall in range(1, N_HALL + 1):
        kind = spglib.get_spacegroup_type(hall)
        if kind is None:
            continue
        names = (kind.international_short, kind.international_full, kind.international.split("=")[0])
        if wanted in {_squeeze(name) for name in names} | {_squeeze(setting_symbol(hall))}:
            return hall
    raise InputError(f"no space group is called {symbol!r}; give a Hermann-Mauguin symbol such as 'P2_1/c' or a number")


def _squeeze(symbol: str) -> str:
    return symbol.replace(" ", "").replace("_", "").lower()


def setting_symbol(hall_number: int) -> str:
    """Hermann-Mauguin symbol of the setting itself: ``"F2dd"`` for Hall 213, ``"P112_1"`` for 7.

    Standard settings give the usual short symbol (``"P2_1/c"``, ``"Fddd"``).
    """
    kind = spglib.get_spacegroup_type(_checked_hall(hall_number))
    if kind is None:
        raise ComputationError(f"spglib knows no Hall number {hall_number}")
    if hall_number == default_hall_number(kind.number):
        return str(kind.international_short)
    from moyopy import HallSymbolEntry

    short = HallSymbolEntry(hall_number).hm_short.replace(" ", "")
    return short if short else str(kind.international_full).replace(" ", "")


@lru_cache(maxsize=N_HALL)
def _space_group(hall_number: int) -> SpaceGroup:
    rotations, translations = _operations(hall_number)
    kind = spglib.get_spacegroup_type(hall_number)
    if kind is None:
        raise ComputationError(f"spglib knows no Hall number {hall_number}")
    sites = tuple(
        _wyckoff_site(letter, multiplicity, affine, rotations, translations)
        for letter, multiplicity, affine in _wyckoff_representatives(hall_number)
    )
    return SpaceGroup(
        hall_number, int(kind.number), setting_symbol(hall_number), str(kind.choice),
        rotations, translations, _primitive(hall_number), sites,
    )  # fmt: skip


def _operations(hall_number: int) -> tuple[IntArray, FloatArray]:
    database = spglib.get_symmetry_from_database(hall_number)
    if database is None:
        raise ComputationError(f"spglib has no operations for Hall number {hall_number}")
    rotations = np.asarray(database["rotations"], dtype=np.int64)
    translations = np.asarray(database["translations"], dtype=np.float64)
    # spglib stores twelfths as decimals: make them exact again.
    translations = np.round(translations * 24) / 24
    return rotations, translations - np.floor(translations + 1e-9)


Representatives = tuple[tuple[str, int, FloatArray], ...]


@lru_cache(maxsize=N_HALL)
def _wyckoff_representatives(hall_number: int) -> Representatives:
    """Letter, multiplicity and 3x4 affine representative of each site, in the setting of the Hall number.

    A setting transformation is fixed only up to the group's normalizer, which may swap letters;
    the first one whose letters are those of spglib's own table for the setting is taken.
    """
    from pyxtal.symmetry import Group

    number = int(spglib.get_spacegroup_type(hall_number).number)  # type: ignore[union-attr]
    group = Group(number)
    first: Representatives | None = None
    for linear, shift in _setting_transformations(group.hall_number, hall_number):
        ratio = len(_operations(hall_number)[0]) / len(_operations(group.hall_number)[0])
        sites = []
        for position in reversed(list(group)):
            affine = np.asarray(position.ops[0].affine_matrix, dtype=np.float64)[:3]
            moved = np.concatenate([linear @ affine[:, :3], (linear @ affine[:, 3] + shift)[:, None]], axis=1)
            sites.append((str(position.letter), int(round(position.multiplicity * ratio)), moved))
        representatives = tuple(sites)
        if group.hall_number == hall_number or _letters_agree(hall_number, representatives):
            return representatives
        first = first or representatives
    if first is None:
        raise ComputationError(f"no transformation from PyXtal's setting of group {number} to Hall {hall_number}")
    return first


def _setting_transformations(source_hall: int, target_hall: int) -> Iterator[tuple[FloatArray, FloatArray]]:
    """All (linear, shift) with x' = linear x + shift that carry one setting's operations into the other's."""
    from pyxtal.symmetry import HALL_TABLE, abc2matrix

    source, target = _operations(source_hall), _operations(target_hall)
    table = [
        np.asarray(abc2matrix(HALL_TABLE[column][target_hall - 1])[0], dtype=np.float64) for column in ("P", "P^-1")
    ]
    candidates = [np.eye(3), *table, *(np.linalg.inv(m) for m in table), *(m.T for m in table)]
    for linear in candidates:
        solved = _setting_shifts(linear, source, target, target_hall)
        if solved is not None:
            for i in np.abs(solved).sum(1).argsort(kind="stable"):
                yield linear, solved[i]


def _setting_shifts(
    linear: FloatArray,
    source: tuple[IntArray, FloatArray],
    target: tuple[IntArray, FloatArray],
    hall_number: int,
) -> FloatArray | None:
    inverse = np.linalg.inv(linear)
    moved = linear @ source[0] @ inverse
    whole = np.round(moved).astype(np.int64)
    if np.abs(moved - whole).max() > _TOLERANCE:
        return None
    moved_translations = source[1] @ linear.T
    lookup = {r.tobytes(): w for r, w in zip(whole, moved_translations, strict=True)}
    rotations, index = np.unique(target[0].reshape(-1, 9), axis=0, return_index=True)
    rotations = np.ascontiguousarray(rotations.reshape(-1, 3, 3))
    if {r.tobytes() for r in rotations} != set(lookup):
        return None
    from_translations = np.array([lookup[r.tobytes()] for r in rotations])
    solved = origin_shifts(rotations, from_translations, target[1][index], _primitive(hall_number))
    return None if solved is None else solved.shifts


def _letters_agree(hall_number: int, representatives: Representatives) -> bool:
    """Compare letters with spglib's, on a made-up crystal that occupies every site."""
    rotations, translations = _operations(hall_number)
    # Any positive definite metric, averaged over the group, is a lattice that fits it.
    metric = np.array([[82.8, -13.1, -12.9], [-13.1, 106.1, 18.9], [-12.9, 18.9, 136.9]])
    metric = np.einsum("gki,kl,glj->ij", rotations, metric, rotations) / len(rotations)
    positions, kinds, letters = [], [], []
    generic = (_GENERIC, _GENERIC[[1, 2, 0]] * 0.7)
    points = [(letter, affine, generic[0]) for letter, _, affine in representatives]
    points.append((representatives[-1][0], representatives[-1][2], generic[1]))
    for kind, (letter, affine, point) in enumerate(points):
        site = affine[:, :3] @ point + affine[:, 3]
        for image in rotations @ site + translations:
            gaps = [image - p for p, k in zip(positions, kinds, strict=True) if k == kind]
            if all(np.abs(g - np.round(g)).max() > _TOLERANCE for g in gaps):
                positions.append(image)
                kinds.append(kind)
                letters.append(letter)
    cell = (np.linalg.cholesky(metric), np.array(positions), kinds)
    dataset = spglib.get_symmetry_dataset(cell, symprec=1e-4, hall_number=hall_number)
    return dataset is not None and list(dataset.wyckoffs) == letters


def _primitive(hall_number: int) -> FloatArray:
    """Columns are primitive lattice vectors in conventional fractions."""
    from moyopy import HallSymbolEntry

    return np.asarray(np.linalg.inv(np.array(HallSymbolEntry(hall_number).centering.linear, dtype=np.float64)))


def _wyckoff_site(
    letter: str, multiplicity: int, affine: FloatArray, rotations: IntArray, translations: FloatArray
) -> WyckoffSite:
    point = affine[:, :3] @ _GENERIC + affine[:, 3]
    images = rotations @ point + translations
    difference = images - point
    stable = np.abs(difference - np.round(difference)).max(1) < _TOLERANCE
    stabilizer_rotations = rotations[stable]
    stabilizer_translations = translations[stable] - np.round(difference[stable])
    keys: list[FloatArray] = []
    cosets: list[int] = []
    for i, image in enumerate(images):
        gaps = [image - other for other in keys]
        if all(np.abs(g - np.round(g)).max() > _TOLERANCE for g in gaps):
            keys.append(image)
            cosets.append(i)
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
def _free_shifts(hall_number: int) -> OriginShifts:
    group = SpaceGroup.from_hall(hall_number)
    rotations, translations = group.unique_rotations
    solved = origin_shifts(rotations, translations, translations, group.primitive)
    if solved is None:
        raise ComputationError(f"Hall {hall_number}: the zero shift must solve its own congruences")
    shifts = _all_images(solved.shifts, group)
    return OriginShifts(shifts, solved.directions)


def _all_images(shifts: FloatArray, group: SpaceGroup) -> FloatArray:
    """Shifts together with their copies by centring translations, wrapped and without repeats."""
    pure = group.translations[[np.array_equal(r, np.eye(3)) for r in group.rotations]]
    found: list[FloatArray] = []
    for shift, centring in itertools.product(shifts, pure):
        total = shift + centring
        total = total - np.floor(total + 1e-9)
        if all(np.abs((total - o) - np.round(total - o)).max() > _TOLERANCE for o in found):
            found.append(total)
    return np.array(found)
