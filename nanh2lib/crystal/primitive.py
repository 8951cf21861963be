"""Primitive cells of expanded crystals, differentiable: four times fewer atoms for an F lattice; their orbits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import Template
from nanh2lib.crystal.expansion import Crystals

_GENERIC = np.array([0.1379, 0.2617, 0.4091])
_TOLERANCE = 1e-5


@lru_cache(maxsize=2048)
def primitive_atoms(template: Template) -> Tensor:
    """Atoms of the conventional cell that are kept in the primitive one.

    Parameters
    ----------
    template : Template

    Returns
    -------
    Tensor of int, shape (N / centring order,)
        Of the images of a unit that centring translations carry onto each other, the first.
    """
    layout = template.layout
    inverse = np.linalg.inv(template.space_group.primitive)
    kept: list[Tensor] = []
    first_image = 0
    for wyckoff in template.wyckoff_sites:
        point = wyckoff.projection @ _GENERIC + wyckoff.offset
        images = (wyckoff.coset_rotations @ point + wyckoff.coset_translations) @ inverse.T
        chosen: list[int] = []
        for i, image in enumerate(images):
            gaps = np.array([image - images[j] for j in chosen]).reshape(-1, 3)
            if (np.abs(gaps - np.round(gaps)).max(1) > _TOLERANCE).all():
                chosen.append(i)
        kept += [torch.nonzero(layout.image_index == first_image + i).flatten() for i in chosen]
        first_image += wyckoff.multiplicity
    return torch.cat(kept)


@lru_cache(maxsize=1024)
def _primitive_basis(hall_number: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    from nanh2lib.crystal.space_group import SpaceGroup

    primitive = SpaceGroup.from_hall(hall_number).primitive
    basis = torch.as_tensor(primitive.T.copy(), dtype=dtype)
    return basis, torch.as_tensor(np.linalg.inv(primitive.T), dtype=dtype)


def primitive_crystals(crystals: Crystals, template: Template) -> Crystals:
    """Primitive cells of conventional ones made by `expand_tensors` from the same template.

    Parameters
    ----------
    crystals : Crystals
        Batch of B conventional cells with N atoms.
    template : Template

    Returns
    -------
    Crystals
        B primitive cells with N / centring order atoms; differentiable. Lattice rows are the
        primitive vectors, in the same Cartesian frame; ``unit_index`` keeps the numbers of the
        conventional cell. The input itself for primitive lattices.
    """
    if template.space_group.centering_order == 1:
        return crystals
    atoms = primitive_atoms(template)
    basis, inverse = _primitive_basis(template.hall_number, crystals.lattice.dtype)
    return Crystals(
        lattice=basis @ crystals.lattice,
        frac_coords=crystals.frac_coords[:, atoms] @ inverse,
        species=tuple(crystals.species[i] for i in atoms.tolist()),
        unit_index=crystals.unit_index[atoms],
    )


@dataclass(frozen=True)
class AtomOrbits:
    """Which operation makes each atom of a crystal from the first atom of its orbit.

    Attributes
    ----------
    representatives : ndarray of int, shape (R,)
        One atom of each orbit.
    orbit : ndarray of int, shape (N,)
        Place of an atom's orbit in ``representatives``.
    operation : ndarray of int, shape (N,)
        Number of the operation that makes the atom from the representative.
    rotations : ndarray of int, shape (G, 3, 3)
    translations : ndarray, shape (G, 3)
        Operations x' = W x + w in the fractional basis of the crystal.
    """

    representatives: NDArray[np.int64]
    orbit: NDArray[np.int64]
    operation: NDArray[np.int64]
    rotations: NDArray[np.int64]
    translations: NDArray[np.float64]

    @property
    def is_representative(self) -> NDArray[np.bool_]:
        """Shape (N,)."""
        marks = np.zeros(len(self.orbit), dtype=bool)
        marks[self.representatives] = True
        return marks

    @property
    def multiplicities(self) -> NDArray[np.int64]:
        """Atoms in each orbit, shape (R,)."""
        return np.bincount(self.orbit, minlength=len(self.representatives))


@lru_cache(maxsize=2048)
def atom_orbits(template: Template) -> AtomOrbits:
    """Orbits of the atoms of `primitive_crystals`.

    Two H atoms that only the site symmetry of their NH2 relates count as two orbits.

    Raises
    ------
    ValueError
        The first image of a unit is not the unit itself.
    """
    layout = template.layout
    primitive = template.space_group.primitive  # columns: primitive vectors in the conventional basis
    kept = (
        primitive_atoms(template)
        if template.space_group.centering_order > 1
        else torch.arange(len(layout.species), dtype=torch.long)
    )
    rotations, translations = layout.rotations[kept].numpy(), layout.translations[kept].numpy()
    source = layout.atom_index[kept].numpy()
    _, representatives, orbit = np.unique(source, return_index=True, return_inverse=True)
    own = (np.abs(rotations[representatives] - np.eye(3)).max(initial=0), np.abs(translations[representatives]).max())
    if max(own) > _TOLERANCE:
        raise ValueError(f"template {template.label}: the first image of a unit is not the unit itself")
    inverse = np.linalg.inv(primitive)
    both = np.concatenate([(inverse @ rotations @ primitive).reshape(-1, 9), translations @ inverse.T], axis=1)
    _, first, operation = np.unique(both.round(6), axis=0, return_index=True, return_inverse=True)
    return AtomOrbits(
        representatives=representatives.astype(np.int64),
        orbit=orbit.astype(np.int64),
        operation=operation.reshape(-1).astype(np.int64),
        rotations=np.round(both[first, :9]).astype(np.int64).reshape(-1, 3, 3),
        translations=both[first, 9:],
    )
