"""Point groups of molecules: operations about the centre, Schoenflies symbol, exact symmetry, standard frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from nanh2lib.geometry.ordering import ordered_rows, smallest_row

FloatArray = NDArray[np.float64]
FRAME_TIE = 1e-3
"""Body-frame coordinates (A) closer than this count as equal when frames are compared."""


def frame(first: FloatArray, second: FloatArray) -> FloatArray | None:
    """Right-handed orthonormal frame, as columns: x along ``first``, ``second`` in the xy plane.

    None where ``first`` is zero or the two lie on one line.
    """
    length = np.linalg.norm(first)
    if length < 1e-6:
        return None
    x = first / length
    normal = cross(x, second)
    height = np.linalg.norm(normal)
    if height < 1e-2:
        return None
    z = normal / height
    return np.stack([x, cross(z, x), z], axis=1)


def cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product of two vectors, without the overhead of `numpy.cross`."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def widest_pair(coords: FloatArray) -> tuple[int, int]:
    """Indices of the two atoms (n, 3) that span the largest triangle with the origin."""
    areas = np.linalg.norm(np.cross(coords[:, None], coords[None]), axis=-1)
    first, second = np.unravel_index(int(areas.argmax()), areas.shape)
    return int(first), int(second)


def molecule_operations(species: Sequence[str], coords: FloatArray, tolerance: float) -> FloatArray:
    """Point group of a molecule that is not linear.

    Parameters
    ----------
    species : sequence of str, length n
    coords : ndarray, shape (n, 3)
        About any origin, A.
    tolerance : float
        How far (A) an atom may lie from the image of another.

    Returns
    -------
    ndarray, shape (G, 3, 3)
        Orthogonal matrices about the centroid: identity first, then proper before improper, larger trace first.
        Each is the best fit (Kabsch) of the permutation of atoms that it makes.
    """
    centred = coords - coords.mean(0)
    names = np.asarray(species)
    i, j = widest_pair(centred)
    start = frame(centred[i], centred[j])
    lengths = np.linalg.norm(centred, axis=1)
    found: list[FloatArray] = []
    for k in np.flatnonzero((names == names[i]) & (np.abs(lengths - lengths[i]) < tolerance)):
        for m in np.flatnonzero((names == names[j]) & (np.abs(lengths - lengths[j]) < tolerance)):
            target = frame(centred[k], centred[m])
            if start is None or target is None:
                continue
            for sign in (1.0, -1.0):
                trial = target @ np.diag([1.0, 1.0, sign]) @ start.T
                operation = _polished(trial, names, centred, tolerance)
                if operation is not None and all(np.abs(operation - other).max() > 1e-2 for other in found):
                    found.append(operation)
    keys = [[-np.linalg.det(op), -np.trace(op), *-op.ravel()] for op in found]
    return np.array([found[i] for i in ordered_rows(np.array(keys), FRAME_TIE)])


def _polished(trial: FloatArray, names: NDArray[np.str_], centred: FloatArray, tolerance: float) -> FloatArray | None:
    """The orthogonal matrix nearest to a trial operation that maps atom onto atom, if one does."""
    operation = trial
    for _ in range(2):
        order = atom_permutation(operation, names, centred, tolerance)
        if order is None:
            return None
        operation = orthogonal_fit(centred, centred[order], np.linalg.det(trial))
    return operation if atom_permutation(operation, names, centred, tolerance) is not None else None


def atom_permutation(
    operation: FloatArray, names: NDArray[np.str_], centred: FloatArray, tolerance: float
) -> NDArray[np.int64] | None:
    """For each atom, which atom the operation brings it onto; None where it meets none."""
    distance = np.linalg.norm((centred @ operation.T)[:, None] - centred[None], axis=-1)
    distance[names[:, None] != names[None]] = np.inf
    partner = distance.argmin(1)
    if distance.min(1).max() > tolerance or len(set(partner.tolist())) != len(partner):
        return None
    return partner


def orthogonal_fit(source: FloatArray, target: FloatArray, sign: float = 1.0) -> FloatArray:
    """Orthogonal matrix, of the determinant's ``sign``, that minimises sum (R s - t)^2 (Kabsch 1976)."""
    u, _, vh = np.linalg.svd(target.T @ source)
    last = np.sign(np.linalg.det(u @ vh) * sign)
    return np.asarray(u @ np.diag([1.0, 1.0, last]) @ vh)


