"""Which crystals are the same: pymatgen's StructureMatcher behind a fast prescreen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from nanh2lib.errors import InputError
from nanh2lib.settings import StageSettings


class DuplicateSettings(StageSettings):
    """When two crystals count as one.

    Attributes
    ----------
    ltol, stol, angle_tol : float
        Tolerances of StructureMatcher (fraction, fraction of the mean spacing, degrees).
    energy_window : float
        Prescreen: energies further apart (eV per formula unit) are different crystals.
    volume_window : float
        Prescreen: relative difference of the volume per atom.
    amd_window : float
        Prescreen: largest difference of the average minimum distances, A. It changes by at most
        twice the largest displacement of an atom (Widdowson et al., MATCH 87, 529 (2022)).
    amd_neighbours : int
        Length of that vector.
    """

    ltol: float = Field(default=0.2, gt=0)
    stol: float = Field(default=0.2, gt=0)
    angle_tol: float = Field(default=5.0, gt=0)
    energy_window: float = Field(default=0.02, gt=0)
    volume_window: float = Field(default=0.05, gt=0)
    amd_window: float = Field(default=0.6, gt=0)
    amd_neighbours: int = Field(default=60, ge=1)

    def matcher(self) -> StructureMatcher:
        """StructureMatcher with these tolerances, hydrogens included, volumes not rescaled."""
        return StructureMatcher(
            ltol=self.ltol, stol=self.stol, angle_tol=self.angle_tol, scale=False, primitive_cell=True
        )


def matches(structure: Structure, reference: Structure, settings: DuplicateSettings | None = None) -> float | None:
    """Root mean square displacement between two crystals that match, else None.

    Parameters
    ----------
    structure, reference : Structure
    settings : DuplicateSettings, optional
        Default tolerances 0.2 / 0.2 / 5 with hydrogens and without rescaling.

    Returns
    -------
    float or None
        In units of the mean spacing (V/N)^(1/3), as StructureMatcher gives it.
    """
    distance = (settings or DuplicateSettings()).matcher().get_rms_dist(structure, reference)
    return None if distance is None else float(distance[0])


def fingerprint(structure: Structure, neighbours: int) -> NDArray[np.float64]:
    """Average minimum distances (neighbours,) of a crystal, A; the same for every cell of it."""
    import amd

    return np.asarray(amd.AMD(amd.periodicset_from_pymatgen_structure(structure), neighbours), dtype=np.float64)


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
        Off: every pair goes to StructureMatcher (slow; for tests).

    Returns
    -------
    list of int, length N
        For each structure the index of the first (in energy order) crystal of its group.

    Raises
    ------
    InputError
        Lengths differ, or an energy is not finite.
    """
    settings = settings or DuplicateSettings()
    values = np.asarray(energies, dtype=np.float64)
    if len(structures) != len(values) or not np.isfinite(values).all():
        raise InputError("group_duplicates: give one finite energy for each structure")
    if len(structures) == 0:
        return []
    matcher = settings.matcher()
    primitive = [structure.get_primitive_structure() for structure in structures]
    volumes = np.array([structure.volume / len(structure) for structure in structures])
    prints = np.array([fingerprint(s, settings.amd_neighbours) for s in primitive]) if prescreen else None
    order = np.lexsort((np.arange(len(values)), values))
    representatives: list[int] = []
    owner = [-1] * len(structures)
    for i in order:
        near = representatives
        if prints is not None and representatives:
            reps = np.array(representatives)
            close = np.abs(values[reps] - values[i]) <= settings.energy_window
            close &= np.abs(volumes[reps] / volumes[i] - 1) <= settings.volume_window
            gaps = np.abs(prints[reps] - prints[i]).max(1)
            close &= gaps <= settings.amd_window
            near = reps[close][gaps[close].argsort()].tolist()
        partner = next((j for j in near if matcher.fit(primitive[j], primitive[i])), None)
        owner[i] = int(i) if partner is None else int(partner)
        if partner is None:
            representatives.append(int(i))
    return owner
