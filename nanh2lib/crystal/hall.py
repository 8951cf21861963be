"""The 530 Hall numbers: operations, names and lattices of all tabulated settings (spglib, moyopy)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import spglib
from numpy.typing import NDArray

from nanh2lib.errors import ComputationError, InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
N_HALL = 530


def checked_hall(hall_number: int) -> int:
    """The number itself when it names a setting.

    Raises
    ------
    InputError
        It is not a whole number in 1 to 530.
    """
    if isinstance(hall_number, bool) or int(hall_number) != hall_number or not 1 <= hall_number <= N_HALL:
        raise InputError(f"Hall number {hall_number!r} does not exist; give a whole number from 1 to {N_HALL}")
    return int(hall_number)


def space_group_type(hall_number: int) -> spglib.SpaceGroupType:
    """Record of a setting in spglib: number, symbols, choice."""
    kind = spglib.get_spacegroup_type(checked_hall(hall_number))
    if kind is None:
        raise ComputationError(f"spglib knows no Hall number {hall_number}; check its installation")
    return kind


@lru_cache(maxsize=1)
def _halls_by_number() -> dict[int, tuple[int, ...]]:
    table: dict[int, list[int]] = {}
    for hall in range(1, N_HALL + 1):
        table.setdefault(int(space_group_type(hall).number), []).append(hall)
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
    """Default setting of an international number: its smallest Hall number, as in spglib."""
    return hall_numbers_for(number)[0]


def hall_number_from_symbol(symbol: str) -> int:
    """First Hall number with that Hermann-Mauguin symbol, ignoring spaces, underscores and case.

    Parameters
    ----------
    symbol : str
        Short (``"P2_1/c"``), full (``"P 1 2_1/c 1"``) or that of a setting (``"F2dd"``, ``"P2_1/n"``).

    Raises
    ------
    InputError
        No setting has that symbol.
    """
    wanted = _squeeze(symbol)
    for hall in range(1, N_HALL + 1):
        kind = space_group_type(hall)
        names = (kind.international_short, kind.international_full, kind.international.split("=")[0])
        if wanted in {_squeeze(name) for name in names} | {_squeeze(setting_symbol(hall))}:
            return hall
    raise InputError(f"no space group is called {symbol!r}; give a Hermann-Mauguin symbol such as 'P2_1/c' or a number")


def _squeeze(symbol: str) -> str:
    return symbol.replace(" ", "").replace("_", "").lower()


def setting_symbol(hall_number: int) -> str:
    """Hermann-Mauguin symbol of the setting itself.

    The usual short symbol for a standard setting (``"P2_1/c"``, ``"Fddd"``); otherwise that of
    the axes in use: ``"F2dd"`` (Hall 213), ``"P2_1/n"`` (82), ``"P112_1"`` (7). Origin choices
    and rhombohedral axes share a symbol: the Hall number tells them apart.
    """
    kind = space_group_type(hall_number)
    if hall_number == default_hall_number(int(kind.number)):
        return str(kind.international_short)
    if 3 <= int(kind.number) <= 15:
        parts = str(kind.international_full).split()
        unique_b = len(parts) == 4 and parts[1] == parts[3] == "1"
        return parts[0] + parts[2] if unique_b else "".join(parts)
    from moyopy import HallSymbolEntry

    return str(HallSymbolEntry(hall_number).hm_short).replace(" ", "")


@lru_cache(maxsize=N_HALL)
def hall_operations(hall_number: int) -> tuple[IntArray, FloatArray]:
    """Operations of the conventional cell of a setting, from spglib's database.

    Returns
    -------
    rotations : ndarray of int, shape (M, 3, 3)
        Identity first.
    translations : ndarray, shape (M, 3)
        In [0, 1), exact multiples of 1/24.
    """
    database = spglib.get_symmetry_from_database(checked_hall(hall_number))
    if database is None:
        raise ComputationError(f"spglib has no operations for Hall number {hall_number}")
    rotations = np.asarray(database["rotations"], dtype=np.int64)
    translations = np.asarray(database["translations"], dtype=np.float64)
    # spglib stores twelfths as decimals: make them exact again.
    translations = np.round(translations * 24) / 24
    translations = translations - np.floor(translations + 1e-9)
    for array in (rotations, translations):
        array.setflags(write=False)
    return rotations, translations


def unique_operations(hall_number: int) -> tuple[IntArray, FloatArray]:
    """One operation for each rotation part (no copies by centring), in the database's order."""
    rotations, translations = hall_operations(hall_number)
    _, index = np.unique(rotations.reshape(-1, 9), axis=0, return_index=True)
    index = np.sort(index)
    return rotations[index], translations[index]


@lru_cache(maxsize=N_HALL)
def primitive_vectors(hall_number: int) -> FloatArray:
    """Columns (3, 3) are primitive lattice vectors of a setting in conventional fractions."""
    from moyopy import HallSymbolEntry

    centering = np.array(HallSymbolEntry(checked_hall(hall_number)).centering.linear, dtype=np.float64)
    vectors = np.asarray(np.linalg.inv(centering))
    vectors.setflags(write=False)
    return vectors
