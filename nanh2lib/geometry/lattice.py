"""Lattice parameters and lattice matrices.

Convention: a lattice matrix has the lattice vectors as rows, ``cart = frac @ L``, with **a**
along x and **b** in the xy plane (pymatgen's ``Lattice.from_parameters(..., vesta=True)``).
"""

from __future__ import annotations

import torch
from torch import Tensor


def lattice_parameters_to_matrix(lattice_parameters: Tensor) -> Tensor:
    """Lattice matrices from lattice parameters.

    Parameters
    ----------
    lattice_parameters : Tensor, shape (..., 6)
        a, b, c in A; alpha, beta, gamma in degrees.

    Returns
    -------
    Tensor, shape (..., 3, 3)
        Rows are a, b, c in A; a along x, b in the xy plane with positive y.
    """
    a, b, c = lattice_parameters[..., :3].unbind(-1)
    cosines = torch.cos(torch.deg2rad(lattice_parameters[..., 3:]))
    cos_alpha, cos_beta, cos_gamma = cosines.unbind(-1)
    sin_gamma = torch.sqrt((1 - cos_gamma**2).clamp_min(1e-12))
    c_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    c_z = torch.sqrt((1 - cos_beta**2 - c_y**2).clamp_min(1e-12))
    zero = torch.zeros_like(a)
    rows = [a, zero, zero, b * cos_gamma, b * sin_gamma, zero, c * cos_beta, c * c_y, c * c_z]
    return torch.stack(rows, -1).reshape(*a.shape, 3, 3)


def matrix_to_lattice_parameters(lattice: Tensor) -> Tensor:
    """Lattice parameters of lattice matrices in any orientation.

    Parameters
    ----------
    lattice : Tensor, shape (..., 3, 3)
        Lattice vectors as rows, A.

    Returns
    -------
    Tensor, shape (..., 6)
        a, b, c in A; alpha, beta, gamma in degrees.
    """
    return metric_to_lattice_parameters(lattice @ lattice.transpose(-1, -2))


def metric_to_lattice_parameters(metric: Tensor) -> Tensor:
    """Lattice parameters (..., 6) of metric tensors G = L L^T (..., 3, 3) in A^2."""
    lengths = torch.sqrt(torch.diagonal(metric, dim1=-2, dim2=-1))
    pairs = ((1, 2), (0, 2), (0, 1))
    cosines = [metric[..., i, j] / (lengths[..., i] * lengths[..., j]) for i, j in pairs]
    angles = torch.rad2deg(torch.arccos(torch.stack(cosines, -1).clamp(-1 + 1e-12, 1 - 1e-12)))
    return torch.cat([lengths, angles], -1)


def lattice_is_valid(lattice_parameters: Tensor, min_length: float = 1.0) -> Tensor:
    """Which sets of six parameters span a real cell.

    Parameters
    ----------
    lattice_parameters : Tensor, shape (..., 6)
        A and degrees.
    min_length : float
        Shortest edge accepted, A.

    Returns
    -------
    Tensor of bool, shape (...)
        False for NaN, edges below ``min_length``, angles outside (0, 180) degrees or angles
        that do not close (the Gram determinant is not positive).
    """
    lengths, angles = lattice_parameters[..., :3], lattice_parameters[..., 3:]
    cosines = torch.cos(torch.deg2rad(angles))
    gram = 1 - (cosines**2).sum(-1) + 2 * cosines.prod(-1)
    finite = torch.isfinite(lattice_parameters).all(-1)
    inside = ((angles > 0) & (angles < 180)).all(-1)
    return finite & (lengths >= min_length).all(-1) & inside & (gram > 1e-4)


def cell_heights(lattice: Tensor) -> Tensor:
    """Distances between opposite faces.

    Parameters
    ----------
    lattice : Tensor, shape (..., 3, 3)
        Lattice vectors as rows, A.

    Returns
    -------
    Tensor, shape (..., 3)
        Height along each axis, A: one over the length of its reciprocal vector.
    """
    reciprocal = torch.linalg.inv(lattice)  # columns are a*, b*, c* without 2 pi
    return 1.0 / torch.linalg.vector_norm(reciprocal, dim=-2)
