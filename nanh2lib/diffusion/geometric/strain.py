"""Noise on the cell: symmetric strains of a reference lattice, in the subspace of the crystal family.

L = L_ref exp(eps) with eps symmetric (3 x 3, Cartesian) is the polar form of any lattice up to a turn
of the crystal; log det L = log det L_ref + tr eps. A space group keeps eps with C eps C^T = eps for
its Cartesian operations C, so averaging over them is an orthogonal projection ("crystal-family
mask"). In units of the training set's spread s the noise is a variance-preserving Gaussian:

    y_t = eps_0 / s + sigma n,      eps_t = s y_t / sqrt(1 + sigma^2).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import Template


@lru_cache(maxsize=1024)
def _operations(template: Template) -> Tensor:
    return torch.as_tensor(template.space_group.unique_rotations[0], dtype=torch.float64)


def family_projection(strain: Tensor, template: Template, reference: Tensor) -> Tensor:
    """Part of symmetric strains (..., 3, 3) that a space group allows.

    Parameters
    ----------
    strain : Tensor, shape (..., 3, 3)
        Cartesian frame of the reference lattice.
    template : Template
    reference : Tensor, shape (3, 3)
        Lattice with the metric of the space group, rows, A.
    """
    reference = reference.to(strain.dtype)
    operations = _operations(template).to(strain.dtype)
    cart = reference.T @ operations @ torch.linalg.inv(reference).T
    symmetric = 0.5 * (strain + strain.transpose(-1, -2))
    return torch.einsum("gij,...jk,glk->...il", cart, symmetric, cart) / len(cart)


def strain_freedom(template: Template, reference: Tensor) -> int:
    """Free strain components: 6 triclinic, 4 monoclinic, 3 orthorhombic, 2, or 1 cubic."""
    basis = torch.zeros(6, 3, 3, dtype=torch.float64)
    for number, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        basis[number, i, j] = basis[number, j, i] = 1.0
    images = family_projection(basis, template, reference.to(torch.float64))
    return int(torch.linalg.matrix_rank(images.reshape(6, 9), tol=1e-6))


def lattice_to_strain(lattice: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Strain and turn of lattices against a reference.

    Parameters
    ----------
    lattice : Tensor, shape (B, 3, 3)
        Rows, A.
    reference : Tensor, shape (3, 3) or (B, 3, 3)

    Returns
    -------
    strain : Tensor, shape (B, 3, 3)
    turn : Tensor, shape (B, 3, 3)
        Rotation on column vectors: ``reference @ exp(strain) = lattice @ turn^T``.
    """
    gradient = torch.linalg.inv(reference) @ lattice
    values, vectors = torch.linalg.eigh(gradient @ gradient.transpose(-1, -2))
    strain = (vectors * (0.5 * torch.log(values))[..., None, :]) @ vectors.transpose(-1, -2)
    stretched = reference @ torch.linalg.matrix_exp(strain)
    turn = (torch.linalg.inv(lattice) @ stretched).transpose(-1, -2)
    return strain, turn


def strain_to_lattice(strain: Tensor, reference: Tensor) -> Tensor:
    """Lattices (..., 3, 3) of strains (..., 3, 3): reference @ exp(strain)."""
    return reference @ torch.linalg.matrix_exp(strain)


def symmetric_noise(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Symmetric matrices ``(*shape, 3, 3)``: standard normal in the Frobenius metric."""
    noise = torch.randn(*shape, 3, 3, generator=generator, dtype=dtype)
    return (noise + noise.transpose(-1, -2)) / 2
