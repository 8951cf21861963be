"""Which space-group settings a cell allows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import spglib
import torch
from numpy.typing import NDArray

from nanh2lib.crystal.origin import origin_shifts
from nanh2lib.crystal.space_group import N_HALL, SpaceGroup, hall_numbers_for
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_is_valid, lattice_parameters_to_matrix, metric_to_lattice_parameters


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


def _change(hall_number: int, metric: NDArray[np.float64], given: torch.Tensor) -> float:
    """Largest change of the six parameters when the metric is averaged over the point group."""
    rotations = _rotations(hall_number)
    average = np.einsum("gki,kl,glj->ij", rotations, metric, rotations) / len(rotations)
    return float((metric_to_lattice_parameters(torch.as_tensor(average)) - given).abs().max())


@lru_cache(maxsize=N_HALL)
def _rotations(hall_number: int) -> NDArray[np.int64]:
    # Straight from spglib: building a SpaceGroup (Wyckoff sites and all) for 530 settings takes seconds.
    database = spglib.get_symmetry_from_database(hall_number)
    if database is None:
        raise ComputationError(f"spglib has no operations for Hall number {hall_number}")
    return np.unique(np.asarray(database["rotations"], dtype=np.int64).reshape(-1, 3, 3), axis=0)


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
    group = SpaceGroup.from_hall(hall_number)
    rotations, translations = _sorted_operations(group)
    for other_hall in hall_numbers_for(group.number):
        if other_hall >= hall_number:
            break
        other = SpaceGroup.from_hall(other_hall)
        other_rotations, other_translations = _sorted_operations(other)
        same_lattice = _is_whole(np.linalg.inv(other.primitive) @ group.primitive)
        if not same_lattice or not np.array_equal(rotations, other_rotations):
            continue
        if origin_shifts(rotations, other_translations, translations, group.primitive) is not None:
            return other_hall
    return hall_number


def _sorted_operations(group: SpaceGroup) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rotations, translations = group.unique_rotations
    order = np.lexsort(rotations.reshape(-1, 9).T)
    return rotations[order], translations[order]


def _is_whole(matrix: NDArray[np.float64]) -> bool:
    return bool(np.abs(matrix - np.round(matrix)).max() < 1e-6 and abs(abs(np.linalg.det(matrix)) - 1) < 1e-6)
