"""Which crystals are the same: pymatgen's StructureMatcher behind a fast prescreen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from nanh2lib.crystal.symmetry_search import symmetry_dataset
from nanh2lib.errors import InputError
from nanh2lib.settings import StageSettings

FloatArray = NDArray[np.float64]


class DuplicateSettings(StageSettings):
    """When two crystals count as one.

    They must match (StructureMatcher, hydrogens included, volumes not rescaled), have energies
    within the window and, unless switched off, the same space group: StructureMatcher alone also
    matches crystals of different symmetry (pymatgen issue 3796). The last three fields only save
    time: pairs further apart than they allow do not match.

    Attributes
    ----------
    ltol, stol, angle_tol : float
        Tolerances of StructureMatcher (fraction, fraction of the mean spacing, degrees).
    energy_window : float
        Energies further apart (eV per formula unit) are different crystals.
    same_space_group : bool
        Also compare international numbers, found at ``symprec``.
    symprec : float
        A; loose, because two relaxations of one crystal differ by their convergence limits.
    volume_window : float
        Prescreen: relative difference of the volume per atom.
    amd_window : float
        Prescreen: largest difference of the average minimum distances of an element, A. They
        change by at most twice the largest displacement of an atom (Widdowson et al., MATCH 87,
        529 (2022)), and by much less on average.
    amd_neighbours : int
        Length of that vector.
    """

    ltol: float = Field(default=0.2, gt=0)
    stol: float = Field(default=0.3, gt=0)
    angle_tol: float = Field(default=5.0, gt=0)
    energy_window: float = Field(default=0.02, gt=0)
    same_space_group: bool = True
    symprec: float = Field(default=0.1, gt=0)
    volume_window: float = Field(default=0.1, gt=0)
    amd_window: float = Field(default=0.6, gt=0)
    amd_neighbours: int = Field(default=60, ge=1)

    def matcher(self, scale: bool = False) -> StructureMatcher:
        """StructureMatcher with these tolerances, hydrogens included."""
        return StructureMatcher(
            ltol=self.ltol, stol=self.stol, angle_tol=self.angle_tol, scale=scale, primitive_cell=True
        )


def matches(
    structure: Structure,
    reference: Structure,
    ltol: float = 0.2,
    stol: float = 0.2,
    angle_tol: float = 5.0,
    scale: bool = False,
) -> float | None:
    """Root mean square displacement between two crystals that match, else None.

    Parameters
    ----------
    structure, reference : Structure
    ltol, stol, angle_tol : float
        Tolerances of StructureMatcher: fraction, fraction of the mean spacing, degrees.
    scale : bool
        Bring both to one volume first.

    Returns
    -------
    float or None
        In units of the mean spacing (V/N)^(1/3), as StructureMatcher gives it.
    """
    settings = DuplicateSettings(ltol=ltol, stol=stol, angle_tol=angle_tol)
    distance = settings.matcher(scale).get_rms_dist(structure, reference)
    return None if distance is None else float(distance[0])


def fingerprint(structure: Structure, neighbours: int) -> FloatArray:
    """Average minimum distances of each element.

    Parameters
    ----------
    structure : Structure
        Any cell of the crystal; a primitive one is quickest.
    neighbours : int

    Returns
    -------
    ndarray, shape (elements, neighbours)
        Mean distance (A) from the atoms of an element (by atomic number) to their first, second,
        ... neighbour of any kind; the same for every cell of a crystal.
    """
    import amd

    numbers = np.array(structure.atomic_numbers)
    crystal = amd.PeriodicSet(np.array(structure.cart_coords), np.array(structure.lattice.matrix))
    rows = np.asarray(amd.PDD(crystal, neighbours, lexsort=False, collapse=False), dtype=np.float64)[:, 1:]
    return np.array([rows[numbers == number].mean(0) for number in np.unique(numbers)])


def group_duplicates(
    structures: Sequence[Structure],
    energies: Sequence[float],
    settings: DuplicateSettings | None = None,
    *,
    prescreen: bool = True,
) -> list[int]:
    """Group equal crystals.

    Parameters
    ----------
    structures : sequence of Structure, length N
    energies : sequence of float
        eV per formula unit, at one potential.
    settings : DuplicateSettings, optional
    prescreen : bool
        Off: no pair is ruled out by volume or average minimum distances (slow; for tests).

    Returns
    -------
    list of int, length N
        For each structure the index of the crystal that stands for it: the lowest in energy that
        it equals (of equal energies the first given). That one stands for itself.

    Raises
    ------
    InputError
        Lengths differ, or an energy is not finite.
    """
    settings = settings or DuplicateSettings()
    values = _finite(energies, len(structures))
    matcher, reduced = settings.matcher(), _reduced(structures)
    features = _Features(reduced, values, settings, prescreen)
    representatives: list[int] = []
    owner = [-1] * len(structures)
    for i in np.lexsort((np.arange(len(values)), values)).tolist():
        near = features.near(i, representatives)
        partner = next((j for j in near if matcher.fit(reduced[j], reduced[i], skip_structure_reduction=True)), i)
        owner[i] = partner
        if partner == i:
            representatives.append(i)
    return owner


def connected_groups(
    structures: Sequence[Structure], energies: Sequence[float], settings: DuplicateSettings | None = None
) -> list[int]:
    """Group crystals so that no two of different groups are equal.

    `group_duplicates` asks which crystal stands for another; there A may equal B, and B equal C,
    in two groups. Here such chains are one group, as a split into training and validation needs it.

    Parameters
    ----------
    structures, energies, settings
        As for `group_duplicates`.

    Returns
    -------
    list of int, length N
        Lowest index of each structure's group.

    Raises
    ------
    InputError
        Lengths differ, or an energy is not finite.
    """
    settings = settings or DuplicateSettings()
    values = _finite(energies, len(structures))
    matcher, reduced = settings.matcher(), _reduced(structures)
    features = _Features(reduced, values, settings, prescreen=True)
    groups = list(range(len(reduced)))
    for i in range(len(reduced)):
        for j in features.near(i, range(i)):
            if groups[i] != groups[j] and matcher.fit(reduced[j], reduced[i], skip_structure_reduction=True):
                low, high = sorted((groups[i], groups[j]))
                groups = [low if group == high else group for group in groups]
    return groups


def _finite(energies: Sequence[float], count: int) -> FloatArray:
    values = np.asarray(energies, dtype=np.float64)
    if len(values) != count or not np.isfinite(values).all():
        raise InputError("duplicates: give one finite energy for each structure")
    return values


def _reduced(structures: Sequence[Structure]) -> list[Structure]:
    """Reduced primitive cells: made once for each crystal instead of once for each pair."""
    return [structure.get_reduced_structure().get_primitive_structure() for structure in structures]


class _Features:
    """What is compared before structures are matched."""

    def __init__(
        self, structures: Sequence[Structure], energies: FloatArray, settings: DuplicateSettings, prescreen: bool
    ) -> None:
        self._settings, self._energies = settings, energies
        self._groups = np.array([_group_number(s, settings) for s in structures], dtype=np.int64)
        self._formulas = np.array([s.composition.reduced_formula for s in structures])
        self._volumes = np.array([s.volume / len(s) for s in structures])
        self._prints = [fingerprint(s, settings.amd_neighbours) for s in structures] if prescreen else None

    def near(self, i: int, others: Sequence[int]) -> list[int]:
        """Those of ``others`` that may equal crystal i, in their order."""
        rows = np.array(others, dtype=np.int64)
        close = np.abs(self._energies[rows] - self._energies[i]) <= self._settings.energy_window
        close &= (self._groups[rows] == self._groups[i]) & (self._formulas[rows] == self._formulas[i])
        if self._prints is not None:
            close &= np.abs(self._volumes[rows] / self._volumes[i] - 1) <= self._settings.volume_window
            window = self._settings.amd_window
            return [j for j in rows[close].tolist() if np.abs(self._prints[j] - self._prints[i]).max() <= window]
        return [int(j) for j in rows[close]]


def _group_number(structure: Structure, settings: DuplicateSettings) -> int:
    """International number at ``symprec``; 0 for all where groups are not compared."""
    if not settings.same_space_group:
        return 0
    dataset = symmetry_dataset(structure, settings.symprec)
    return 1 if dataset is None else int(dataset.number)
