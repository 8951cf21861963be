"""Fit of a rigid unit to atoms: orientation, handedness, order of the atoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from nanh2lib.crystal.point_group import frame, orthogonal_fit, widest_pair
from nanh2lib.crystal.rigid_unit import RigidUnit, unit_symmetry
from nanh2lib.errors import InputError
from nanh2lib.geometry.rotations import rotation_onto

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class UnitFit:
    """Where a unit lies.

    Attributes
    ----------
    origin : ndarray, shape (3,)
        Reference point, A.
    rotation : ndarray, shape (3, 3)
        Acts on body-frame columns.
    order : tuple of int
        For each body atom, which of the given atoms it is.
    rms : float
        Root mean square deviation of the atoms, A.
    handedness : int
        -1 when the mirror image fits better.
    """

    origin: FloatArray
    rotation: FloatArray
    order: tuple[int, ...]
    rms: float
    handedness: int = 1


def fit_unit(unit: RigidUnit, species: Sequence[str], cart_coords: FloatArray) -> UnitFit:
    """Best fit of a unit to atoms, about its reference point.

    Parameters
    ----------
    unit : RigidUnit
    species : sequence of str, length n
    cart_coords : ndarray, shape (n, 3)
        Atoms in any order, A.

    Returns
    -------
    UnitFit
        The origin is exactly the reference atom (N of NH2) where the unit has one; only the
        rotation is fitted. Of the equivalent rotations R g (g in the unit's point group) the
        canonical one is returned, see `canonical_rotation`.

    Raises
    ------
    InputError
        The species differ.
    """
    if sorted(species) != sorted(unit.species):
        raise InputError(f"unit {unit.name} has atoms {sorted(unit.species)}, got {sorted(species)}")
    if unit.is_monatomic:
        return UnitFit(cart_coords[0].copy(), np.eye(3), (0,), 0.0)
    body = unit.body
    centred_reference = np.abs(body[0]).max() > 1e-6
    if centred_reference:
        origins = [cart_coords.mean(0)]
    else:
        origins = [cart_coords[i] for i, s in enumerate(species) if s == unit.species[0]]
    best: UnitFit | None = None
    for handedness in (1, -1) if unit.is_chiral else (1,):
        for origin in origins:
            fit = _fit_about(unit, body * handedness, species, cart_coords - origin)
            if fit is not None and (best is None or fit[2] < best.rms - 1e-9):
                best = UnitFit(origin.copy(), fit[0], fit[1], fit[2], handedness)
    if best is None:
        raise InputError(f"unit {unit.name} cannot be laid over the atoms {list(species)}")
    rotation = canonical_rotation(unit, best.rotation)
    order, rms = _assign(body * best.handedness @ rotation.T, unit.species, species, cart_coords - best.origin)
    return UnitFit(best.origin, rotation, order, rms, best.handedness)


def _assign(
    moved: FloatArray, body_species: Sequence[str], species: Sequence[str], target: FloatArray
) -> tuple[tuple[int, ...], float]:
    cost = ((moved[:, None] - target[None]) ** 2).sum(-1)
    wrong = np.asarray(body_species)[:, None] != np.asarray(species)[None]
    _, columns = linear_sum_assignment(np.where(wrong, 1e6, cost))
    return tuple(int(c) for c in columns), float(np.sqrt(cost[np.arange(len(columns)), columns].mean()))


def _fit_about(
    unit: RigidUnit, body: FloatArray, species: Sequence[str], target: FloatArray
) -> tuple[FloatArray, tuple[int, ...], float] | None:
    """Lay the body's widest pair of atoms over every pair of the target, then refine."""
    best: tuple[FloatArray, tuple[int, ...], float] | None = None
    for trial in _trial_rotations(unit, body, species, target):
        order, _ = _assign(body @ trial.T, unit.species, species, target)
        rotation = orthogonal_fit(body, target[list(order)])
        order, rms = _assign(body @ rotation.T, unit.species, species, target)
        if best is None or rms < best[2] - 1e-9:
            best = (rotation, order, rms)
    return best


def _trial_rotations(
    unit: RigidUnit, body: FloatArray, species: Sequence[str], target: FloatArray
) -> Iterator[FloatArray]:
    names = np.asarray(species)
    if unit.is_linear:
        end = int(np.linalg.norm(body, axis=1).argmax())
        for k in np.flatnonzero(names == unit.species[end]):
            length = np.linalg.norm(target[k])
            if length > 1e-6:
                direction = torch.as_tensor(target[k] / length * np.sign(body[end, 0]))
                yield rotation_onto(direction[None])[0].numpy()
        return
    first, second = widest_pair(body)
    start = frame(body[first], body[second])
    for k in np.flatnonzero(names == unit.species[first]):
        for m in np.flatnonzero(names == unit.species[second]):
            end_frame = frame(target[k], target[m]) if k != m else None
            if start is not None and end_frame is not None:
                yield end_frame @ start.T


def canonical_rotation(unit: RigidUnit, rotation: FloatArray) -> FloatArray:
    """Of the equivalent orientations R g the one with the smallest rotation angle.

    Ties (angles equal within 1e-6) are broken by the largest quaternion entries, in order. A
    linear unit gets the smallest turn of +x onto its axis; the axis of a centrosymmetric one
    (CO2) is taken with its first non-zero Cartesian component positive.
    """
    if unit.is_monatomic:
        return np.eye(3)
    if unit.is_linear:
        axis = rotation[:, 0]
        if unit_symmetry(unit)[0] == "D_inf_h":
            leading = axis[np.abs(axis) > 1e-6][0]
            axis = axis * np.sign(leading)
        return np.asarray(rotation_onto(torch.as_tensor(axis)[None])[0].numpy())
    candidates = equivalent_rotations(unit, rotation)
    keep = np.arange(len(candidates))
    for column in _quaternions(candidates).T:
        values = column[keep]
        keep = keep[values > values.max() - 1e-6]
        if len(keep) == 1:
            break
    return np.asarray(candidates[keep[0]])


def _quaternions(rotations: FloatArray) -> FloatArray:
    """Quaternions (n, 4), real part first, the first entry that is not zero (to 1e-9) positive."""
    result = np.roll(Rotation.from_matrix(rotations).as_quat(), 1, axis=1)
    leading = result[np.arange(len(result)), (np.abs(result) > 1e-9).argmax(1)]
    return np.asarray(result * np.sign(leading)[:, None])


def equivalent_rotations(unit: RigidUnit, rotation: FloatArray) -> FloatArray:
    """All orientations R g (G, 3, 3) that put the same species on the same places."""
    if unit.is_monatomic or unit.is_linear:
        return rotation[None]
    group = unit_symmetry(unit)[1]
    return np.asarray(rotation @ group[np.linalg.det(group) > 0])
