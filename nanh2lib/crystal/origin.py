"""Origin shifts between two descriptions of one space group, by integer linear algebra."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class OriginShifts:
    """All solutions p of a set of congruences modulo the lattice.

    Attributes
    ----------
    shifts : ndarray, shape (K, 3)
        Discrete solutions in [0, 1), conventional fractional coordinates.
    directions : ndarray, shape (F, 3)
        Directions along which every solution may slide freely (polar axes).
    """

    shifts: FloatArray
    directions: FloatArray


def solve_congruences(matrix: IntArray, right: FloatArray, tolerance: float) -> OriginShifts | None:
    """Solve ``matrix @ p = right`` modulo integers.

    Parameters
    ----------
    matrix : ndarray of int, shape (n, 3)
    right : ndarray, shape (n,)
    tolerance : float
        Largest residual (in fractions of a lattice vector) of a consistent equation.

    Returns
    -------
    OriginShifts or None
        None when the congruences contradict each other. Uses the Smith normal form S A T = D
        (sympy): with y = T^-1 p, D y = S right modulo 1 decouples.
    """
    unique, rows = np.unique(matrix, axis=0, return_index=True)
    d, s, t = _smith_normal_form(tuple(tuple(int(x) for x in row) for row in unique))
    target = s @ right[rows]
    rank = min(d.shape)
    entries = [int(d[i, i]) if i < rank else 0 for i in range(3)]
    choices: list[list[float]] = []
    free: list[FloatArray] = []
    for i, entry in enumerate(entries):
        if entry == 0:
            free.append(t[:, i].astype(np.float64))
            choices.append([0.0])
        else:
            choices.append([(target[i] + k) / entry for k in range(abs(entry))])
    solutions = [t @ np.array(y) for y in itertools.product(*choices)]
    kept: list[FloatArray] = []
    for p in solutions:
        residual = matrix @ p - right
        if np.abs(residual - np.round(residual)).max(initial=0.0) <= tolerance:
            kept.append(p - np.floor(p + 1e-9))
    if not kept:
        return None
    return OriginShifts(np.array(kept), np.array(free).reshape(-1, 3))


@lru_cache(maxsize=1024)
def _smith_normal_form(matrix: tuple[tuple[int, ...], ...]) -> tuple[IntArray, IntArray, IntArray]:
    """Integer matrices D, S, T with S A T = D diagonal; S and T are unimodular."""
    from sympy import ZZ, Matrix
    from sympy.matrices.normalforms import smith_normal_decomp

    d, s, t = (np.array(m.tolist(), dtype=np.int64) for m in smith_normal_decomp(Matrix(matrix), domain=ZZ))
    return d, s, t


def origin_shifts(
    rotations: IntArray,
    translations_from: FloatArray,
    translations_to: FloatArray,
    primitive: FloatArray,
    tolerance: float = 1e-3,
) -> OriginShifts | None:
    """Shifts p with ``x_to = x_from + p`` that carry one set of operations into another.

    Parameters
    ----------
    rotations : ndarray of int, shape (n, 3, 3)
        One operation for each rotation part, the same in both descriptions.
    translations_from, translations_to : ndarray, shape (n, 3)
        Translation parts, conventional fractions, defined up to a lattice vector.
    primitive : ndarray, shape (3, 3)
        Columns are primitive lattice vectors in conventional fractions.
    tolerance : float
        Fractions of a primitive lattice vector.

    Returns
    -------
    OriginShifts or None
        From w_from = w_to + (W - I) p modulo the lattice; None where no shift exists.
    """
    inverse = np.linalg.inv(primitive)
    change: Any = np.round(inverse @ rotations @ primitive).astype(np.int64)
    matrix = (change - np.eye(3, dtype=np.int64)).reshape(-1, 3)
    right = ((translations_from - translations_to) @ inverse.T).reshape(-1)
    solved = solve_congruences(matrix, right, tolerance)
    if solved is None:
        return None
    return OriginShifts(solved.shifts @ primitive.T, solved.directions @ primitive.T)
