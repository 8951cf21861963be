"""Distances in periodic space, correct for skewed cells, in batches."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from nanh2lib.geometry.lattice import cell_heights

WRAP_TOLERANCE = 1e-8


def wrap_frac(frac_coords: Tensor, tolerance: float = WRAP_TOLERANCE) -> Tensor:
    """Fractional coordinates in [0, 1), where 1 - tolerance and above count as 0."""
    wrapped = frac_coords - torch.floor(frac_coords)
    return torch.where(wrapped >= 1 - tolerance, torch.zeros_like(wrapped), wrapped)


def minkowski_reduce(lattice: Tensor, max_sweeps: int = 60) -> tuple[Tensor, Tensor]:
    """Minkowski-reduced bases of lattices, in a batch.

    Greedy reduction in three dimensions: the longest vector is shortened by the lattice point
    closest to its projection on the other two, until no vector gets shorter (Nguyen and
    Stehle, ACM Trans. Algorithms 5, 46 (2009)).

    Parameters
    ----------
    lattice : Tensor, shape (B, 3, 3)
        Rows, A.
    max_sweeps : int
        Upper bound on sweeps; a handful is enough for any physical cell.

    Returns
    -------
    reduced : Tensor, shape (B, 3, 3)
        Reduced rows.
    transform : Tensor, shape (B, 3, 3)
        Integer matrix H with ``reduced = H @ lattice``.
    """
    with torch.no_grad():
        basis = lattice.to(torch.float64).clone()
        transform = torch.eye(3, dtype=torch.float64, device=lattice.device).repeat(len(basis), 1, 1)
        shifts = torch.tensor(list(itertools.product((0.0, 1.0, -1.0), repeat=2))).to(basis)
        rows = torch.arange(len(basis), device=lattice.device)
        for _ in range(max_sweeps):
            order = torch.linalg.vector_norm(basis, dim=-1).argsort(-1)
            basis = torch.gather(basis, 1, order[..., None].expand_as(basis))
            transform = torch.gather(transform, 1, order[..., None].expand_as(transform))
            # Gauss-reduce the two shorter vectors, then the longest against both.
            mu = torch.round((basis[:, 1] * basis[:, 0]).sum(-1) / (basis[:, 0] ** 2).sum(-1))
            basis[:, 1] -= mu[:, None] * basis[:, 0]
            transform[:, 1] -= mu[:, None] * transform[:, 0]
            plane = basis[:, :2]
            gram = plane @ plane.transpose(-1, -2)
            coefficients = torch.linalg.solve(gram, plane @ basis[:, 2, :, None]).squeeze(-1)
            trial = torch.round(coefficients)[:, None, :] + shifts  # (B, 9, 2)
            vectors = basis[:, None, 2] - trial @ plane
            lengths = (vectors**2).sum(-1)
            best = lengths.argmin(-1)
            shortened = lengths[rows, best] < (basis[:, 2] ** 2).sum(-1) * (1 - 1e-12)
            step = trial[rows, best] * shortened[:, None]
            basis[:, 2] -= (step[:, None] @ plane).squeeze(1)
            transform[:, 2] -= (step[:, None] @ transform[:, :2]).squeeze(1)
            if not bool((shortened | (mu != 0)).any()):
                break
        return basis.to(lattice.dtype), transform.to(lattice.dtype)


def minimum_image_vectors(lattice: Tensor, frac_difference: Tensor) -> Tensor:
    """Shortest periodic images of difference vectors, for cells of any shape.

    Parameters
    ----------
    lattice : Tensor, shape (B, 3, 3)
        Rows, A.
    frac_difference : Tensor, shape (B, ..., 3)
        Fractional differences in that lattice.

    Returns
    -------
    Tensor, shape (B, ..., 3)
        Cartesian vectors, A; differentiable with respect to both arguments. In a
        Minkowski-reduced basis the nearest image of a vector with fractions in [-1/2, 1/2] has
        shifts in {-1, 0, 1}, so 27 images are enough.
    """
    transform = minkowski_reduce(lattice)[1]
    reduced = transform @ lattice  # the basis again, now with its gradient
    flat = frac_difference.reshape(len(lattice), -1, 3)
    flat = flat @ torch.linalg.inv(transform)
    flat = flat - torch.round(flat)
    images = torch.tensor(list(itertools.product((0.0, -1.0, 1.0), repeat=3)), dtype=flat.dtype, device=flat.device)
    base = flat @ reduced
    best = base
    best_squared = (base**2).sum(-1)
    for offset in (images[1:] @ reduced).unbind(1):
        trial = base + offset[:, None]
        squared = (trial**2).sum(-1)
        closer = squared < best_squared
        best = torch.where(closer[..., None], trial, best)
        best_squared = torch.where(closer, squared, best_squared)
    return best.reshape(frac_difference.shape)


def image_shifts(lattice: Tensor, cutoff: float) -> Tensor:
    """Integer shifts that can hold a neighbour within ``cutoff`` of a wrapped difference.

    Parameters
    ----------
    lattice : Tensor, shape (B, 3, 3)
        Rows, A.
    cutoff : float
        A.

    Returns
    -------
    Tensor, shape (S, 3)
        Shifts n such that a fractional difference in [-1/2, 1/2] plus n can be shorter than
        ``cutoff`` in some cell of the batch: (abs(n_i) - 1/2) h_i <= cutoff. Zero shift first.
    """
    heights = cell_heights(lattice).amin(0)
    reach = torch.floor(cutoff / heights + 0.5 - 1e-9).to(torch.int64).tolist()
    ranges = [range(-n, n + 1) for n in reach]
    shifts = sorted(itertools.product(*ranges), key=lambda n: sum(abs(i) for i in n))
    return torch.tensor(shifts, dtype=lattice.dtype, device=lattice.device)
