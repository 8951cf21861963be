"""The free coordinates of a crystal under its symmetry, as one vector x with x = 0 at the start.

Origins move along their site's free directions (A), units turn about the axes their site allows
(rotation vectors, multiplied from the left, radians), and the lattice is strained by symmetric
strains averaged over the point group: L = L0 exp(strain). Every x is a crystal of the template,
so nothing has to be projected back while relaxing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import project
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import (
    lattice_parameters_to_matrix,
    matrix_to_lattice_parameters,
)
from nanh2lib.geometry.rotations import rotation_vector_to_matrix

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SymmetryCoordinates:
    """Map from free coordinates x (D,) to an asymmetric unit, differentiable.

    Attributes
    ----------
    start : AsymmetricUnit
        Batch of one in float64, on its sites: x = 0.
    origin_basis : Tensor, shape (D_o, U, 3)
        Cartesian displacement of each unit, A, for each free coordinate.
    turn_basis : Tensor, shape (D_r, U, 3)
        Rotation vector of each unit, radians.
    strain_basis : Tensor, shape (D_s, 3, 3)
        Symmetric strains that keep the metric symmetry, Frobenius norm 1; D_s = 0 fixes the cell.
    """

    start: AsymmetricUnit
    origin_basis: Tensor
    turn_basis: Tensor
    strain_basis: Tensor

    @classmethod
    def of(cls, asymmetric_unit: AsymmetricUnit, *, free_cell: bool = False) -> SymmetryCoordinates:
        """Coordinates about an asymmetric unit.

        Parameters
        ----------
        asymmetric_unit : AsymmetricUnit
            Batch of one.
        free_cell : bool
            Add the strains that the space group allows.

        Raises
        ------
        InputError
            The batch does not hold exactly one crystal.
        """
        if asymmetric_unit.batch_size != 1:
            raise InputError(
                f"relaxation takes one crystal at a time, got a batch of {asymmetric_unit.batch_size}; index it first"
            )
        start = project(asymmetric_unit.detach().to(torch.float64))
        lattice = lattice_parameters_to_matrix(start.lattice_parameters)[0].numpy()
        strains = _strain_basis(start, lattice) if free_cell else np.zeros((0, 3, 3))
        origins, turns = _site_bases(start, lattice)
        return cls(start, torch.as_tensor(origins), torch.as_tensor(turns), torch.as_tensor(strains))

    @property
    def radii(self) -> FloatArray:
        """Distance of each unit's outermost atom from its origin (U,), A; 1 for single atoms."""
        return np.array([float(np.linalg.norm(unit.body, axis=1).max()) or 1.0 for unit in self.start.units])

    @property
    def free_cell(self) -> bool:
        return len(self.strain_basis) > 0

    @property
    def size(self) -> int:
        """Number D of free coordinates: origins, then turns, then strains."""
        return len(self.origin_basis) + len(self.turn_basis) + len(self.strain_basis)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Displacements (U, 3) A, rotation vectors (U, 3) radians and strain (3, 3) of x (D,)."""
        first, second = len(self.origin_basis), len(self.origin_basis) + len(self.turn_basis)
        shift = torch.einsum("d,dui->ui", x[:first], self.origin_basis)
        turn = torch.einsum("d,dui->ui", x[first:second], self.turn_basis)
        strain = torch.einsum("d,dij->ij", x[second:], self.strain_basis)
        return shift, turn, strain

    def asymmetric_unit(self, x: Tensor) -> AsymmetricUnit:
        """The crystal at x (D,), batch of one; already on its sites."""
        shift, turn, strain = self.split(x)
        parameters = self.start.lattice_parameters
        lattice = lattice_parameters_to_matrix(parameters)
        frac = self.start.frac_origins + shift @ torch.linalg.inv(lattice)
        rotations = rotation_vector_to_matrix(turn) @ self.start.rotations
        if self.free_cell:
            strained = lattice @ torch.linalg.matrix_exp(strain)
            parameters = matrix_to_lattice_parameters(strained)
            # The strained cell turns back to a along x, b in xy; the units turn with it.
            turned = torch.linalg.solve(strained, lattice_parameters_to_matrix(parameters))
            rotations = turned.transpose(-1, -2)[:, None] @ rotations
            monatomic = torch.tensor([unit.is_monatomic for unit in self.start.units])
            rotations = torch.where(monatomic[:, None, None], self.start.rotations, rotations)
        return self.start.replace(lattice_parameters=parameters, frac_origins=frac, rotations=rotations)


def _range_basis(projector: FloatArray) -> FloatArray:
    """Orthonormal rows that span the range of a symmetric projector."""
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    return np.asarray(vectors[:, values > 0.5].T)


def _site_bases(start: AsymmetricUnit, lattice: FloatArray) -> tuple[FloatArray, FloatArray]:
    units = start.template.n_units
    inverse = np.linalg.inv(lattice).T
    origins: list[FloatArray] = []
    turns: list[FloatArray] = []
    for index, (unit, site) in enumerate(zip(start.units, start.template.wyckoff_sites, strict=True)):
        operations = lattice.T @ site.stabilizer_rotations @ inverse
        free = _range_basis(operations.mean(0))
        origins += [_placed(vector, index, units) for vector in free]
        if unit.is_monatomic:
            continue
        signs = np.linalg.det(operations)
        axial = (signs[:, None, None] * operations).mean(0)
        if unit.is_linear:
            axis = start.rotations[0, index, :, 0].numpy()
            across = np.eye(3) - np.outer(axis, axis)
            axial = across @ axial @ across
        turns += [_placed(vector, index, units) for vector in _range_basis(axial)]
    return np.array(origins).reshape(-1, units, 3), np.array(turns).reshape(-1, units, 3)


def _placed(vector: FloatArray, index: int, units: int) -> FloatArray:
    placed = np.zeros((units, 3))
    placed[index] = vector
    return placed


def _strain_basis(start: AsymmetricUnit, lattice: FloatArray) -> FloatArray:
    rotations = start.template.space_group.unique_rotations[0]
    operations = lattice.T @ rotations @ np.linalg.inv(lattice).T
    axes = np.eye(3)
    pairs = [(np.outer(axes[i], axes[j]), i == j) for i in range(3) for j in range(i, 3)]
    symmetric = [m if same else (m + m.T) / np.sqrt(2) for m, same in pairs]
    flat = np.array(symmetric).reshape(6, 9)  # orthonormal
    averaged = np.einsum("gij,sjk,glk->sil", operations, flat.reshape(6, 3, 3), operations) / len(operations)
    projector = averaged.reshape(6, 9) @ flat.T
    return (_range_basis(projector) @ flat).reshape(-1, 3, 3)


def natural_metric(coordinates: SymmetryCoordinates) -> FloatArray:
    """Sum over all atoms of the conventional cell of the squared displacement per unit of each x.

    Parameters
    ----------
    coordinates : SymmetryCoordinates

    Returns
    -------
    ndarray, shape (D,)
        A^2 per squared unit of x (a strain is given 4 A^2 an atom).
    """
    start = coordinates.start
    turned = start.rotations[0].numpy()
    bodies = [unit.body @ rotation.T for unit, rotation in zip(start.units, turned, strict=True)]
    shifts = [
        sum(m * len(b) * float(v @ v) for m, b, v in zip(start.multiplicities, bodies, basis, strict=True))
        for basis in coordinates.origin_basis.numpy()
    ]
    turns = [
        sum(m * float((np.cross(v, b) ** 2).sum()) for m, b, v in zip(start.multiplicities, bodies, basis, strict=True))
        for basis in coordinates.turn_basis.numpy()
    ]
    strains = [4.0 * start.template.n_atoms] * len(coordinates.strain_basis)
    return np.array(shifts + turns + strains)
