"""A growing collection of crystals that is asked whether it knows another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.symmetry_search import symmetry_dataset
from nanh2lib.errors import InputError
from nanh2lib.ranking.duplicates import DuplicateSettings, fingerprint


@dataclass(frozen=True)
class _Known:
    key: str
    structure: Structure
    energy: float | None
    print: NDArray[np.float64]
    group: int


class CrystalLibrary:
    """Crystals by key; the rules of `group_duplicates`, one crystal at a time.

    Parameters
    ----------
    settings : DuplicateSettings, optional
    """

    def __init__(self, settings: DuplicateSettings | None = None) -> None:
        self.settings = settings or DuplicateSettings()
        self._matcher = self.settings.matcher()
        self._known: list[_Known] = []

    def __len__(self) -> int:
        return len(self._known)

    def add(self, key: str, structure: Structure, energy: float | None = None) -> None:
        """Add a crystal.

        Parameters
        ----------
        key : str
        structure : Structure
        energy : float, optional
            eV per formula unit; None: its energy is not compared.

        Raises
        ------
        InputError
            The energy is not finite.
        """
        self._known.append(self._described(key, structure, energy))

    def find(self, structure: Structure, energy: float | None = None) -> str | None:
        """Key of the first crystal that equals another one, or None.

        Parameters
        ----------
        structure : Structure
        energy : float, optional
            eV per formula unit; None: energies are not compared.
        """
        return next(self.matches(structure, energy), None)

    def matches(self, structure: Structure, energy: float | None = None) -> Iterator[str]:
        """Keys of all crystals that equal another one, in the order in which they were added."""
        if not self._known:
            return
        wanted = self._described("", structure, energy)
        for known in self._known:
            if self._near(known, wanted) and self._matcher.fit(
                known.structure, wanted.structure, skip_structure_reduction=True
            ):
                yield known.key

    def _described(self, key: str, structure: Structure, energy: float | None) -> _Known:
        if energy is not None and not np.isfinite(energy):
            raise InputError(f"crystal {key!r}: its energy is {energy}; give a finite one or None")
        reduced = structure.get_reduced_structure().get_primitive_structure()
        group = 0
        if self.settings.same_space_group:
            dataset = symmetry_dataset(reduced, self.settings.symprec)
            group = 1 if dataset is None else int(dataset.number)
        return _Known(key, reduced, energy, fingerprint(reduced, self.settings.amd_neighbours), group)

    def _near(self, one: _Known, other: _Known) -> bool:
        rules = self.settings
        if one.energy is not None and other.energy is not None and abs(one.energy - other.energy) > rules.energy_window:
            return False
        if one.group != other.group or one.print.shape != other.print.shape:
            return False
        volumes = [known.structure.volume / len(known.structure) for known in (one, other)]
        if abs(volumes[0] / volumes[1] - 1) > rules.volume_window:
            return False
        return bool(np.abs(one.print - other.print).max() <= rules.amd_window)
