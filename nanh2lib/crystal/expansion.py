"""From asymmetric units to full crystals: batched, differentiable, images on special positions merged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Layout, Template
from nanh2lib.crystal.orientation import orientation_modes, project_orientation
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix


@dataclass(frozen=True)
class Crystals:
    """A batch of full conventional cells.

    Attributes
    ----------
    lattice : Tensor, shape (B, 3, 3)
        Rows, A; a along x, b in the xy plane.
    frac_coords : Tensor, shape (B, N, 3)
        Not wrapped: the atoms of one image of a unit stay together.
    species : tuple of str, length N
    unit_index : Tensor of int, shape (N,)
        Which image of a unit each atom belongs to.
    """

    lattice: Tensor
    frac_coords: Tensor
    species: tuple[str, ...]
    unit_index: Tensor

    @property
    def cart_coords(self) -> Tensor:
        """Cartesian coordinates (B, N, 3), A."""
        return self.frac_coords @ self.lattice

    def structures(self) -> list[Structure]:
        """Structures of pymatgen, coordinates wrapped into the cell."""
        lattices = self.lattice.detach().to(torch.float64).cpu().numpy()
        coords = self.frac_coords.detach().to(torch.float64).cpu().numpy()
        coords = coords - np.floor(coords + 1e-12)
        properties = {"unit_index": self.unit_index.tolist()}
        return [
            Structure(Lattice(lattice), self.species, frac, site_properties=properties)
            for lattice, frac in zip(lattices, coords, strict=True)
        ]


@lru_cache(maxsize=2048)
def _typed_layout(template: Template, dtype: torch.dtype) -> Layout:
    return template.layout.to(dtype)


@lru_cache(maxsize=2048)
def _special_sites(template: Template, dtype: torch.dtype) -> tuple[tuple[int, Tensor, Tensor, bool], ...]:
    """Units whose orientation the site restricts: index, stabilizer (S, 3, 3), body operations, linear."""
    special = []
    for index, (site, wyckoff) in enumerate(zip(template.sites, template.wyckoff_sites, strict=True)):
        if site.unit.is_monatomic or len(wyckoff.stabilizer_rotations) == 1:
            continue
        modes = orientation_modes(site.unit, template.hall_number, site.wyckoff_letter)
        operations = torch.as_tensor(modes[site.orientation_mode].copy(), dtype=dtype)
        stabilizer = torch.as_tensor(wyckoff.stabilizer_rotations, dtype=dtype)
        special.append((index, stabilizer, operations, site.unit.is_linear))
    return tuple(special)


def project_origins(template: Template, frac_origins: Tensor) -> Tensor:
    """Move unit origins (B, U, 3) to the nearest point of the representative of their site."""
    layout = _typed_layout(template, frac_origins.dtype)
    moved = torch.einsum("uij,buj->bui", layout.origin_projection, frac_origins)
    return moved + layout.origin_offset


def project_rotations(template: Template, lattice: Tensor, rotations: Tensor) -> Tensor:
    """Turn units (B, U, 3, 3) to the nearest orientation that their site allows.

    Parameters
    ----------
    template : Template
    lattice : Tensor, shape (B, 3, 3)
        Rows, A: the Cartesian form of an operation is L^T W L^-T.
    rotations : Tensor, shape (B, U, 3, 3)
    """
    special = _special_sites(template, rotations.dtype)
    if not special:
        return rotations
    columns = list(rotations.unbind(1))
    transpose, inverse = lattice.transpose(-1, -2), torch.linalg.inv(lattice).transpose(-1, -2)
    for index, stabilizer, operations, linear in special:
        cart = transpose[:, None] @ stabilizer @ inverse[:, None]
        columns[index] = project_orientation(columns[index], cart, operations, linear)
    return torch.stack(columns, 1)


def project(asymmetric_unit: AsymmetricUnit) -> AsymmetricUnit:
    """Asymmetric units whose lattice, origins and orientations obey their template exactly."""
    template = asymmetric_unit.template
    parameters = template.space_group.symmetrize_lattice(asymmetric_unit.lattice_parameters)
    lattice = lattice_parameters_to_matrix(parameters)
    return asymmetric_unit.replace(
        lattice_parameters=parameters,
        frac_origins=project_origins(template, asymmetric_unit.frac_origins),
        rotations=project_rotations(template, lattice, asymmetric_unit.rotations),
    )


def expand_tensors(asymmetric_unit: AsymmetricUnit, *, project_sites: bool = True) -> Crystals:
    """Full crystals of a batch of asymmetric units.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit
        Batch of B.
    project_sites : bool
        Put units exactly on their sites first (positions, orientations, metric). Turn it off
        only for input that is known to be projected.

    Returns
    -------
    Crystals
        Differentiable with respect to lattice parameters, origins and rotations. Each image is
        made once, by coset representatives of the site's stabilizer, so special positions need
        no merging by distance. Improper operations act on atoms directly: an achiral unit maps
        onto itself, a chiral one onto its mirror image.
    """
    unit = project(asymmetric_unit) if project_sites else asymmetric_unit
    layout = _typed_layout(unit.template, unit.dtype)
    lattice = lattice_parameters_to_matrix(unit.lattice_parameters)
    offsets = torch.einsum("baij,aj->bai", unit.rotations[:, layout.atom_unit], layout.body)
    independent = unit.frac_origins[:, layout.atom_unit] + offsets @ torch.linalg.inv(lattice)
    frac = torch.einsum("nij,bnj->bni", layout.rotations, independent[:, layout.atom_index])
    return Crystals(lattice, frac + layout.translations, layout.species, layout.image_index)


def expand(asymmetric_unit: AsymmetricUnit) -> list[Structure]:
    """Full crystals as pymatgen structures, one for each member of the batch.

    Parameters
    ----------
    asymmetric_unit : AsymmetricUnit

    Returns
    -------
    list of Structure
        Conventional cells with a ``unit_index`` site property; coordinates in [0, 1).
    """
    with torch.no_grad():
        return expand_tensors(asymmetric_unit).structures()
