"""Space groups in a definite setting, named by their Hall number, with their Wyckoff sites.

Operations come from spglib's database (`nanh2lib.crystal.hall`), sites from PyXtal's tables
(`nanh2lib.crystal.wyckoff`). Convention: x' = W x + w on fractional columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.hall import (
    N_HALL,
    checked_hall,
    default_hall_number,
    hall_number_from_symbol,
    hall_numbers_for,
    hall_operations,
    primitive_vectors,
    setting_symbol,
    space_group_type,
    unique_operations,
)
from nanh2lib.crystal.origin import OriginShifts, origin_shifts
from nanh2lib.crystal.wyckoff import WyckoffSite, distinct_points, wyckoff_sites
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import (
    lattice_parameters_to_matrix,
    metric_to_lattice_parameters,
)

__all__ = [
    "N_HALL",
    "SpaceGroup",
    "WyckoffSite",
    "default_hall_number",
    "hall_number_from_symbol",
    "hall_numbers_for",
    "setting_symbol",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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
        return _space_group(checked_hall(hall_number))

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

    @cached_property
    def unique_rotations(self) -> tuple[IntArray, FloatArray]:
        """One operation for each rotation part."""
        return unique_operations(self.hall_number)

    @cached_property
    def _metric_projector(self) -> FloatArray:
        """Average over the point group of G -> W^T G W, on flattened metric tensors (9, 9)."""
        rotations = self.unique_rotations[0].astype(np.float64)
        return np.asarray(np.einsum("gki,glj->ijkl", rotations, rotations).reshape(9, 9) / len(rotations))

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
        raise InputError(
            f"space group {self.symbol} (Hall {self.hall_number}) has no site {letter!r}; it has {letters}"
        )

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
        projector = torch.as_tensor(self._metric_projector, dtype=metric.dtype, device=metric.device)
        average = (metric.flatten(-2) @ projector.T).unflatten(-1, (3, 3))
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


@lru_cache(maxsize=N_HALL)
def _space_group(hall_number: int) -> SpaceGroup:
    rotations, translations = hall_operations(hall_number)
    kind = space_group_type(hall_number)
    return SpaceGroup(
        hall_number=hall_number,
        number=int(kind.number),
        symbol=setting_symbol(hall_number),
        choice=str(kind.choice),
        rotations=rotations,
        translations=translations,
        primitive=primitive_vectors(hall_number),
        wyckoff_sites=wyckoff_sites(hall_number),
    )


@lru_cache(maxsize=N_HALL)
def _free_shifts(hall_number: int) -> OriginShifts:
    rotations, translations = unique_operations(hall_number)
    solved = origin_shifts(rotations, translations, translations, primitive_vectors(hall_number))
    if solved is None:
        raise ComputationError(f"Hall {hall_number}: the zero shift must solve its own congruences")
    return OriginShifts(_all_images(solved.shifts, hall_number), solved.directions)


def _all_images(shifts: FloatArray, hall_number: int) -> FloatArray:
    """Shifts together with their copies by centring translations, wrapped and without repeats."""
    rotations, translations = hall_operations(hall_number)
    pure = translations[(rotations == np.eye(3)).all((1, 2))]
    total = (shifts[:, None] + pure).reshape(-1, 3)
    total = total - np.floor(total + 1e-9)
    return np.asarray(total[distinct_points(total)])


def setting_labels(halls: Sequence[int]) -> dict[int, str]:
    """Symbols of settings by Hall number, with that number where two of them share a symbol.

    R3 on hexagonal and on rhombohedral axes (Hall 433, 434) is such a pair.
    """
    symbols = {hall: SpaceGroup.from_hall(hall).symbol for hall in halls}
    shared = Counter(symbols.values())
    return {hall: f"{symbol} (Hall {hall})" if shared[symbol] > 1 else symbol for hall, symbol in symbols.items()}
