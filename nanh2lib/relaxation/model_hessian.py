"""A cheap guess of the curvature in the symmetry coordinates: springs between neighbouring atoms.

Bonds and 1-3 pairs of molecules are stiff; all other neighbours get a stiffness that falls off
with their distance beyond the sum of covalent radii. It need not be right, only closer to the
truth than a constant: the optimiser starts from it and learns the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.expansion import expand_tensors
from nanh2lib.crystal.primitive import primitive_crystals
from nanh2lib.relaxation.coordinates import SymmetryCoordinates, natural_metric

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Springs:
    """Stiffness constants, eV/A^2, fitted to reduced Hessians of CHGNet and SevenNet-0 in NaNH2 crystals.

    Attributes
    ----------
    bond, angle : float
        Between bonded atoms, and between two neighbours of the same atom.
    contact, decay : float
        ``contact * exp(-(r - r_cov) / decay)`` for other pairs; decay in A.
    floor : float
        Added for every atom, eV/A^2.
    cutoff : float
        A.
    bond_slack : float
        Non-metal atoms closer than the sum of covalent radii plus this (A) are bonded.
    """

    bond: float = 40.0
    angle: float = 10.0
    contact: float = 1.6
    decay: float = 0.6
    floor: float = 0.4
    cutoff: float = 6.0
    bond_slack: float = 0.3


NANH2_SPRINGS = Springs()


def model_hessian(coordinates: SymmetryCoordinates, springs: Springs = NANH2_SPRINGS) -> FloatArray:
    """Positive definite model Hessian at x = 0.

    Parameters
    ----------
    coordinates : SymmetryCoordinates
    springs : Springs

    Returns
    -------
    ndarray, shape (D, D)
        eV per conventional cell and squared unit of x: sum over pairs of k (dr/dx)(dr/dx)^T, so
        each pair adds a rigid-unit and strain response without any second derivative.
    """
    template = coordinates.start.template

    def crystal(x: Tensor) -> tuple[Tensor, Tensor]:
        crystals = expand_tensors(coordinates.asymmetric_unit(x), project_sites=False)
        primitive = primitive_crystals(crystals, template)
        return primitive.lattice[0], primitive.frac_coords[0]

    zero = torch.zeros(coordinates.size, dtype=torch.float64)
    lattice, frac = crystal(zero)
    by_lattice, by_frac = torch.func.jacfwd(crystal)(zero)
    crystals = expand_tensors(coordinates.start, project_sites=False)
    species = primitive_crystals(crystals, template).species
    first, second, shifts, stiffness = _pairs(species, lattice.numpy(), frac.numpy(), springs)
    between = frac[second] - frac[first] + shifts
    vectors = between @ lattice
    change = torch.einsum("pkd,kl->pld", by_frac[second] - by_frac[first], lattice)
    change = change + torch.einsum("pk,kld->pld", between, by_lattice)
    stretch = torch.einsum("pl,pld->pd", vectors / vectors.norm(dim=-1, keepdim=True), change)
    # Every pair is listed in both directions.
    hessian = torch.einsum("p,pd,pe->de", stiffness, stretch, stretch) / 2 * template.space_group.centering_order
    return np.asarray(hessian.numpy() + springs.floor * np.diag(natural_metric(coordinates)))


def _pairs(
    species: Sequence[str], lattice: FloatArray, frac: FloatArray, springs: Springs
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from ase import Atoms
    from ase.data import covalent_radii
    from ase.neighborlist import neighbor_list
    from pymatgen.core import Element

    atoms = Atoms(list(species), scaled_positions=frac, cell=lattice, pbc=True)
    first, second, shifts, distances = neighbor_list("ijSd", atoms, springs.cutoff)
    radii = covalent_radii[atoms.numbers]
    reach = radii[first] + radii[second]
    metal = np.array([Element(symbol).is_metal for symbol in species])
    bonded = (distances < reach + springs.bond_slack) & ~metal[first] & ~metal[second]
    stiffness = np.minimum(springs.contact * np.exp(-(distances - reach) / springs.decay), springs.bond)
    stiffness[_angle_pairs(first, second, shifts, bonded)] = springs.angle
    stiffness[bonded] = springs.bond
    arrays = (first.astype(np.int64), second.astype(np.int64), shifts.astype(np.float64), stiffness)
    return tuple(torch.as_tensor(array) for array in arrays)  # type: ignore[return-value]


def _angle_pairs(
    first: NDArray[np.int64], second: NDArray[np.int64], shifts: NDArray[np.int64], bonded: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which pairs are both bonded to one atom."""
    bonds: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
    for i, j, shift in zip(first[bonded], second[bonded], shifts[bonded], strict=True):
        bonds.setdefault(int(i), []).append((int(j), shift))
    ends = {
        (a, b, *(sb - sa).tolist())
        for neighbours in bonds.values()
        for a, sa in neighbours
        for b, sb in neighbours
        if not (a == b and np.array_equal(sa, sb))
    }
    keys = zip(first.tolist(), second.tolist(), *shifts.T.tolist(), strict=True)
    return np.array([key in ends for key in keys], dtype=bool)
