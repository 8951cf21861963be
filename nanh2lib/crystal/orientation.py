"""How a rigid unit may sit on a special position.

On a site with point group S (operations S_i, Cartesian) a unit with orientation R maps onto
itself under every S_i when ``S_i R = R B_i`` for operations B_i of the unit's own point group.
The possible homomorphisms S_i -> B_i, up to the unit's proper symmetry, are the site's
orientation modes: NH2 on a mirror has two, its plane in the mirror or across it.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.rigid_unit import RigidUnit, unit_symmetry
from nanh2lib.crystal.space_group import SpaceGroup, WyckoffSite
from nanh2lib.geometry.rotations import nearest_rotation, rotation_onto, rotation_vector_to_matrix

FloatArray = NDArray[np.float64]
REGULAR = 1e-4
"""Determinant (or length of an axis) below which a mean of orientations has no nearest rotation."""


@lru_cache(maxsize=4096)
def orientation_modes(unit: RigidUnit, hall_number: int, letter: str) -> tuple[FloatArray, ...]:
    """Ways to put a unit on a Wyckoff site.

    Parameters
    ----------
    unit : RigidUnit
    hall_number : int
    letter : str

    Returns
    -------
    tuple of ndarray, each of shape (S, 3, 3)
        Body operations B_i, one for each stabilizer operation of the site. Empty when the site
        symmetry is not a subgroup of the unit's. A single atom has one mode; for a linear unit
        only B_i[0, 0] (does operation i keep or turn the axis) has a meaning.
    """
    site = SpaceGroup.from_hall(hall_number).site(letter)
    rotations = site.stabilizer_rotations
    if unit.is_monatomic or len(rotations) == 1:
        return (np.repeat(np.eye(3)[None], len(rotations), axis=0),)
    if unit.is_linear:
        return _linear_modes(unit, site)
    return _nonlinear_modes(unit, site)


def _multiplication_table(operations: NDArray[np.generic]) -> NDArray[np.int64]:
    products = np.einsum("aij,bjk->abik", operations.astype(np.float64), operations.astype(np.float64))
    gaps = np.abs(products[:, :, None] - operations[None, None]).max((-1, -2))
    return np.asarray(gaps.argmin(-1), dtype=np.int64)


def _generators(table: NDArray[np.int64]) -> list[int]:
    """A small generating set (identity has index 0)."""
    chosen: list[int] = []
    reached = {0}
    for candidate in range(len(table)):
        if candidate in reached:
            continue
        chosen.append(candidate)
        reached = _closure(chosen, table)
        if len(reached) == len(table):
            break
    return chosen


def _closure(generators: list[int], table: NDArray[np.int64]) -> set[int]:
    reached = {0}
    frontier = [0]
    while frontier:
        element = frontier.pop()
        for generator in generators:
            product = int(table[element, generator])
            if product not in reached:
                reached.add(product)
                frontier.append(product)
    return reached


def _extend(
    generators: list[int], images: tuple[int, ...], source: NDArray[np.int64], target: NDArray[np.int64]
) -> list[int] | None:
    """Images of all source elements under the homomorphism fixed by its generators, or None."""
    mapping = {0: 0}
    frontier = [0]
    while frontier:
        element = frontier.pop()
        for generator, image in zip(generators, images, strict=True):
            product, value = int(source[element, generator]), int(target[mapping[element], image])
            if product not in mapping:
                mapping[product] = value
                frontier.append(product)
            elif mapping[product] != value:
                return None
    full = np.array([mapping[i] for i in range(len(source))])
    consistent = bool((full[source] == target[full[:, None], full[None]]).all())
    return [int(i) for i in full] if consistent else None


def _nonlinear_modes(unit: RigidUnit, site: WyckoffSite) -> tuple[FloatArray, ...]:
    body = unit_symmetry(unit)[1]
    rotations = site.stabilizer_rotations
    source, target = _multiplication_table(rotations), _multiplication_table(body)
    generators = _generators(source)
    traces = np.trace(body, axis1=1, axis2=2)
    wanted = np.trace(rotations, axis1=1, axis2=2)
    options = [np.flatnonzero(np.abs(traces - wanted[g]) < 1e-2).tolist() for g in generators]
    proper = np.flatnonzero(np.linalg.det(body) > 0)
    inverse = np.array([int(np.flatnonzero(row == 0)[0]) for row in target])
    seen: set[tuple[int, ...]] = set()
    modes: list[FloatArray] = []
    for images in itertools.product(*options):
        full = _extend(generators, images, source, target)
        if full is None or np.abs(traces[full] - wanted).max() > 1e-2:
            continue
        conjugates = {tuple(int(target[target[p, f], inverse[p]]) for f in full) for p in proper}
        if seen.isdisjoint(conjugates):
            modes.append(body[full])
        seen |= conjugates
    return tuple(modes)


def _linear_modes(unit: RigidUnit, site: WyckoffSite) -> tuple[FloatArray, ...]:
    rotations = site.stabilizer_rotations
    table = _multiplication_table(rotations)
    generators = _generators(table)
    signs = (1, -1) if unit_symmetry(unit)[0] == "D_inf_h" else (1,)
    modes: list[FloatArray] = []
    sign_table = np.array([[0, 1], [1, 0]])
    for images in itertools.product((0, 1)[: len(signs)], repeat=len(generators)):
        full = _extend(generators, images, table, sign_table)
        if full is None:
            continue
        epsilon = np.where(np.array(full) == 0, 1.0, -1.0)
        # The axis must have somewhere to point: sum eps_i W_i, in fractions, keeps its rank.
        if np.abs(np.einsum("s,sij->ij", epsilon, rotations)).max() / len(rotations) > 1e-6:
            modes.append(epsilon[:, None, None] * np.eye(3))
    return tuple(modes)


def project_orientation(rotation: Tensor, cart_stabilizer: Tensor, body_operations: Tensor, linear: bool) -> Tensor:
    """Nearest orientations that a site allows.

    Parameters
    ----------
    rotation : Tensor, shape (B, 3, 3)
        Orientations, near the allowed set.
    cart_stabilizer : Tensor, shape (B or 1, S, 3, 3)
        Cartesian site-symmetry operations.
    body_operations : Tensor, shape (S, 3, 3)
        One of `orientation_modes`.
    linear : bool
        The unit is linear.

    Returns
    -------
    Tensor, shape (B, 3, 3)
        Polar factor of the mean of S_i^T R B_i; for a linear unit the smallest turn of +x onto
        the mean axis. Differentiable where that mean is a rotation up to a positive stretch;
        elsewhere (for instance NH2 drawn across its two-fold axis) some allowed orientation
        near the given one, without gradient.
    """
    mean = _symmetric_mean(rotation, cart_stabilizer, body_operations)
    if linear:
        axis = mean[..., 0]
        regular = torch.linalg.vector_norm(axis, dim=-1) > REGULAR
        if not bool(regular.all()):
            axis = torch.where(regular[:, None], axis, _regular_axis(rotation, cart_stabilizer, body_operations))
        return rotation_onto(axis / torch.linalg.vector_norm(axis, dim=-1, keepdim=True))
    regular = torch.linalg.det(mean) > REGULAR
    if not bool(regular.all()):
        mean = torch.where(regular[:, None, None], mean, _regular_mean(rotation, cart_stabilizer, body_operations))
    return polar_factor(mean)


def _symmetric_mean(rotation: Tensor, cart_stabilizer: Tensor, body_operations: Tensor) -> Tensor:
    """Mean over the site symmetry of S_i^T R B_i (B, 3, 3): what of R the site allows, not yet orthogonal."""
    return (cart_stabilizer.transpose(-1, -2) @ rotation[:, None] @ body_operations).mean(1)


def _nearby(rotation: Tensor) -> Tensor:
    """Orientations (27, B, 3, 3) around given ones, themselves first: starts where those have no nearest answer."""
    directions = torch.tensor(list(itertools.product((0.0, 1.0, -0.8), repeat=3)), dtype=rotation.dtype)
    return rotation.detach() @ rotation_vector_to_matrix(directions)[:, None]


def _regular_mean(rotation: Tensor, cart_stabilizer: Tensor, body_operations: Tensor) -> Tensor:
    """For orientations whose mean is singular or a reflection: a rotation nearby that the site does allow."""
    means = torch.stack([_symmetric_mean(r, cart_stabilizer, body_operations) for r in _nearby(rotation)])
    determinants = torch.linalg.det(means)
    # With M also -M commutes with the site symmetry, so one of the two gives a rotation.
    allowed = means * torch.sign(determinants)[..., None, None]
    near = (nearest_rotation(allowed) * rotation.detach()).sum((-1, -2))
    best = torch.where(determinants.abs() > REGULAR, near, torch.full_like(near, -9.0)).argmax(0)
    return allowed[best, torch.arange(len(rotation))]


def _regular_axis(rotation: Tensor, cart_stabilizer: Tensor, body_operations: Tensor) -> Tensor:
    axes = torch.stack([_symmetric_mean(r, cart_stabilizer, body_operations)[..., 0] for r in _nearby(rotation)])
    return axes[torch.linalg.vector_norm(axes, dim=-1).argmax(0), torch.arange(len(rotation))]


def polar_factor(matrix: Tensor, iterations: int = 12) -> Tensor:
    """Rotations nearest to matrices (B, 3, 3) by Higham's scaled Newton iteration.

    Unlike an SVD its gradient is finite where singular values coincide. Matrices without a
    positive determinant get the (not differentiated) SVD answer.
    """
    regular = torch.linalg.det(matrix) > REGULAR
    x = matrix
    if not bool(regular.all()):
        x = torch.where(regular[:, None, None], matrix, nearest_rotation(matrix.detach()))
    for _ in range(iterations):
        inverse_transpose = torch.linalg.inv(x).transpose(-1, -2)
        scale = (torch.linalg.matrix_norm(inverse_transpose) / torch.linalg.matrix_norm(x)).sqrt()
        scale = scale.detach()[:, None, None]
        x = 0.5 * (scale * x + inverse_transpose / scale)
    return x