def schoenflies(operations: FloatArray) -> str:
    """Schoenflies symbol of a finite point group (G, 3, 3)."""
    determinants, traces = np.linalg.det(operations), np.trace(operations, axis1=1, axis2=2)
    proper = determinants > 0
    angles = np.arccos(np.clip((traces[proper] - 1) / 2, -1, 1))
    orders = [_order(angle) for angle in angles]
    count, highest = len(orders), max(orders)
    improper = int((~proper).sum())
    inversion = bool((~proper & (np.abs(traces + 3) < 1e-2)).any())
    mirrors = int((~proper & (np.abs(traces - 1) < 1e-2)).sum())
    if count == 1:
        return "C1" if not improper else "Ci" if inversion else "Cs"
    if orders.count(3) >= 8:
        name = {12: "T", 24: "O", 60: "I"}[count]
        return name if not improper else name + ("h" if inversion else "d")
    if count == highest:
        if not improper:
            return f"C{highest}"
        return f"S{2 * highest}" if not mirrors else f"C{highest}{'h' if mirrors == 1 else 'v'}"
    return f"D{highest}" + ("" if not improper else "h" if mirrors == highest + 1 else "d")


def _order(angle: float) -> int:
    if angle < 1e-2:
        return 1
    return next((n for n in range(2, 13) for k in range(1, n) if abs(angle - 2 * np.pi * k / n) < 1e-2), 1)


def symmetrized(species: Sequence[str], coords: FloatArray, tolerance: float) -> FloatArray:
    """Coordinates (n, 3) about the centroid, averaged over the molecule's point group until they obey it."""
    centred = coords - coords.mean(0)
    names = np.asarray(species)
    for _ in range(20):
        images = []
        for operation in molecule_operations(species, centred, tolerance):
            order = atom_permutation(operation, names, centred, tolerance)
            if order is not None:
                images.append(centred[order] @ operation)  # operation^T on each target
        average = np.mean(images, axis=0)
        change = float(np.abs(average - centred).max())
        centred = average - average.mean(0)
        if change < 1e-12:
            break
    return centred


def standard_frame(species: Sequence[str], coords: FloatArray) -> tuple[list[int], FloatArray]:
    """Order and coordinates of a molecule that depend neither on its orientation nor on the order given.

    Parameters
    ----------
    species : sequence of str, length n
    coords : ndarray, shape (n, 3)
        About the reference point, A; not on one line.

    Returns
    -------
    order : list of int
        Atoms by falling atomic number, then coordinates.
    coords : ndarray, shape (n, 3)
        In that order. The x axis points along the sum of Z r, or to an atom where that sum
        vanishes; of the frames through the atoms, and their mirror images, the one with the
        largest coordinates.
    """
    numbers = np.array([Element(symbol).Z for symbol in species], dtype=np.float64)
    moment = (numbers / numbers.sum()) @ coords
    starts = [moment] if np.linalg.norm(moment) > 1e-2 else list(coords)
    candidates: list[tuple[list[int], FloatArray]] = []
    for first in starts:
        for second in coords:
            axes = frame(first, second)
            if axes is None:
                continue
            for sign in (1.0, -1.0):
                turned = coords @ axes * np.array([1.0, 1.0, sign])
                order = ordered_rows(-np.concatenate([numbers[:, None], turned], axis=1), FRAME_TIE)
                candidates.append((order, turned[order]))
    best = smallest_row(np.array([-turned.ravel() for _, turned in candidates]), FRAME_TIE)
    return candidates[best]
