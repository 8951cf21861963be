"""A growing collection of crystals that is asked whether it knows another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.symmetry_search import symmetry_dataset
from nanh2lib.errors import InputError
from nanh2lib.ranking.duplicates import DuplicateSettings, fingerprint


class Described:
    """A crystal with what comparisons ask of it, worked out once and only when asked.

    Parameters
    ----------
    structure : Structure
    settings : DuplicateSettings
        Of all libraries that it is put to.
    """

    def __init__(self, structure: Structure, settings: DuplicateSettings) -> None:
        self.structure, self.settings = structure, settings

    @cached_property
    def reduced(self) -> Structure:
        """Primitive Niggli cell."""
        return self.structure.get_reduced_structure().get_primitive_structure()

    @cached_property
    def print(self) -> NDArray[np.float64]:
        """Average minimum distances, shape (elements, neighbours)."""
        return fingerprint(self.reduced, self.settings.amd_neighbours)

    @cached_property
    def group(self) -> int:
        """Space-group number; 0 where groups are not compared."""
        if not self.settings.same_space_group:
            return 0
        dataset = symmetry_dataset(self.reduced, self.settings.symprec)
        return 1 if dataset is None else int(dataset.number)

    @property
    def volume(self) -> float:
        """A^3 per atom."""
        return float(self.structure.volume / len(self.structure))


@dataclass(frozen=True)
class _Known:
    key: str
    crystal: Described
    energy: float | None


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

    def describe(self, structure: Structure) -> Described:
        """A crystal ready for comparison with any library of the same settings, described once."""
        return Described(structure, self.settings)

    def add(self, key: str, structure: Structure | Described, energy: float | None = None) -> None:
        """Add a crystal.

        Parameters
        ----------
        key : str
        structure : Structure or Described
        energy : float, optional
            eV per formula unit; None: its energy is not compared.

        Raises
        ------
        InputError
            The energy is not finite.
        """
        self._known.append(self._described(key, structure, energy))

    def find(self, structure: Structure | Described, energy: float | None = None) -> str | None:
        """Key of the first crystal that equals another one, or None.

        Parameters
        ----------
        structure : Structure or Described
        energy : float, optional
            eV per formula unit; None: energies are not compared.
        """
        return next(self.matches(structure, energy), None)

    def matches(self, structure: Structure | Described, energy: float | None = None) -> Iterator[str]:
        """Keys of all crystals that equal another one, in the order in which they were added."""
        if not self._known:
            return
        wanted = self._described("", structure, energy)
        for known in self._known:
            if self._near(known, wanted) and self._matcher.fit(
                known.crystal.reduced, wanted.crystal.reduced, skip_structure_reduction=True
            ):
                yield known.key

    def _described(self, key: str, structure: Structure | Described, energy: float | None) -> _Known:
        if energy is not None and not np.isfinite(energy):
            raise InputError(f"crystal {key!r}: its energy is {energy}; give a finite one or None")
        return _Known(key, structure if isinstance(structure, Described) else self.describe(structure), energy)

    def _near(self, one: _Known, other: _Known) -> bool:
        rules = self.settings
        if one.energy is not None and other.energy is not None and abs(one.energy - other.energy) > rules.energy_window:
            return False
        if abs(one.crystal.volume / other.crystal.volume - 1) > rules.volume_window:
            return False
        if one.crystal.group != other.crystal.group or one.crystal.print.shape != other.crystal.print.shape:
            return False
        return bool(np.abs(one.crystal.print - other.crystal.print).max() <= rules.amd_window)
