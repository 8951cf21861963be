"""Which space-group settings a cell allows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import spglib
import torch
from numpy.typing import NDArray

from nanh2lib.crystal.origin import origin_shifts
from nanh2lib.crystal.space_group import N_HALL, hall_numbers_for
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_is_valid, lattice_parameters_to_matrix, metric_to_lattice_parameters

FloatArray = NDArray[np.float64]


def hall_numbers_for_lattice(
    lattice_parameters: tuple[float, ...] | list[float],
    tolerance: float = 1e-3,
    *,
    keep_equivalent: bool = False,
) -> tuple[int, ...]:
    """Every setting whose metric symmetry a cell has: unique axes, cell choices, axis permutations.

    Parameters
    ----------
    lattice_parameters : sequence of 6 floats
        a, b, c in A; alpha, beta, gamma in degrees.
    tolerance : float
        Largest change of a length (A) or angle (degrees) when the cell is symmetrised.
    keep_equivalent : bool
        Keep settings that differ from an earlier one only by their origin (origin choice 2 of
        Fddd; I2/a beside C-centred names of one lattice). By default the smallest Hall number
        stands for them all: they describe the same crystals.

    Returns
    -------
    tuple of int
        Hall numbers in increasing order, P1 first.

    Raises
    ------
    InputError
        The six numbers are not a cell.
    """
    given = torch.tensor(lattice_parameters, dtype=torch.float64)
    if given.shape != (6,) or not bool(lattice_is_valid(given)):
        raise InputError(
            f"lattice {list(lattice_parameters)!r} is not a cell; give a, b, c in A and alpha, beta, gamma in degrees"
        )
    lattice = lattice_parameters_to_matrix(given)
    metric = (lattice @ lattice.T).numpy()
    halls = [hall for hall in range(1, N_HALL + 1) if _change(hall, metric, given) <= tolerance]
    return tuple(hall for hall in halls if keep_equivalent or same_up_to_origin(hall) == hall)


def _change(hall_number: int, metric: FloatArray, given: torch.Tensor) -> float:
    """Largest change of the six parameters when the metric is averaged over the point group."""
    rotations = _setting(hall_number).rotations
    average = np.einsum("gki,kl,glj->ij", rotations, metric, rotations) / len(rotations)
    return float((metric_to_lattice_parameters(torch.as_tensor(average)) - given).abs().max())


@dataclass(frozen=True)
class _Setting:
    """One operation for each rotation part, sorted; the pure translations; a primitive basis (columns)."""

    rotations: NDArray[np.int64]
    translations: FloatArray
    centring: FloatArray
    primitive: FloatArray


@lru_cache(maxsize=N_HALL)
def _setting(hall_number: int) -> _Setting:
    # Straight from the tables: building a SpaceGroup (Wyckoff sites and all) for 530 settings takes many seconds.
    from moyopy import HallSymbolEntry

    database = spglib.get_symmetry_from_database(hall_number)
    if database is None:
        raise ComputationError(f"spglib has no operations for Hall number {hall_number}")
    rotations = np.asarray(database["rotations"], dtype=np.int64)
    translations = np.round(np.asarray(database["translations"], dtype=np.float64) * 24) / 24
    pure = translations[(rotations == np.eye(3, dtype=np.int64)).all((1, 2))]
    _, first = np.unique(rotations.reshape(-1, 9), axis=0, return_index=True)
    primitive = np.linalg.inv(np.array(HallSymbolEntry(hall_number).centering.linear, dtype=np.float64))
    return _Setting(rotations[first], translations[first], np.unique(pure % 1.0, axis=0), primitive)


@lru_cache(maxsize=N_HALL)
def same_up_to_origin(hall_number: int) -> int:
    """Smallest Hall number whose operations are those of ``hall_number`` after an origin shift.

    Parameters
    ----------
    hall_number : int
        1 to 530.

    Returns
    -------
    int
        ``hall_number`` itself where no earlier setting is equivalent.
    """
    kind = spglib.get_spacegroup_type(hall_number)
    if kind is None:
        raise InputError(f"Hall number {hall_number!r} does not exist; give a whole number from 1 to {N_HALL}")
    setting = _setting(hall_number)
    for other_hall in hall_numbers_for(int(kind.number)):
        if other_hall >= hall_number:
            break
        other = _setting(other_hall)
        if not np.array_equal(setting.rotations, other.rotations):
            continue
        if not np.array_equal(setting.centring, other.centring):
            continue
        shifts = origin_shifts(setting.rotations, other.translations, setting.translations, setting.primitive)
        if shifts is not None:
            return other_hall
    return hall_number
